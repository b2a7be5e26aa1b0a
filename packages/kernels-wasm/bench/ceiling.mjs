// What this machine's engine can do at most: f32x4 multiply and add on 12 independent accumulators, nothing else. Measured, never assumed:
// processors differ by a factor of two, and a share of another machine's ceiling says nothing.
import asc from 'assemblyscript/asc';

const LANES = Array.from({ length: 12 }, (_, i) => i);
const SOURCE = `export function peak(n: i32, x: f32): f32 {
  const a = f32x4.splat(x), b = f32x4.splat(0.5);
  ${LANES.map((i) => `let c${i} = f32x4.splat(<f32>${i});`).join('\n')}
  for (let i = 0; i < n; i++) { ${LANES.map((i) => `c${i} = f32x4.add(b, f32x4.mul(a, c${i}));`).join('\n')} }
  ${LANES.slice(1)
    .map((i) => `c0 = f32x4.add(c0, c${i});`)
    .join('\n')}
  return f32x4.extract_lane(c0, 0) + f32x4.extract_lane(c0, 1) + f32x4.extract_lane(c0, 2) + f32x4.extract_lane(c0, 3);
}`;

/** @returns {Promise<() => number>} does 2^20 rounds; returns the operations done */
export async function ceiling() {
  let bytes;
  const { error, stderr } = await asc.main(['peak.ts', '--outFile', 'peak.wasm', '--runtime', 'stub', '-O3', '--enable', 'simd'], {
    readFile: (name) => (name === 'peak.ts' ? SOURCE : null),
    writeFile: (_name, contents) => {
      bytes = contents;
    },
    listFiles: () => [],
  });
  if (error) throw new Error(`${stderr}`);
  const { instance } = await WebAssembly.instantiate(bytes, { env: { abort() {} } });
  for (let i = 0; i < 3000; i++) instance.exports.peak(1000, 0.5); // until the optimized code is in
  return () => {
    instance.exports.peak(2 ** 20, 0.5);
    return 2 ** 20 * LANES.length * 8;
  };
}
