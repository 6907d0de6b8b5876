/**
 * Which way packets went, as one word that can be compared: the hash of the hops' addresses in order.
 *
 *   192.0.2.1 | * | 198.51.100.2 ──SHA-256──► first 8 bytes in hexadecimal          `*`: a hop that did not answer
 */
import type { Crypto } from '../../base/crypto.js';

const SILENT = '*';
/** Chance that two paths of a table of thousands have one id: 1 in 10¹². */
const ID_BYTES = 8;

/** @param hops addresses in order; empty: silent. */
export function pathId(hops: readonly string[], crypto: Pick<Crypto, 'sha256'>): string {
  const text = hops.map((hop) => hop || SILENT).join('|');
  return Buffer.from(crypto.sha256(Buffer.from(text)).subarray(0, ID_BYTES)).toString('hex');
}

/** The hops of a path, and whether the last one is the destination. */
export interface SeenPath {
  readonly hops: readonly string[];
  readonly reached: boolean;
}

/**
 * Whether nothing says that these are two ways: every hop that answered both times is the same one, and two that reached their
 * destination are equally long. Silence says nothing.
 */
export function mayBeSame(one: SeenPath, other: SeenPath): boolean {
  if (one.reached && other.reached && one.hops.length !== other.hops.length) return false;
  if (one.reached && answered(other.hops) > one.hops.length) return false;
  if (other.reached && answered(one.hops) > other.hops.length) return false;
  return one.hops.every((hop, i) => hop === '' || (other.hops[i] ?? '') === '' || other.hops[i] === hop);
}

/** What both together tell; for two that may be the same. */
export function merged(one: SeenPath, other: SeenPath): SeenPath {
  const length = Math.max(answered(one.hops), answered(other.hops));
  const hops = Array.from({ length }, (_, i) => other.hops[i] || one.hops[i] || '');
  return { hops, reached: one.reached || other.reached };
}

/** Hops up to the last one that answered. */
function answered(hops: readonly string[]): number {
  return hops.findLastIndex((hop) => hop !== '') + 1;
}
