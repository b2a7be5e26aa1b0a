/**
 * The dynamic 8-bit maps of bitsandbytes: in each of seven decades, twice as many levels as in the one below it, equally spaced; and 0 and 1.
 * Source: Dettmers, 8-Bit Approximations for Parallelism in Deep Learning (arXiv 1511.04561); arithmetic as in bitsandbytes functional.py,
 * create_dynamic_map, in float32.
 * @module
 */

const f = Math.fround;
const DECADES = 7;

/**
 * `steps` equally spaced numbers from 0.1 to 1, the upper half counted down from the end: PyTorch's linspace on a processor with fused
 * multiply-add, which rounds once. (Without, the last bits of some levels differ.)
 */
function linspace(steps: number): number[] {
  const [start, end] = [f(0.1), 1];
  const step = f(f(end - start) / (steps - 1));
  return Array.from({ length: steps }, (_, i) => f(i < steps / 2 ? start + step * i : end - step * (steps - 1 - i)));
}

/** The 256 numbers of the map, rising: 127 negative ones, 0 and 128 positive ones; unsigned, 0 and 255 positive ones. */
export function dynamicMap8(signed: boolean): Float32Array {
  const levels = [0, 1];
  for (let decade = 0; decade < DECADES; decade++) {
    const edges = linspace(2 ** (decade + (signed ? 0 : 1)) + 1);
    const power = f(10 ** (decade + 1 - DECADES));
    for (let i = 0; i + 1 < edges.length; i++) {
      const level = f(power * f(f(edges[i]! + edges[i + 1]!) / 2));
      levels.push(level);
      if (signed) levels.push(-level);
    }
  }
  return Float32Array.from(levels).sort();
}
