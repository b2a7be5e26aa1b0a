// Damaged ONNX models by the thousand. Each must end in an LmqError that says where, or be read as valid tensors of the shapes that it
// tells. LMQ_FUZZ_CASES and LMQ_FUZZ_SEED as in mutator.test.ts.
import { validate } from '@lmq/formats';
import { createRng, isLmqError } from '@lmq/tensor';
import { expect, it } from 'vitest';
import { asMatrix } from '../src/_checks.js';
import type { ByteSource, Checkpoint } from '../src/api.js';
import { openOnnx } from '../src/onnx.js';
import { memorySource } from '../src/sources.js';
import { hostileOnnx } from './_mutate-onnx.js';
import { dataIn } from './_onnx.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 2000);
const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);
const NAME = 'test file';
/** A reader may ask for this many times the bytes of a file. */
const MOST_READING = 4;

function promised(e: unknown, size: number, codes: readonly string[], seen: string): string {
  if (!isLmqError(e)) throw new Error(`${seen}: not an LmqError`, { cause: e });
  const { code, message } = e;
  const { offset, file } = e.facts;
  if (!codes.includes(code)) throw new Error(`${seen}: code ${code}`, { cause: e });
  if (!(Number.isInteger(offset) && offset! >= 0 && (file !== NAME || offset! <= size)))
    throw new Error(`${seen}: offset ${offset}: ${message}`);
  if (file !== NAME && file !== 'model.onnx_data') throw new Error(`${seen}: file ${file}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  if (message.length > 800 || /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(message))
    throw new Error(`${seen}: ${JSON.stringify(message)}`);
  return code;
}

async function judge(model: Uint8Array, files: ReadonlyMap<string, Uint8Array>, seen: string): Promise<string> {
  let asked = 0;
  const inner = memorySource(model, NAME);
  const source: ByteSource = {
    ...inner,
    read(offset, length) {
      asked += length;
      return inner.read(offset, length);
    },
  };
  const openData = async (name: string) => (files.has(name) ? dataIn(files)(name) : memorySource(new Uint8Array(0), 'model.onnx_data'));
  let onnx: Checkpoint;
  try {
    onnx = await openOnnx(source, { openData });
  } catch (e) {
    return promised(e, model.length, ['file/format', 'file/truncated', 'file/limit', 'model/unsupported'], seen);
  }
  if (asked > MOST_READING * model.length) throw new Error(`${seen}: ${asked} of ${model.length} bytes read to open`);
  let ended = 'read';
  for (const [name, info] of onnx.tensors) {
    try {
      const t = await onnx.read(name);
      expect(t.shape, seen).toEqual(asMatrix(info.shape));
      if (t.shape[0] * t.shape[1] > 0) validate(t);
    } catch (e) {
      ended = `${promised(e, model.length, ['file/format', 'file/truncated', 'model/unsupported'], seen)} in read`;
    }
  }
  return ended;
}

it('damaged ONNX models end in an error that says where, or in valid tensors', async () => {
  const rng = createRng(SEED);
  const ends: Record<string, number> = {};
  for (let i = 0; i < CASES; i++) {
    const { model, files, whole } = hostileOnnx(rng);
    const ended = await judge(model, files, `model ${i} of seed ${SEED}`);
    if (whole) expect(ended).toBe('read');
    ends[ended] = (ends[ended] ?? 0) + 1;
  }
  if (process.env.LMQ_FUZZ_CASES) console.log(ends);
  // the damage reaches all kinds of checks
  for (const end of ['read', 'file/format', 'file/truncated', 'file/format in read', 'file/truncated in read', 'model/unsupported in read'])
    expect(ends[end], end).toBeGreaterThan(CASES / 500);
});
