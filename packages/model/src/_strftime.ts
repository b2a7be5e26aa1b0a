/**
 * Dates as Python's `strftime` writes them in the C locale, in UTC: the codes that chat templates use.
 * @module
 */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December'],
];

const two = (n: number) => String(n).padStart(2, '0');
const CODES: ReadonlyMap<string, (d: Date) => string> = new Map<string, (d: Date) => string>([
  ['Y', (d) => String(d.getUTCFullYear())],
  ['y', (d) => two(d.getUTCFullYear() % 100)],
  ['m', (d) => two(d.getUTCMonth() + 1)],
  ['d', (d) => two(d.getUTCDate())],
  ['B', (d) => MONTHS[d.getUTCMonth()]!],
  ['b', (d) => MONTHS[d.getUTCMonth()]!.slice(0, 3)],
  ['A', (d) => DAYS[d.getUTCDay()]!],
  ['a', (d) => DAYS[d.getUTCDay()]!.slice(0, 3)],
  ['H', (d) => two(d.getUTCHours())],
  ['I', (d) => two(d.getUTCHours() % 12 || 12)],
  ['M', (d) => two(d.getUTCMinutes())],
  ['S', (d) => two(d.getUTCSeconds())],
  ['p', (d) => (d.getUTCHours() < 12 ? 'AM' : 'PM')],
  ['%', () => '%'],
]);

/** @throws Error for a code that is not known */
export function formatDate(date: Date, format: string): string {
  return format.replace(/%(.?)/gs, (_, code: string) => {
    const write = CODES.get(code);
    if (!write) throw new Error(`strftime code %${code}`);
    return write(date);
  });
}
