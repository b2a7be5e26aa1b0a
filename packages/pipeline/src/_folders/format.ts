/**
 * What a format of Hugging Face folders is to the exporter: safetensors, in which quantized linears are tensors of the format's own, and
 * `quantization_config` in config.json.
 * @module
 */
import type { TensorToWrite } from '@lmq/checkpoints';
import type { CompressedTensor, FloatFormat, InputQuant } from '@lmq/tensor';
import type { PlannedSite } from '../plan.js';

/** What is known of a model before its weights are looked at. */
export interface FolderFacts {
  /** Number format that config.json says the model computes in. */
  dtype: FloatFormat;
  /** Module names of all linears in blocks, and of the head where it has a weight of its own. */
  linears: readonly string[];
}

export interface FolderFormat {
  /**
   * Refuses a recipe whose result cannot be stored.
   * @throws LmqError `export/unsupported`
   */
  check(planned: readonly PlannedSite[]): void;
  /** Whether the format has words for inputs that are quantized so. Absent: for none. */
  saysInput?(input: InputQuant): boolean;
  /** Stored bytes of a quantized linear, one of all that are planned. */
  bytes(site: PlannedSite, dtype: FloatFormat, planned: readonly PlannedSite[]): number;
  /** Begins to look at the weights of a folder. */
  begin(facts: FolderFacts): FolderSurvey;
}

/** Sees every weight that is not plain floats before anything is written, one after the other. */
export interface FolderSurvey {
  /**
   * @param input how the input of the linear is quantized, which few formats say
   * @throws LmqError `export/unsupported` for a weight that the format cannot hold as it is; it is then out of the survey
   */
  add(name: string, t: CompressedTensor, input?: InputQuant): void;
  /** How those that were taken are stored. */
  finish(): FolderPlan;
}

export interface FolderPlan {
  /** `quantization_config` of config.json; absent for a format of plain floats. */
  quantization?: Record<string, unknown>;
  /** Other small JSON files, by name. */
  files: Record<string, unknown>;
  /** What a person should know. */
  notes: string[];
  pack(name: string, t: CompressedTensor, input?: InputQuant): TensorToWrite[];
}
