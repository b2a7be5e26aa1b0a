import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { calibration, NANO_MODELS, passkey, validation } from '../src/index.js';

const json = (url: URL) => JSON.parse(readFileSync(url, 'utf8'));

describe('data', () => {
  for (const { name, folder } of Object.values(NANO_MODELS)) {
    it(`${name} is a whole model folder`, () => {
      for (const file of [
        'config.json',
        'tokenizer.json',
        'tokenizer_config.json',
        'generation_config.json',
        'model.safetensors',
        'golden.json',
      ]) {
        expect(existsSync(new URL(file, folder)), file).toBe(true);
      }
      const golden = json(new URL('golden.json', folder));
      expect(golden.prompt_ids.length).toBe(golden.nll.length + 1);
      expect(json(new URL('config.json', folder)).vocab_size).toBe(golden.last_logits.length);
    });
  }
  it('calibration is 64 sequences of 512 ids below the vocabulary size', () => {
    const ids: number[][] = json(calibration);
    expect(ids.length).toBe(64);
    for (const row of ids) {
      expect(row.length).toBe(512);
      expect(row.every((id) => Number.isInteger(id) && id >= 0 && id < 2048)).toBe(true);
    }
  });
  it('pass key documents end with the key they hide and a full stop', () => {
    const { documents } = json(passkey) as { documents: { ids: number[]; answer_ids: number[]; key_at: number }[] };
    expect(documents.length).toBe(20);
    for (const { ids, answer_ids, key_at } of documents) {
      expect(ids.length).toBe(1024);
      expect(ids.slice(-6, -1)).toEqual(answer_ids);
      const hidden = ids.slice(key_at, key_at + 40).join(',');
      expect(hidden).toContain(answer_ids.join(','));
    }
  });
  it('validation is one book, whole characters, long enough for 40 windows at 3 characters a token', () => {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(readFileSync(validation));
    expect(text.startsWith('\uFEFFTrooper Peter Halket')).toBe(true);
    expect(text.trimEnd().endsWith('THE END.')).toBe(true);
    expect(text.length).toBeGreaterThan(40 * 512 * 4);
    expect(text).not.toContain('\r'); // the models were trained on bare line feeds
  });
});
