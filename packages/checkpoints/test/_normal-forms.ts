// What a file becomes when it is read and written again, computed from the format's description alone: the writers must give these bytes.
import { GGUF_TYPES_BY_ID } from '../src/gguf-types.js';
import { concat, le, utf8 } from './_files.js';

const ORDER = [
  ...['BOOL', 'F4', 'F6_E2M3', 'F6_E3M2', 'U8', 'I8', 'F8_E5M2', 'F8_E4M3', 'F8_E8M0', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ', 'I16', 'U16', 'F16'],
  ...['BF16', 'I32', 'U32', 'F32', 'C64', 'F64', 'I64', 'U64'],
];

/**
 * Of a valid safetensors file: the same tensors and metadata, in the reference crate's order (falling dtype, then bytes of the name), JSON
 * without white space or needless escapes, metadata first and sorted and left out when empty, padded with spaces to 8 bytes.
 */
export function normalSafetensors(bytes: Uint8Array): Uint8Array {
  const headerBytes = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes));
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON.parse(text);
  const { __metadata__: metadata = {}, ...tensors } = header as typeof header & { __metadata__?: Record<string, string> };
  const byBytes = (a: string, b: string) => Buffer.compare(utf8(a), utf8(b));
  const names = Object.keys(tensors).sort((a, b) => ORDER.indexOf(tensors[b]!.dtype) - ORDER.indexOf(tensors[a]!.dtype) || byBytes(a, b));
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort(byBytes);
  const said = keys.map((k) => `${JSON.stringify(k)}:${JSON.stringify((metadata as Record<string, string>)[k])}`);
  if (keys.length) parts.push(`"__metadata__":{${said.join()}}`);
  const data: Uint8Array[] = [];
  let at = 0;
  for (const name of names) {
    const { dtype, shape, data_offsets } = tensors[name]!;
    const [from, to] = data_offsets;
    data.push(bytes.subarray(8 + headerBytes + from, 8 + headerBytes + to));
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, at + to - from] })}`);
    at += to - from;
  }
  const spans = Object.values(tensors).sort((a, b) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1]);
  let end = 0;
  for (const { data_offsets } of spans) {
    if (data_offsets[0] !== end) throw new Error('tensors overlap or leave a hole: this is no valid file');
    end = data_offsets[1];
  }
  if (8 + headerBytes + end !== bytes.length) throw new Error('tensors do not end with the file: this is no valid file');
  const json = utf8(`{${parts.join()}}`);
  const padding = new Uint8Array((8 - (json.length % 8)) % 8).fill(0x20);
  return concat(le(json.length + padding.length, 8), json, padding, ...data);
}

/**
 * Of a valid GGUF file: the same keys, types, values and tensors in the same order as version 3 (which for versions 2 and 3 changes no
 * length), padding zero and complete. `free` are bytes of float values that are NaN: JavaScript keeps no payloads of single numbers.
 */
export function normalGguf(bytes: Uint8Array): { bytes: Uint8Array; free: Set<number> } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const narrow = view.getUint32(4, true) === 1;
  const out: Uint8Array[] = [];
  const free = new Set<number>();
  let at = 0;
  let written = 0;
  const emit = (b: Uint8Array) => {
    out.push(b);
    written += b.length;
  };
  const copy = (n: number): Uint8Array => {
    const piece = bytes.subarray(at, at + n);
    emit(piece);
    at += n;
    return piece;
  };
  const u32 = (): number => new DataView(copy(4).slice().buffer).getUint32(0, true);
  /** A count or length, widened to 64 bits. */
  const count = (): number => {
    const n = narrow ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
    at += narrow ? 4 : 8;
    emit(le(n, 8));
    return n;
  };
  const text = (): string => new TextDecoder().decode(copy(count()));
  const SIZES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
  const value = (type: number, inArray: boolean): void => {
    if (type === 8) text();
    else if (type === 9) {
      const item = u32();
      for (let n = count(); n > 0; n--) value(item, true);
    } else {
      const nan = (type === 6 && Number.isNaN(view.getFloat32(at, true))) || (type === 12 && Number.isNaN(view.getFloat64(at, true)));
      if (nan && !inArray) for (let i = 0; i < SIZES[type]!; i++) free.add(written + i); // arrays are kept as bytes
      copy(SIZES[type]!);
    }
  };
  copy(4);
  at = 8;
  emit(le(3, 4));
  const tensors = count();
  const keys = count();
  let alignment = 32;
  for (let i = 0; i < keys; i++) {
    const key = text();
    const type = u32();
    if (key === 'general.alignment') alignment = view.getUint32(at, true);
    value(type, false);
  }
  const spans: [number, number][] = [];
  for (let i = 0; i < tensors; i++) {
    text();
    let elements = 1;
    for (let rank = u32(); rank > 0; rank--) elements *= count();
    const type = GGUF_TYPES_BY_ID.get(u32())!;
    const offset = Number(view.getBigUint64(at, true));
    copy(8);
    spans.push([offset, (elements / type.blockSize) * type.blockBytes]);
  }
  const pad = () => emit(new Uint8Array(Math.ceil(written / alignment) * alignment - written));
  const dataAt = Math.ceil(at / alignment) * alignment;
  pad();
  for (const [offset, size] of spans) {
    at = dataAt + offset;
    copy(size);
    pad();
  }
  return { bytes: concat(...out), free };
}
