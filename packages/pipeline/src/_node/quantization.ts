/**
 * How a folder says that it was quantized.
 * @module
 */
import { optional, readConfig } from './text-files.js';

/** `quantization_config` of config.json, or the contents of the file that older tools write beside it. */
export async function quantizationOf(folder: string, config: unknown): Promise<Record<string, unknown> | undefined> {
  const inside = (config as { quantization_config?: unknown } | null)?.quantization_config ?? undefined;
  const beside = async (name: string) => optional(readConfig, folder, name);
  const value = inside ?? (await beside('quantize_config.json')) ?? (await beside('quant_config.json'));
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}
