// The experiment beside the page. Messages out: { progress }, { row }, { result } or { error }.
import { runExperiment } from './experiment.mjs';

self.onmessage = async ({ data }) => {
  try {
    const result = await runExperiment({
      ...data,
      onProgress: (progress) => self.postMessage({ progress }),
      onRow: (row) => self.postMessage({ row }),
    });
    self.postMessage({ result });
  } catch (e) {
    self.postMessage({ error: e.message });
  }
};
