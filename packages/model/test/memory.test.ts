import { wasmBackend } from '@lmq/kernels-wasm';
import { expect, it } from 'vitest';
import { generate, loadModel } from '../src/index.js';
import { openNano } from './_support.js';

// A forward pass of 256 tokens makes some 10 MB of temporaries on lmq-nano-moe (experts: 512 rows x 1024 numbers per layer). Held over
// passes, they would not fit.
it('temporaries, caches and models are freed: many of each fit a small memory', async () => {
  const backend = await wasmBackend({ maxMemoryBytes: 48e6 });
  const opened = await openNano('lmq-nano-moe');
  const ids = Int32Array.from({ length: 256 }, (_, i) => (i * 7) % 2048);
  for (let round = 0; round < 3; round++) {
    const model = await loadModel({ ...opened, backend });
    for (let pass = 0; pass < 4; pass++) {
      const s = backend.scope();
      const h = await model.forward(s, ids);
      expect([h.rows, h.cols]).toEqual([256, 2048]);
      s.dispose();
      for await (const _ of generate(model, ids, { maxTokens: 4 }));
    }
    model.dispose();
  }
  // one scope over many passes keeps only their results: the residual stream left behind would be 60 MB
  const model = await loadModel({ ...opened, backend });
  const s = backend.scope();
  for (let pass = 0; pass < 120; pass++) await model.forward(s, ids, { lastOnly: true });
  s.dispose();
});
