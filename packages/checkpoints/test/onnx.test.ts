import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from '@lmq/formats';
import { isLmqError } from '@lmq/tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { concat } from '../src/_concat.js';
import { protoMessage } from '../src/_protobuf.js';
import { openCheckpoint } from '../src/node.js';
import { openOnnx } from '../src/onnx.js';
import type { OnnxGraph } from '../src/onnx-model.js';
import { planOnnx } from '../src/onnx-write.js';
import { memorySource } from '../src/sources.js';
import { bytesOf, dataIn, floatsOf, golden, small, writtenOnnx } from './_onnx.js';

const open = (files: ReadonlyMap<string, Uint8Array>) =>
  openOnnx(memorySource(files.get('model.onnx')!, 'model.onnx'), { openData: dataIn(files) });
const problem = (f: () => unknown) =>
  Promise.resolve()
    .then(f)
    .then(() => 'nothing was thrown')
    .catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));
const zeroless = (x: Float32Array) => x.map((v) => v + 0); // the runtime's products of 0 have no sign

describe('openOnnx', () => {
  it.each(Object.entries(golden))('%s: the weights that onnxruntime multiplies with', async (_, { model, files, packed, dense }) => {
    const beside = new Map(Object.entries(files).map(([name, data]) => [name, bytesOf(data)]));
    const onnx = await openOnnx(memorySource(bytesOf(model), 'model.onnx'), { openData: dataIn(beside) });
    expect(onnx.metadata.get('made by')).toBe('make-onnx.py');
    const names = [...Object.keys(packed).map((n) => n.replace(/_Q\d$/, '')), ...Object.keys(dense)];
    expect([...onnx.tensors.keys()].sort()).toEqual(names.sort());
    for (const [name, numbers] of Object.entries({ ...packed, ...dense })) {
      const t = await onnx.read(name.replace(/_Q\d$/, ''));
      expect(t.shape).toEqual(numbers.shape);
      expect(zeroless(decode(t).data)).toEqual(zeroless(floatsOf(numbers)));
    }
    await onnx.close();
  });

  it('reads what is written, from one file of weights or from several', async () => {
    const one = await writtenOnnx(small);
    const several = await writtenOnnx(small, { maxDataBytes: 100 });
    expect([...one.keys()]).toEqual(['model.onnx', 'model.onnx_data']);
    expect([...several.keys()]).toEqual(['model.onnx', 'model.onnx_data', 'model.onnx_data_1', 'model.onnx_data_2']);
    for (const files of [one, several]) {
      const onnx = await open(files);
      expect([...onnx.tensors.values()].map((t) => [t.name, t.shape, t.format, t.bytes])).toEqual([
        ['w', [3, 40], 'affine 4-bit g16 asym', 72 + 36 + 6],
        ['half', [], 'fp32', 4],
        ['table', [2, 5], 'fp16', 20],
      ]);
      const w = await onnx.read('w');
      expect(w).toMatchObject({ kind: 'affine', shape: [3, 40], bits: 4, groupSize: 16 });
      expect(decode(w).data[0]).toBe((0 - 7) * (-4 / 8)); // code 0, zero point 7, scale -4/8
      expect(decode(w).data[39]).toBe((((19 * 37) & 255) >> 4) * (-2 / 8) - 9 * (-2 / 8)); // last byte of the row's third block that counts
      expect(await onnx.read('table')).toMatchObject({ kind: 'dense', format: 'fp16', shape: [2, 5] });
      expect(await problem(() => onnx.read('w_Q4'))).toContain('model/missing');
      await onnx.close();
    }
  });

  it('says what it does not read', async () => {
    const node = small.nodes[0]!;
    const withNode = async (change: object, graph: Partial<OnnxGraph> = {}) =>
      problem(async () => open(await writtenOnnx({ ...small, nodes: [{ ...node, ...change }, ...small.nodes.slice(1)], ...graph })));
    const attributes = (change: [string, { int: number }][]) => ({ attributes: new Map([...node.attributes!, ...change]) });
    expect(await withNode({ inputs: [...node.inputs, 'half'] })).toMatch(/^model\/unsupported .*group index/);
    expect(await withNode({ inputs: ['x', 'w_Q4', 'w_scales', 'w_scales'] })).toMatch(/^model\/unsupported .*zero points .*fp32/);
    expect(await withNode({ inputs: ['x', 'w_Q4', 'w_Q4'] })).toMatch(/^file\/format .*scales .*uint8/);
    expect(await withNode({ inputs: ['x', 'w_Q4', 'x'] })).toMatch(/^file\/format .*no constant scales/);
    expect(await withNode(attributes([['bits', { int: 3 }]]))).toMatch(/^file\/format .*2, 4 or 8.*3/);
    expect(await withNode(attributes([['block_size', { int: 24 }]]))).toMatch(/^file\/format .*block_size.*power of two/);
    expect(await withNode(attributes([['K', { int: -40 }]]))).toMatch(/^file\/format .*no usable K/);

    const damaged = await open(
      await writtenOnnx({ ...small, nodes: [{ ...node, ...attributes([['K', { int: 70 }]]) }, ...small.nodes.slice(1)] }),
    );
    expect(await problem(() => damaged.read('w'))).toMatch(/^file\/format .*stored tensor is damaged/);
    const lonely = await openOnnx(memorySource((await writtenOnnx(small)).get('model.onnx')!, 'm'));
    expect(await problem(() => lonely.read('w'))).toMatch(/^file\/missing .*openData/);
    const files = await writtenOnnx(small);
    files.set('model.onnx_data', files.get('model.onnx_data')!.subarray(0, 60));
    expect(await problem(async () => (await open(files)).read('w'))).toMatch(/^file\/truncated .*model\.onnx_data/);
    expect(await problem(() => openOnnx(memorySource(new Uint8Array(0), 'm')))).toMatch(/^file\/format .*not an ONNX model/);
  });

  it('opens no file elsewhere', async () => {
    const entry = (key: string, value: string) =>
      [
        13,
        protoMessage([
          [1, key],
          [2, value],
        ]),
      ] as const;
    const model = (location: string) =>
      protoMessage([[7, protoMessage([[5, protoMessage([[1, 1], [2, 1], [8, 't'], entry('location', location), [14, 1]])]])]]);
    for (const location of ['../secret', '/etc/passwd', 'a/b', 'a\\b', '.hidden', 'a..b', 'C:x', '', 'a\u0000b', 'x'.repeat(256)]) {
      const said = await problem(() => openOnnx(memorySource(model(location), 'm')));
      expect(said).toMatch(/^file\/format .*another kind of name/);
    }
    const huge = concat([protoMessage([[7, protoMessage([[5, protoMessage([[8, 'x'.repeat(70_000)]])]])]])]);
    expect(await problem(() => openOnnx(memorySource(huge, 'm')))).toMatch(/^file\/limit .*too long/);
  });
});

