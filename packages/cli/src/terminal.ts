/**
 * What people see: results on stdout, everything else on stderr. A bar with the time left on a terminal, plain lines otherwise.
 * @module
 */
import { type ProgressEvent, printable } from '@lmq/tensor';
import pc from 'picocolors';

export interface Terminal {
  readonly json: boolean;
  /** Text on stdout. */
  out(text: string): void;
  /** With `--json`, the one object on stdout. */
  result(value: unknown): void;
  /** A remark on stderr. */
  say(text: string): void;
  /** An error on stderr. */
  fail(text: string): void;
  progress(event: ProgressEvent): void;
  /** Ends the bar, if one is shown. */
  finish(): void;
}

const BAR = 24;
const PLAIN_EVERY_MS = 5000;

/** A terminal for these arguments: `--json` and `--quiet` are looked for before anything else is parsed, so that errors obey them. */
export function createTerminal(argv: readonly string[]): Terminal {
  const end = argv.indexOf('--');
  const flags = end < 0 ? argv : argv.slice(0, end);
  const json = flags.includes('--json');
  const quiet = flags.includes('--quiet');
  const tty = process.stderr.isTTY === true;
  const color = pc.createColors(tty && !process.env.NO_COLOR);
  let barShown = false;
  let phase = '';
  let lastPlain = 0;
  const clear = () => {
    if (barShown) process.stderr.write('\r\x1b[K');
    barShown = false;
  };
  return {
    json,
    out: (text) => {
      clear();
      process.stdout.write(text);
    },
    result: (value) => {
      process.stdout.write(`${JSON.stringify(value)}\n`);
    },
    say: (text) => {
      if (quiet) return;
      clear();
      process.stderr.write(`${color.dim(text)}\n`);
    },
    fail: (text) => {
      clear();
      process.stderr.write(`${color.red('error')} ${text.replace(/^error: /, '')}\n`);
    },
    progress: (e) => {
      if (quiet) return;
      const share = e.total > 0 ? Math.min(1, e.done / e.total) : 1;
      const eta = e.etaSeconds === undefined || e.done >= e.total ? '' : ` ${formatSeconds(e.etaSeconds)} left`;
      const layer = e.layer ? ` ${printable(e.layer)}` : '';
      if (tty) {
        const filled = Math.round(share * BAR);
        const line = `${e.phase} ${color.cyan('━'.repeat(filled))}${color.dim('━'.repeat(BAR - filled))} ${e.done}/${e.total} ${e.unit}${eta}${layer}`;
        process.stderr.write(`\r\x1b[K${line}`);
        barShown = true;
        return;
      }
      const now = Date.now();
      if (e.phase === phase && e.done < e.total && now - lastPlain < PLAIN_EVERY_MS) return;
      if (e.phase === phase && e.done >= e.total && now - lastPlain < 200) return; // the phase was over before anyone could read
      phase = e.phase;
      lastPlain = now;
      process.stderr.write(`${e.phase} ${e.done}/${e.total} ${e.unit}${eta}${layer}\n`);
    },
    finish: clear,
  };
}

/** Columns aligned: the first to the left, numbers to the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((c, i) => (i === 0 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  return `${[line(header), widths.map((w) => '─'.repeat(w)).join('  '), ...rows.map(line)].join('\n')}\n`;
}

/** 1.23 MB, powers of 1000. */
export function formatBytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, n)) / 3)));
  const x = n / 1000 ** power;
  return `${power === 0 ? x : x.toPrecision(3)} ${units[power]}`;
}

/** 5 s, 3 min 20 s, 2 h 5 min. */
export function formatSeconds(s: number): string {
  const n = Math.round(s);
  if (n < 60) return `${n} s`;
  if (n < 3600) return `${Math.floor(n / 60)} min ${n % 60} s`;
  return `${Math.floor(n / 3600)} h ${Math.floor((n % 3600) / 60)} min`;
}
