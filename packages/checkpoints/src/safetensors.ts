/**
 * Reading safetensors: one file, by range, nothing loaded before it is asked for. Format: github.com/huggingface/safetensors, specs in the
 * README there. Strict, because a tool that writes models must never pass on a tensor that was not really in the file.
 * @module
 */

import { fail, missingTensor, partOf } from './_checks.js';
import { DTYPES } from './_dtypes.js';
import { denseOf } from './_floats.js';
import { type HeaderEntry, MAX_HEADER_BYTES, parseSafetensorsHeader } from './_safetensors-header.js';
import type { ByteSource, SafetensorsFile, TensorInfo } from './api.js';

export interface OpenSafetensorsOpts {
  /** Largest header accepted, in bytes. Default and most: 100 000 000. */
  maxHeaderBytes?: number;
}

/**
 * Opens a safetensors file and checks its whole header: every span, every name. The source stays the caller's when this throws.
 * @throws LmqError `file/truncated` when the file ends early, `file/limit` when it asks for too much, `file/format` otherwise
 */
export async function openSafetensors(source: ByteSource, opts: OpenSafetensorsOpts = {}): Promise<SafetensorsFile> {
  const op = 'openSafetensors';
  const file = source.name;
  const limit = Math.min(opts.maxHeaderBytes ?? MAX_HEADER_BYTES, MAX_HEADER_BYTES);
  if (source.size < 8) {
    fail('file/truncated', 'the file is too short for a header', {
      op,
      file,
      offset: 0,
      expected: 'at least 8 bytes',
      found: `${source.size} bytes`,
    });
  }
  const lead = await source.read(0, 8);
  const length = new DataView(lead.buffer, lead.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(limit)) {
    const hint = 'This is not a safetensors file, or it is damaged.';
    fail('file/limit', 'the header is too long', {
      op,
      file,
      offset: 0,
      expected: `at most ${limit} bytes`,
      found: `${length} bytes`,
      hint,
    });
  }
  const headerBytes = Number(length);
  if (8 + headerBytes > source.size) {
    const facts = { op, file, offset: 0, expected: `${8 + headerBytes} bytes`, found: `${source.size} bytes` };
    fail('file/truncated', 'the file ends inside its header', { ...facts, hint: 'Download the file again.' });
  }
  const header = parseSafetensorsHeader(await source.read(8, headerBytes), file, source.size);
  const dataStart = 8 + headerBytes;

  const tensors = new Map<string, TensorInfo>();
  for (const [name, e] of header.entries) {
    tensors.set(name, { name, shape: e.shape, format: DTYPES.get(e.dtype)!.format, bytes: e.end - e.begin, file });
  }
  const entry = (name: string, op: string): HeaderEntry => header.entries.get(name) ?? missingTensor(name, file, op);
  const readBytes = async (name: string, from?: number, to?: number): Promise<Uint8Array> => {
    const e = entry(name, 'readBytes');
    const [begin, length] = partOf(e.end - e.begin, from, to, { op: 'readBytes', file, tensor: name });
    return source.read(dataStart + e.begin + begin, length);
  };
  return {
    format: 'safetensors',
    tensors,
    metadata: header.metadata,
    dtype: (name) => entry(name, 'dtype').dtype,
    readBytes,
    async read(name) {
      const e = entry(name, 'read');
      const { float } = DTYPES.get(e.dtype)!;
      if (!float) {
        const hint = 'lmq computes with F32, F16 and BF16; `readBytes` gives the stored bytes of any tensor.';
        return fail('model/unsupported', 'the dtype is not one of weights', {
          op: 'read',
          file,
          tensor: name,
          offset: e.at,
          found: e.dtype,
          hint,
        });
      }
      return denseOf(await readBytes(name), float, e.shape);
    },
    close: () => source.close(),
  };
}
