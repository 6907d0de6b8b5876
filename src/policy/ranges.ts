/**
 * Sets of ports as sorted, disjoint, inclusive ranges: [from, to, from, to, …].
 */
import type { Ports } from './document.js';

/** Every port a packet can name; 0 is reserved (RFC 6335 §6) and never allowed. */
const ALL: readonly number[] = [1, 65535];

export function portRanges(ports: Ports): readonly number[] {
  return ports === 'any' ? ALL : unite(ports.flat());
}

/** The union of ranges given in any order. */
export function unite(ranges: readonly number[]): number[] {
  const pairs: [number, number][] = [];
  for (let i = 0; i < ranges.length; i += 2) pairs.push([ranges[i]!, ranges[i + 1]!]);
  pairs.sort((a, b) => a[0] - b[0]);
  const out: number[] = [];
  for (const [from, to] of pairs) {
    const end = out.length - 1;
    if (end > 0 && from <= out[end]! + 1) out[end] = Math.max(out[end]!, to);
    else out.push(from, to);
  }
  return out;
}

/** The ports in both of two sorted sets. */
export function intersect(a: readonly number[], b: readonly number[]): number[] {
  const out: number[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const from = Math.max(a[i]!, b[j]!);
    const to = Math.min(a[i + 1]!, b[j + 1]!);
    if (from <= to) out.push(from, to);
    if (a[i + 1]! < b[j + 1]!) i += 2;
    else j += 2;
  }
  return out;
}

export function includesPort(ranges: readonly number[], port: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) if (port >= ranges[i]! && port <= ranges[i + 1]!) return true;
  return false;
}

/** `80`, `8000-8080`, `any`. */
export function formatPorts(ranges: readonly number[]): string {
  if (ranges.length === 2 && ranges[0] === 1 && ranges[1] === 65535) return 'any';
  const parts: string[] = [];
  for (let i = 0; i < ranges.length; i += 2) {
    parts.push(ranges[i] === ranges[i + 1] ? `${ranges[i]}` : `${ranges[i]}-${ranges[i + 1]}`);
  }
  return parts.join(',');
}
