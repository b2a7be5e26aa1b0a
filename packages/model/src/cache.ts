/**
 * A KV cache: float32 keys (after RoPE) and values of every position so far, in buffers of a fixed capacity. Rows are added onto zeros,
 * since a backend writes device data through ops only; attention then reads a view of the filled rows.
 * @module
 */
import { type Backend, checkInteger, type Handle, LmqError, type Scope } from '@lmq/tensor';
import type { Architecture, KvCache, LayerCache } from './api.js';

/**
 * Allocates a cache of `tokens` positions: `8 * layers * tokens * kvHeads * headDim` bytes. The caller disposes it.
 * @throws LmqError `argument/option` when `tokens` is not in 1 … context, `backend/memory`
 */
export function createKvCache(backend: Backend, architecture: Architecture, tokens: number): KvCache {
  checkInteger(tokens, 'tokens', 1, architecture.context, 'createCache');
  const width = architecture.kvHeads * architecture.headDim;
  const home = backend.scope();
  const layers: LayerCache[] = [];
  try {
    for (let l = 0; l < architecture.layers; l++) layers.push(createLayer(home.alloc(tokens, width), home.alloc(tokens, width)));
  } catch (e) {
    home.dispose();
    throw e;
  }
  return {
    capacity: tokens,
    layers,
    bytes: 8 * architecture.layers * tokens * width,
    get length() {
      return layers[layers.length - 1]!.length;
    },
    dispose: () => home.dispose(),
  };
}

function createLayer(allKeys: Handle, allValues: Handle): LayerCache {
  let length = 0;
  const extend = (s: Scope, all: Handle, rows: Handle): Handle => {
    s.addTo(s.view(all, [length, length + rows.rows]), rows);
    return s.view(all, [0, length + rows.rows]);
  };
  return {
    get length() {
      return length;
    },
    append(s, newKeys, newValues, position) {
      const op = 'cache.append';
      if (position !== length) {
        throw new LmqError('argument/value', 'the position does not follow the cache', {
          op,
          expected: length,
          found: position,
          hint: 'A forward pass that was stopped leaves its cache half filled: create a new one.',
        });
      }
      if (length + newKeys.rows > allKeys.rows) {
        throw new LmqError('argument/value', 'the cache is full', {
          op,
          expected: `at most ${allKeys.rows} positions`,
          found: length + newKeys.rows,
          hint: 'Create the cache for more tokens.',
        });
      }
      const keys = extend(s, allKeys, newKeys);
      const values = extend(s, allValues, newValues);
      length += newKeys.rows;
      return { keys, values };
    },
  };
}
