/**
 * Where calibration activations live between blocks: one float32 array per window. In memory here; in files in `@lmq/pipeline/node`.
 * @module
 */

/** The activations of all windows before one block. */
export interface ActivationStore {
  /** Stores the activations of a window; each window once. */
  put(window: number, data: Float32Array): Promise<void>;
  /** Called once, after every window was stored. */
  finish(): Promise<void>;
  get(window: number): Promise<Float32Array>;
  /** Ends the use; what outlives the process stays. */
  close(): Promise<void>;
  /** Ends the use and removes what was stored. */
  dispose(): Promise<void>;
}

/**
 * Whose activations: of the model quantized so far (or the only model there is), or of the float model beside it (GPTAQ); `attention`: in the
 * middle of the block, after its attention; `gradient`: of the loss, by the block's input.
 */
export type Stream = 'inputs' | 'float' | 'attention' | 'gradient';

/** Makes the store of the inputs of block `layer`. `sizes`: floats of each window. */
export type MakeStore = (layer: number, sizes: readonly number[], stream: Stream) => Promise<ActivationStore>;

/** Activations in memory. */
export const memoryStore: MakeStore = async (_layer, sizes) => {
  const windows = new Array<Float32Array>(sizes.length);
  return {
    async put(window, data) {
      windows[window] = data;
    },
    async finish() {},
    get: async (window) => windows[window]!,
    async close() {},
    async dispose() {
      windows.length = 0;
    },
  };
};
