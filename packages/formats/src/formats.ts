/**
 * Facts about the number formats: how many bits, how they are divided, what range they span.
 * @module
 */
import type { FloatFormat } from '@lmq/tensor';

/** Integer formats: two's complement (`int`) or unsigned (`uint`). */
export type IntFormat = 'int8' | 'int4' | 'uint8' | 'uint4';
export type NumberFormat = FloatFormat | IntFormat;

export interface FloatTraits {
  kind: 'float';
  bits: number;
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
}

export interface IntTraits {
  kind: 'int';
  bits: number;
  signed: boolean;
  min: number;
  max: number;
}

function float(exponentBits: number, fractionBits: number): FloatTraits {
  const bias = 2 ** (exponentBits - 1) - 1;
  return {
    kind: 'float',
    bits: 1 + exponentBits + fractionBits,
    exponentBits,
    fractionBits,
    bias,
    max: (2 - 2 ** -fractionBits) * 2 ** bias,
    minNormal: 2 ** (1 - bias),
    minSubnormal: 2 ** (1 - bias - fractionBits),
  };
}

function int(bits: number, signed: boolean): IntTraits {
  const min = signed ? -(2 ** (bits - 1)) : 0;
  return { kind: 'int', bits, signed, min, max: min + 2 ** bits - 1 };
}

/** Float formats by name. */
export const FLOAT_TRAITS: Readonly<Record<FloatFormat, Readonly<FloatTraits>>> = {
  fp32: /* @__PURE__ */ float(8, 23),
  fp16: /* @__PURE__ */ float(5, 10),
  bf16: /* @__PURE__ */ float(8, 7),
};

/** Integer formats by name. */
export const INT_TRAITS: Readonly<Record<IntFormat, Readonly<IntTraits>>> = {
  int8: /* @__PURE__ */ int(8, true),
  int4: /* @__PURE__ */ int(4, true),
  uint8: /* @__PURE__ */ int(8, false),
  uint4: /* @__PURE__ */ int(4, false),
};
