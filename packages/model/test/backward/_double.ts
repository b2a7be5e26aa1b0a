// The forward pass in double, as plainly as it can be written, and slopes of it by central differences.

/** Rows of numbers. */
export type Rows = number[][];

export const rowsOf = (data: ArrayLike<number>, cols: number): Rows =>
  Array.from({ length: data.length / cols }, (_, r) => Array.from({ length: cols }, (_, c) => data[r * cols + c]!));

/** x Wᵀ */
export const linear = (x: Rows, w: Rows): Rows => x.map((row) => w.map((ws) => ws.reduce((sum, v, i) => sum + v * row[i]!, 0)));

export const add = (a: Rows, b: Rows): Rows => a.map((row, r) => row.map((v, c) => v + b[r]![c]!));

export const rmsNorm = (x: Rows, weight: readonly number[], eps: number): Rows =>
  x.map((row) => {
    const factor = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + eps);
    return row.map((v, c) => v * factor * weight[c]!);
  });

export const softmax = (z: readonly number[]): number[] => {
  const max = Math.max(...z);
  const e = z.map((v) => Math.exp(v - max));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
};

export function glu(gate: Rows, up: Rows, activation: 'silu' | 'gelu-tanh'): Rows {
  const f = (g: number) =>
    activation === 'silu' ? g / (1 + Math.exp(-g)) : 0.5 * g * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3)));
  return gate.map((row, r) => row.map((g, c) => f(g) * up[r]![c]!));
}

export function rope(x: Rows, cos: Rows, sin: Rows, headDim: number, style: 'half' | 'interleaved'): Rows {
  return x.map((row, r) => {
    const out = [...row];
    const pairs = cos[0]!.length;
    for (let head = 0; head < row.length; head += headDim) {
      for (let i = 0; i < pairs; i++) {
        const [p, q] = style === 'half' ? [head + i, head + i + pairs] : [head + 2 * i, head + 2 * i + 1];
        out[p] = row[p]! * cos[r]![i]! - row[q]! * sin[r]![i]!;
        out[q] = row[q]! * cos[r]![i]! + row[p]! * sin[r]![i]!;
      }
    }
    return out;
  });
}

export interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  window?: number;
}

export function attention(q: Rows, k: Rows, v: Rows, { heads, kvHeads, headDim, scale, window = Infinity }: Heads): Rows {
  return q.map((row, t) => {
    const out: number[] = [];
    const first = Math.max(0, t + 1 - window);
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads)) * headDim;
      const seen = k.slice(first, t + 1);
      const p = softmax(
        seen.map((key) => {
          let sum = 0;
          for (let d = 0; d < headDim; d++) sum += row[h * headDim + d]! * key[kv + d]!;
          return scale * sum;
        }),
      );
      for (let d = 0; d < headDim; d++) out.push(p.reduce((sum, w, i) => sum + w * v[first + i]![kv + d]!, 0));
    }
    return out;
  });
}

export const crossEntropy = (states: Rows, head: Rows, ids: readonly number[]): number =>
  -linear(states, head)
    .slice(0, -1)
    .reduce((sum, z, i) => sum + Math.log(softmax(z)[ids[i + 1]!]!), 0) /
  (ids.length - 1);

/** The slope of f by every number of x, which f reads. Error of order 1e-10 for functions of size 1. */
export function slopes(x: Rows, f: () => number): number[] {
  const step = 1e-5;
  return x.flatMap((row) =>
    row.map((v, c) => {
      row[c] = v + step;
      const above = f();
      row[c] = v - step;
      const below = f();
      row[c] = v;
      return (above - below) / (2 * step);
    }),
  );
}