describe('openCheckpoint', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lmq-onnx-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('takes an .onnx file with its data beside it, and no link that leads away', async () => {
    for (const [name, bytes] of await writtenOnnx(small)) writeFileSync(join(dir, name), bytes);
    const onnx = await openCheckpoint(join(dir, 'model.onnx'));
    expect(onnx.format).toBe('onnx');
    expect((await onnx.read('w')).shape).toEqual([3, 40]);
    await onnx.close();
    if (process.platform === 'win32') return;
    rmSync(join(dir, 'model.onnx_data'));
    symlinkSync('/dev/zero', join(dir, 'model.onnx_data'));
    const linked = await openCheckpoint(join(dir, 'model.onnx'));
    expect(await problem(() => linked.read('w'))).toMatch(/^file\/format .*leads out of the model folder/);
    await linked.close();
  });
});

describe('planOnnx', () => {
  const plan = (graph: Partial<OnnxGraph>) => planOnnx({ ...small, ...graph }, { opsets: [['', 17]], dataName: 'd', producer: 'test' });

  it('puts data on even offsets, large tensors on pages', () => {
    const bytes = () => new Uint8Array(0);
    const large = { name: 'large', shape: [2 ** 18], dtype: 'FLOAT', bytes };
    const [file] = plan({ tensors: [...small.tensors, large] }).files;
    expect(file!.tensors.map((t) => t.offset)).toEqual([0, 128, 192, 256, 4096]);
    expect(file!.bytes).toBe(4096 + 2 ** 20);
  });

  it('refuses what is no graph', async () => {
    const [matmul, scale, norm] = small.nodes;
    expect(await problem(() => plan({ nodes: [scale!, matmul!, norm!] }))).toMatch(/^argument\/value .*nothing makes this value.*h/);
    expect(await problem(() => plan({ nodes: [matmul!, { ...scale!, outputs: ['h'] }] }))).toMatch(/^argument\/value .*one name/);
    expect(await problem(() => plan({ outputs: [{ name: 'q', type: 'FLOAT', shape: [] }] }))).toMatch(/^argument\/value .*nothing makes/);
    const odd = (change: object) => plan({ tensors: [{ ...small.tensors[0]!, ...change }, ...small.tensors.slice(1)] });
    expect(await problem(() => odd({ dtype: 'UINT4' }))).toMatch(/^argument\/value .*element type.*UINT4/);
    expect(await problem(() => odd({ shape: [2 ** 31, 2 ** 31] }))).toMatch(/^argument\/shape/);
    expect(await problem(() => plan({ constants: [{ ...small.constants[0]!, shape: [2] }] }))).toMatch(/^argument\/value .*as long as/);
    const short = { ...small.tensors[0]!, bytes: () => new Uint8Array(71) };
    expect(await problem(() => writtenOnnx({ ...small, tensors: [short, ...small.tensors.slice(1)] }))).toMatch(
      /^argument\/value .*72.*71/,
    );
  });
});
