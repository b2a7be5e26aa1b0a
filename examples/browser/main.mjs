// The page: reads the form, runs the experiment in a worker or here, and fills the table as results come.
import { runExperiment } from './experiment.mjs';

const form = document.querySelector('form');
const [start, stop] = form.querySelectorAll('button');
const status = document.querySelector('#status');
const bar = document.querySelector('progress');
const body = document.querySelector('tbody');

document.querySelector('#facts').textContent = `This page is ${crossOriginIsolated ? '' : 'not '}cross-origin isolated.`;

/** Runs the experiment in a worker; stopping ends the worker. */
function runInWorker({ signal, onProgress, onRow, ...opts }) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.mjs', import.meta.url), { type: 'module' });
    const end = (settle, value) => {
      worker.terminate();
      settle(value);
    };
    worker.onmessage = ({ data }) => {
      if (data.progress) onProgress(data.progress);
      else if (data.row) onRow(data.row);
      else if (data.result) end(resolve, data.result);
      else end(reject, new Error(data.error));
    };
    worker.onerror = (e) => end(reject, new Error(e.message ?? 'the worker did not start'));
    signal.addEventListener('abort', () => end(reject, signal.reason));
    worker.postMessage(opts);
  });
}

function showProgress({ text, part }) {
  status.textContent = `${text} …`;
  bar.value = part;
}

function showRow(row) {
  const cells = [row.bits, row.bitsPerWeight.toFixed(3), row.rtn, row.gptq, row.seconds.toFixed(2), row.sha256.slice(0, 12)];
  const tr = body.insertRow();
  for (const [i, value] of cells.entries()) {
    const td = tr.insertCell();
    if (i !== 2 && i !== 3) {
      td.textContent = value;
      continue;
    }
    td.textContent = `${(100 * value).toFixed(2)} %`;
    const mark = td.appendChild(document.createElement('span'));
    mark.className = i === 2 ? 'mark' : 'mark gptq';
    mark.style.width = `${Math.max(1, (8 * value) / row.rtn)}rem`; // each row on its own scale: plain rounding is the full width
  }
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const { rows, cols, tokens, seed, kernel, where } = Object.fromEntries(new FormData(form));
  const control = new AbortController();
  stop.onclick = () => control.abort(new Error('stopped'));
  start.disabled = true;
  stop.disabled = false;
  body.replaceChildren();
  showProgress({ text: 'starting', part: 0 });
  const began = performance.now();
  try {
    const run = where === 'worker' ? runInWorker : runExperiment;
    const result = await run({
      rows: Number(rows),
      cols: Number(cols),
      tokens: Number(tokens),
      seed: Number(seed),
      kernel,
      signal: control.signal,
      onProgress: showProgress,
      onRow: showRow,
    });
    bar.value = 1;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    status.textContent = `Done in ${seconds} s, ${where === 'worker' ? 'in a worker' : "on the page's own thread"}, with ${result.variant}.`;
    dispatchEvent(new CustomEvent('experiment', { detail: { where, ...result } }));
  } catch (e) {
    status.textContent = e.message;
    dispatchEvent(new CustomEvent('experiment', { detail: { where, error: e.message } }));
  } finally {
    start.disabled = false;
    stop.disabled = true;
  }
});
