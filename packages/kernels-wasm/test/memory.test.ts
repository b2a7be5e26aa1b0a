import { isLmqError, matrix } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressOf, type Block, createMemory, MAX_MEMORY_BYTES } from '../src/_wasm/memory.js';
import { wasmBackend } from '../src/index.js';

const PAGE = 65536;

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (e) {
    return isLmqError(e) ? e.code : `not an LmqError: ${e}`;
  }
  return undefined;
}

describe('allocator', () => {
  it('never overlaps, keeps contents, stays inside, and ends as one free block (random sequences)', () => {
    const step = fc.oneof(fc.record({ size: fc.integer({ min: 0, max: 200_000 }) }), fc.record({ free: fc.nat(1000) }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const m = createMemory(16 * 2 ** 20);
        const live: { block: Block; tag: number }[] = [];
        let tag = 0;
        const intact = ({ block, tag }: { block: Block; tag: number }) =>
          block.bytes === 0 || (m.u8()[block.address] === tag && m.u8()[block.address + block.bytes - 1] === tag);
        for (const s of steps) {
          if ('size' in s) {
            const block = m.allocate(s.size);
            expect(block.address % 64).toBe(0);
            expect(block.address).toBeGreaterThanOrEqual(PAGE);
            expect(block.address + block.bytes).toBeLessThanOrEqual(m.memory.buffer.byteLength);
            const content = m.u8().subarray(block.address, block.address + block.bytes);
            expect(content.every((x) => x === 0)).toBe(true);
            tag = (tag % 255) + 1;
            content.fill(tag);
            live.push({ block, tag });
          } else if (live.length) {
            const [gone] = live.splice(s.free % live.length, 1);
            expect(intact(gone!)).toBe(true);
            m.release(gone!.block);
            m.release(gone!.block); // a second time does nothing
          }
          const spans = live.filter((l) => l.block.bytes).map((l) => [l.block.address, l.block.address + l.block.bytes] as const);
          for (const e of m.freeList()) spans.push([e.address, e.address + e.bytes]);
          spans.sort((a, b) => a[0] - b[0]);
          for (let i = 1; i < spans.length; i++) expect(spans[i]![0]).toBeGreaterThanOrEqual(spans[i - 1]![1]);
        }
        expect(live.every(intact)).toBe(true);
        for (const l of live) m.release(l.block);
        expect(m.used()).toBe(0);
        expect(m.freeList().length).toBeLessThanOrEqual(1);
        const free = m.freeList().reduce((sum, e) => sum + e.bytes, 0);
        expect(free).toBe(m.memory.buffer.byteLength - PAGE);
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  it('takes the smallest hole that fits', () => {
    const m = createMemory(4 * 2 ** 20);
    const blocks = [4096, 64, 1024, 64, 2048, 64].map((n) => m.allocate(n));
    for (const i of [0, 2, 4]) m.release(blocks[i]!);
    expect(m.allocate(1000).address).toBe(blocks[2]!.address);
    expect(m.allocate(1500).address).toBe(blocks[4]!.address);
  });

  it('refuses what does not fit, with a hint, and goes on', () => {
    const m = createMemory(PAGE * 40);
    const a = m.allocate(PAGE * 20);
    expect(codeOf(() => m.allocate(PAGE * 20))).toBe('backend/memory');
    expect(() => m.allocate(2 ** 50)).toThrow(/maxMemoryBytes/);
    m.release(a);
    expect(m.allocate(PAGE * 39).bytes).toBe(PAGE * 39);
  });

  it('refuses limits out of range', () => {
    for (const bytes of [0, -1, 1.5, Number.NaN, PAGE, MAX_MEMORY_BYTES + 1])
      expect(codeOf(() => createMemory(bytes))).toBe('argument/option');
  });

  it('addressOf lets nothing out of its allocation', () => {
    const m = createMemory(4 * 2 ** 20);
    const buffer = m.allocate(4 * 100);
    const at = (offset: number, rows: number, cols: number, stride: number) =>
      codeOf(() => addressOf({ buffer, offset, rows, cols, stride }, 4));
    expect(at(0, 10, 10, 10)).toBeUndefined();
    expect(at(12, 8, 4, 12)).toBeUndefined(); // last element is 12 + 84 + 3 = 99
    expect(at(13, 8, 4, 12)).toBe('argument/shape');
    expect(at(0, 11, 10, 10)).toBe('argument/shape');
    expect(at(-1, 1, 1, 1)).toBe('argument/shape');
    expect(at(0, 2, 10, 5)).toBe('argument/shape');
    expect(at(0, 2, 10, -10)).toBe('argument/shape');
    expect(at(Number.NaN, 1, 1, 1)).toBe('argument/shape');
    expect(at(1e9, 0, 5, 5)).toBeUndefined(); // nothing is read
    m.release(buffer);
    expect(at(0, 1, 1, 1)).toBe('argument/shape');
  });
});

describe('backend memory', () => {
  it('growth keeps data, and views of the old buffer are not used', async () => {
    const backend = await wasmBackend();
    const s = backend.scope();
    const data = Float32Array.from({ length: 1000 }, (_, i) => i);
    const h = s.upload(matrix(data, 10, 100));
    for (let i = 0; i < 5; i++) s.alloc(1024, 1024 * 4); // 16 MiB each
    expect((await s.read(h)).data).toEqual(data);
    expect((await s.read(s.copy(h))).data).toEqual(data);
    s.dispose();
  });

  it('a small limit is kept: the error says what to do, and freed memory can be used again', async () => {
    const backend = await wasmBackend({ maxMemoryBytes: 8 * 2 ** 20 });
    const s = backend.scope();
    const first = s.alloc(1024, 1024);
    expect(codeOf(() => s.alloc(1024, 1024))).toBe('backend/memory');
    const weight = { kind: 'dense', shape: [1024, 1024], format: 'fp32', data: new Float32Array(2 ** 20) } as const;
    expect(codeOf(() => backend.load({ weight: { ...weight, shape: [1024, 1024] } }))).toBe('backend/memory');
    s.free(first);
    const loaded = backend.load({ weight: { ...weight, shape: [1024, 1024] } });
    loaded.dispose();
    s.alloc(1024, 1024);
    s.dispose();
  });

  it('everything an op borrows is given back, also when it fails', async () => {
    const backend = await wasmBackend({ maxMemoryBytes: 16 * 2 ** 20 });
    const weight = { kind: 'affine', shape: [64, 64], bits: 4, groupSize: 32, codes: new Uint8Array(2048) } as const;
    const scales = { block: [1, 32] as [number, number], format: 'fp32' as const, data: new Float32Array(128).fill(1) };
    for (let i = 0; i < 2000; i++) {
      const s = backend.scope();
      const x = s.alloc(2, 64);
      const loaded = backend.load({ weight: { ...weight, shape: [64, 64], scales }, bias: new Float32Array(64) });
      s.linear(x, loaded);
      s.select(x, [1, 0], [3]);
      s.attention(x, x, x, { heads: 2, kvHeads: 2, headDim: 32 });
      if (i % 100 === 0) expect(codeOf(() => s.alloc(2 ** 22, 1))).toBe('backend/memory');
      loaded.dispose();
      s.dispose();
    }
    const s = backend.scope();
    expect(s.alloc(2 ** 20 * 3, 1).rows).toBe(2 ** 20 * 3); // 12 of 16 MiB: no leaks, no fragments
    s.dispose();
  });
});
