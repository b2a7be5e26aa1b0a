/**
 * Rotary position embedding from tables, in place: (a, b) → (a cos - b sin, b cos + a sin). f32.
 * @module
 */

/**
 * @param cos, sin rows of the first position; `pairs` values a row
 * @param interleaved 1: element 2i pairs with 2i + 1; 0: i with i + pairs
 */
export function rope(
  x: usize,
  xStride: usize,
  cos: usize,
  cosStride: usize,
  sin: usize,
  sinStride: usize,
  rows: i32,
  heads: i32,
  headDim: i32,
  pairs: i32,
  interleaved: i32,
): void {
  const head = (<usize>headDim) << 2;
  for (let r = 0; r < rows; r++) {
    let at = x;
    for (let h = 0; h < heads; h++) {
      if (interleaved) turnNeighbours(at, cos, sin, pairs);
      else turnHalves(at, cos, sin, pairs);
      at += head;
    }
    x += xStride;
    cos += cosStride;
    sin += sinStride;
  }
}

function turnHalves(x: usize, cos: usize, sin: usize, pairs: i32): void {
  let y = x + ((<usize>pairs) << 2);
  let i = 0;
  for (; i + 4 <= pairs; i += 4) {
    const a = v128.load(x);
    const b = v128.load(y);
    const c = v128.load(cos);
    const s = v128.load(sin);
    v128.store(x, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
    v128.store(y, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
    x += 16;
    y += 16;
    cos += 16;
    sin += 16;
  }
  for (; i < pairs; i++) {
    const a = load<f32>(x);
    const b = load<f32>(y);
    store<f32>(x, a * load<f32>(cos) - b * load<f32>(sin));
    store<f32>(y, b * load<f32>(cos) + a * load<f32>(sin));
    x += 4;
    y += 4;
    cos += 4;
    sin += 4;
  }
}

function turnNeighbours(x: usize, cos: usize, sin: usize, pairs: i32): void {
  let i = 0;
  for (; i + 4 <= pairs; i += 4) {
    const lo = v128.load(x);
    const hi = v128.load(x, 16);
    const a = v128.shuffle<f32>(lo, hi, 0, 2, 4, 6);
    const b = v128.shuffle<f32>(lo, hi, 1, 3, 5, 7);
    const c = v128.load(cos);
    const s = v128.load(sin);
    const ra = f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s));
    const rb = f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s));
    v128.store(x, v128.shuffle<f32>(ra, rb, 0, 4, 1, 5));
    v128.store(x, v128.shuffle<f32>(ra, rb, 2, 6, 3, 7), 16);
    x += 32;
    cos += 16;
    sin += 16;
  }
  for (; i < pairs; i++) {
    const a = load<f32>(x);
    const b = load<f32>(x, 4);
    store<f32>(x, a * load<f32>(cos) - b * load<f32>(sin));
    store<f32>(x, b * load<f32>(cos) + a * load<f32>(sin), 4);
    x += 8;
    cos += 4;
    sin += 4;
  }
}
