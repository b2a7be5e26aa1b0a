export function readOptMaxima(model: 'opt-125m' | 'opt-1.3b'): Map<string, Float32Array> | undefined;
