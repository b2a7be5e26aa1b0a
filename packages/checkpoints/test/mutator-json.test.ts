// Manifests and indexes with characters, words and numbers changed, by the thousand: each is read, or refused with an LmqError that says
// where. LMQ_FUZZ_CASES sets the number of each (default 5000) and LMQ_FUZZ_SEED another sequence.
import { encodeCsr } from '@lmq/formats';
import type { CompressedTensor } from '@lmq/tensor';
import { createRng, isLmqError, matrix, type Rng } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import type { SafetensorsFile } from '../src/api.js';
import { openLmq } from '../src/lmq.js';
import { lmqManifest, toLmqTensors } from '../src/lmq-write.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { parseShardIndex } from '../src/sharded.js';
import { memorySink } from '../src/sources.js';
import { source } from './_files.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 5000);
const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);
const WORDS = [
  ...['0', '-1', '1.5', '1e9', '9007199254740993', '4294967296', '64', '4', 'null', 'true', '[]', '{}', ',', ':'],
  ...['"x"', '"affine"', '"dense"', '"out"', '"__proto__"', '"../x.safetensors"'],
];
const pick = <T>(rng: Rng, from: readonly T[]): T => from[rng.below(from.length)]!;

function mutated(rng: Rng, text: string): string {
  let out = text;
  for (let n = 1 + rng.below(2); n > 0; n--) {
    const at = rng.below(out.length);
    const tokens = [...out.matchAll(/-?[\d.]+|"[^"]*"|true/g)];
    const token = tokens.length ? pick(rng, tokens) : undefined;
    const kind = rng.below(5);
    if (kind === 0) out = out.slice(0, at) + out.slice(at + 1 + rng.below(4));
    else if (kind === 1) out = out.slice(0, at) + pick(rng, WORDS) + out.slice(at);
    else if (kind === 2) {
      const from = rng.below(out.length);
      out = out.slice(0, at) + out.slice(from, from + rng.below(40)) + out.slice(at);
    } else if (token) {
      const other = kind === 3 ? pick(rng, WORDS) : pick(rng, tokens)[0];
      out = out.slice(0, token.index) + other + out.slice(token.index + token[0].length);
    }
  }
  return out;
}

/** Runs all cases; an error must say which file, and which byte or tensor. */
async function survive(text: string, read: (text: string) => unknown): Promise<void> {
  const rng = createRng(SEED);
  const ends: Record<string, number> = { read: 0, 'file/format': 0 };
  for (let i = 0; i < CASES; i++) {
    const hostile = mutated(rng, text);
    try {
      await read(hostile);
      ends.read!++;
    } catch (e) {
      const seen = `case ${i} of seed ${SEED}: ${hostile}`;
      if (!isLmqError(e)) throw new Error(seen, { cause: e });
      const { file, offset, op, tensor } = e.facts;
      if (!e.code.startsWith('file/') || file === undefined) throw new Error(seen, { cause: e });
      if (op === 'read' && tensor !== undefined) continue; // the data do not fit: the tensor says where
      if (!(offset !== undefined && offset >= 0 && offset <= 4 * hostile.length)) throw new Error(seen, { cause: e });
      ends[e.code] = (ends[e.code] ?? 0) + 1;
    }
  }
  expect(ends.read).toBeGreaterThan(CASES / 500);
  expect(ends['file/format']).toBeGreaterThan(CASES / 2);
}

describe('structure-aware mutation of JSON', () => {
  let manifest = '';
  let physical: SafetensorsFile;
  beforeAll(async () => {
    const dense = (rows: number, cols: number): CompressedTensor => ({
      kind: 'dense',
      shape: [rows, cols],
      format: 'fp32',
      data: new Float32Array(rows * cols),
    });
    const affine: CompressedTensor = {
      kind: 'affine',
      shape: [4, 64],
      bits: 3,
      groupSize: 16,
      codes: new Uint8Array(4 * 24),
      scales: { block: [1, 16], format: 'fp16', data: new Uint16Array(16).fill(0x3c00) },
      zeroPoints: new Uint8Array(6),
      groupIndex: Int32Array.from({ length: 64 }, (_, i) => i >> 4),
    };
    const tensors: [string, CompressedTensor][] = [
      ['affine', affine],
      [
        'lut',
        {
          kind: 'lut',
          shape: [4, 64],
          bits: 4,
          codes: new Uint8Array(128),
          tables: matrix(new Float32Array(16), 1, 16),
          tablePer: 'tensor',
        },
      ],
      ['blocks', { kind: 'blocks', shape: [4, 64], type: 'Q4_0', data: new Uint8Array(4 * 2 * 18) }],
      ['rescaled', { kind: 'rescaled', shape: [4, 64], inputScale: new Float32Array(64).fill(1), base: affine }],
      ['csr', encodeCsr('fp32', Float32Array.of(0, 1, 0, 2), 2, 2)],
      ['sum', { kind: 'sum', shape: [4, 64], terms: [affine, dense(4, 64)] }],
      [
        'parts',
        {
          kind: 'parts',
          shape: [4, 64],
          axis: 'out',
          parts: [Uint32Array.of(0, 2), Uint32Array.of(1, 3)].map((index) => ({ index, base: dense(2, 64) })),
        },
      ],
      ['norm', dense(1, 3)],
    ];
    const written = tensors.map(([name, t]) => [name, toLmqTensors(name, t)] as const);
    manifest = lmqManifest(
      written.map(([name, { entry }]) => [name, entry] as const),
      { recipe: 'x' },
    );
    const sink = memorySink();
    await writeSafetensors(
      sink,
      written.flatMap(([, w]) => w.tensors),
    );
    physical = await openSafetensors(source(sink.bytes()));
  });

  it('lmq.json', () =>
    survive(manifest, async (text) => {
      const file = openLmq(text, physical);
      for (const name of file.tensors.keys()) await file.read(name);
    }));

  it('model.safetensors.index.json', () =>
    survive(JSON.stringify({ metadata: { total_size: 123 }, weight_map: { a: 'm-1.safetensors', b: 'm-2.safetensors' } }), (text) =>
      parseShardIndex(text, 'index.json'),
    ));
});
