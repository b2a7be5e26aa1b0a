/**
 * Facts about the number formats: how many bits, how they are divided, what range they span.
 * @module
 */
import type { FloatFormat, MinifloatFormat } from '@lmq/tensor';

/** Integer formats: two's complement (`int`) or unsigned (`uint`). */
export type IntFormat = `${'int' | 'uint'}${2 | 3 | 4 | 5 | 6 | 7 | 8}`;
export type NumberFormat = FloatFormat | MinifloatFormat | 'e8m0' | IntFormat;

export interface FloatTraits {
  kind: 'float';
  bits: number;
  /** Whether the top bit is a sign. */
  signed: boolean;
  exponentBits: number;
  fractionBits: number;
  /** Unbiased exponent = raw exponent - bias. */
  bias: number;
  /** Largest finite number. */
  max: number;
  /** Smallest positive normal number. */
  minNormal: number;
  /** Smallest positive number. */
  minSubnormal: number;
  /** `ieee`: an exponent of ones is infinity or NaN. `nan`: a code of ones, sign aside, is NaN; no infinity. `none`: all codes are numbers. */
  specials: 'ieee' | 'nan' | 'none';
}

export interface IntTraits {
  kind: 'int';
  bits: number;
  signed: boolean;
  min: number;
  max: number;
}

function float(exponentBits: number, fractionBits: number, specials: FloatTraits['specials'] = 'ieee'): FloatTraits {
  const bias = 2 ** (exponentBits - 1) - 1;
  const topExponent = bias + (specials === 'ieee' ? 0 : 1);
  return {
    kind: 'float',
    bits: 1 + exponentBits + fractionBits,
    signed: true,
    exponentBits,
    fractionBits,
    bias,
    max: (2 - (specials === 'nan' ? 2 : 1) * 2 ** -fractionBits) * 2 ** topExponent,
    minNormal: 2 ** (1 - bias),
    minSubnormal: 2 ** (1 - bias - fractionBits),
    specials,
  };
}

function int(bits: number, signed: boolean): IntTraits {
  const min = signed ? -(2 ** (bits - 1)) : 0;
  return { kind: 'int', bits, signed, min, max: min + 2 ** bits - 1 };
}

/** Float formats by name: IEEE 754, OCP FP8 v1.0 and OCP MX v1.0. */
export const FLOAT_TRAITS: Readonly<Record<FloatFormat | MinifloatFormat | 'e8m0', Readonly<FloatTraits>>> = {
  fp32: /* @__PURE__ */ float(8, 23),
  fp16: /* @__PURE__ */ float(5, 10),
  bf16: /* @__PURE__ */ float(8, 7),
  fp8e4m3: /* @__PURE__ */ float(4, 3, 'nan'),
  fp8e5m2: /* @__PURE__ */ float(5, 2),
  fp6e2m3: /* @__PURE__ */ float(2, 3, 'none'),
  fp6e3m2: /* @__PURE__ */ float(3, 2, 'none'),
  fp4e2m1: /* @__PURE__ */ float(2, 1, 'none'),
  // a bare exponent: no sign, no zero, no subnormals
  e8m0: {
    kind: 'float',
    bits: 8,
    signed: false,
    exponentBits: 8,
    fractionBits: 0,
    bias: 127,
    max: 2 ** 127,
    minNormal: 2 ** -127,
    minSubnormal: 2 ** -127,
    specials: 'nan',
  },
};

/** Integer formats by name. */
export const INT_TRAITS: Readonly<Record<IntFormat, Readonly<IntTraits>>> = {
  int2: /* @__PURE__ */ int(2, true),
  int3: /* @__PURE__ */ int(3, true),
  int4: /* @__PURE__ */ int(4, true),
  int5: /* @__PURE__ */ int(5, true),
  int6: /* @__PURE__ */ int(6, true),
  int7: /* @__PURE__ */ int(7, true),
  int8: /* @__PURE__ */ int(8, true),
  uint2: /* @__PURE__ */ int(2, false),
  uint3: /* @__PURE__ */ int(3, false),
  uint4: /* @__PURE__ */ int(4, false),
  uint5: /* @__PURE__ */ int(5, false),
  uint6: /* @__PURE__ */ int(6, false),
  uint7: /* @__PURE__ */ int(7, false),
  uint8: /* @__PURE__ */ int(8, false),
};
