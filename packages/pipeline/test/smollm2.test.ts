/**
 * A real model from end to end: SmolLM2-135M-Instruct as a Q4_1 GGUF file, which `tools/fetch-smollm2.sh` fetches. Skipped without it.
 * Expected ids and numbers are llama.cpp's, on the same file or on the same weights written out as F32.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { generate, loadModel } from '@lmq/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../src/_node/open-model.js';

const path = process.env.LMQ_SMOLLM2 || fileURLToPath(new URL('../../../models/smollm2-135m.gguf', import.meta.url));
const missing = existsSync(path) ? '' : ' (skipped: no model; run tools/fetch-smollm2.sh, or set LMQ_SMOLLM2 to the file)';
