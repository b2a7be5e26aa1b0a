// What this machine's engine can do at most: the steps of gemm's 4 x 8 tile with all operands in the first cache. Measured, never assumed:
// processors differ by a factor of two, and a share of another machine's ceiling says nothing.
import asc from 'assemblyscript/asc';

const ROWS = [0, 1, 2, 3];
const ACCUMULATORS = Array.from({ length: 2 * ROWS.length }, (_, i) => i);

/** Steps: type, c + a b, operations per step. */
const STEPS = {
  simd128: ['f32x4', (a, b, c) => `f32x4.add(${c}, f32x4.mul(${a}, ${b}))`, 8],
  relaxed: ['f32x4', (a, b, c) => `v128.relaxed_madd<f32>(${a}, ${b}, ${c})`, 8],
  dot: ['i32x4', (a, b, c) => `i32x4.add(${c}, i32x4.dot_i16x8_s(${a}, ${b}))`, 16],
};

/**
 * @param {'simd128' | 'relaxed' | 'dot'} kind
 * @returns {Promise<() => number>} does 2^20 rounds; returns the operations done
 */
export async function ceiling(kind) {
  const [type, step, operations] = STEPS[kind];
  const source = `export function peak(n: i32): i32 {
  ${ACCUMULATORS.map((i) => `let c${i} = ${type}.splat(${i});`).join('\n')}
  for (let i = 0; i < n; i++) {
    const at = <usize>(i & 63) << 5;
    const b0 = v128.load(at), b1 = v128.load(at, 16);
    let a = b0;
    ${ROWS.map(
      (r) => `a = v128.load_splat<i32>(at, ${2048 + 4 * r});
    c${2 * r} = ${step('a', 'b0', `c${2 * r}`)};
    c${2 * r + 1} = ${step('a', 'b1', `c${2 * r + 1}`)};`,
    ).join('\n')}
  }
  ${ACCUMULATORS.slice(1)
    .map((i) => `c0 = v128.xor(c0, c${i});`)
    .join('\n')}
  return i32x4.extract_lane(c0, 0) ^ i32x4.extract_lane(c0, 1) ^ i32x4.extract_lane(c0, 2) ^ i32x4.extract_lane(c0, 3);
}`;
  let bytes;
  const features = kind === 'relaxed' ? ['--enable', 'relaxed-simd'] : [];
  const { error, stderr } = await asc.main(
    ['peak.ts', '--outFile', 'peak.wasm', '--runtime', 'stub', '--initialMemory', '1', '-O3', '--enable', 'simd', ...features],
    {
      readFile: (name) => (name === 'peak.ts' ? source : null),
      writeFile: (_name, contents) => {
        bytes = contents;
      },
      listFiles: () => [],
    },
  );
  if (error) throw new Error(`${stderr}`);
  const { instance } = await WebAssembly.instantiate(bytes, { env: { abort() {} } });
  for (let i = 0; i < 3000; i++) instance.exports.peak(1000); // until the optimized code is in
  return () => {
    instance.exports.peak(2 ** 20);
    return 2 ** 20 * ACCUMULATORS.length * operations;
  };
}
