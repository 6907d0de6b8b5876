/**
 * Quantities as people read them: `1.2 MB`, `3 m 4 s`, `5.1 Gbit/s`. Decimal units (SI), at most two of them, and never for
 * programs: those get numbers.
 */
import type { Duration } from './time.js';

const UNITS = ['', 'k', 'M', 'G', 'T', 'P'];
const SPANS: readonly (readonly [string, number])[] = [
  ['d', 86_400_000_000],
  ['h', 3_600_000_000],
  ['m', 60_000_000],
  ['s', 1_000_000],
];

/** `0 B`, `999 B`, `1.2 MB`. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 'B');
}

/** A rate given in bits a second: `5.1 Gbit/s`. */
export function formatBitRate(bitsPerSecond: number): string {
  return scaled(bitsPerSecond, 'bit/s');
}

/** A plain count: `950`, `3.4 M`. */
export function formatCount(count: number): string {
  return scaled(count, '').trimEnd();
}

/** `250 µs`, `1.5 ms`, `4.2 s`, `3 m 4 s`, `2 d 5 h`; a minus in front of negative spans, `never` for Infinity. */
export function formatDuration(span: Duration): string {
  if (!Number.isFinite(span)) return 'never';
  const micros: number = Math.abs(span);
  const sign = span < 0 ? '−' : '';
  if (micros < 999.5) return `${sign}${Math.round(micros)} µs`;
  if (micros < 999_500) return `${sign}${short(micros / 1_000)} ms`;
  if (micros < 9_950_000) return `${sign}${short(micros / 1_000_000)} s`;
  let left = Math.round(micros / 1_000_000) * 1_000_000;
  const parts: string[] = [];
  for (const [unit, size] of SPANS) {
    const n = Math.floor(left / size);
    left -= n * size;
    if (n > 0) parts.push(`${n} ${unit}`);
    // The unit after the largest is the last one that tells anything.
    if (parts.length === 2 || (parts.length === 1 && n === 0)) break;
  }
  return sign + parts.join(' ');
}

function scaled(value: number, unit: string): string {
  let n = Math.abs(value);
  let i = 0;
  while (n >= 999.5 && i < UNITS.length - 1) {
    n /= 1000;
    i++;
  }
  return `${value < 0 ? '−' : ''}${i === 0 ? Math.round(n) : short(n)} ${UNITS[i]}${unit}`;
}

/** One decimal below ten, none above; no trailing `.0`. */
function short(n: number): string {
  return n < 9.95 ? n.toFixed(1).replace(/\.0$/, '') : String(Math.round(n));
}
