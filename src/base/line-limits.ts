/**
 * How many lines others may cause in a log: so many at once and then so many a second of each kind for each peer, and of each kind
 * for all peers together, because whoever has many names or addresses is many peers. What is beyond is counted.
 *
 *   line ─► bucket of (kind, peer) ─► bucket of the kind ─► written
 *                └─ empty ────────────────┴─ empty ─► counted, told by `report`
 *
 * Memory is bounded: of peers the one heard longest ago is forgotten (and starts anew: the kind's bucket still holds), and kinds beyond
 * the table share one.
 */
import { TokenBucket } from './bucket.js';
import type { Instant } from './time.js';

/** Lines a second of one kind and peer: what goes on changing is seen to change every five seconds. */
const PEER_RATE = 0.2;
/** Lines at once of one kind and peer: a bad minute of one node is told whole. */
export const PEER_BURST = 50;
/** Lines a second of one kind: some 100 MB a day at 250 bytes each. */
const KIND_RATE = 5;
/** Lines at once of one kind: thousands of nodes come back after a relay's restart. */
export const KIND_BURST = 2000;
/** Pairs of kind and peer that are remembered, some 300 bytes each. */
export const MAX_PAIRS = 4096;
/** Kinds are texts and codes of ours, some fifty; a text that a peer may vary cannot make many. */
export const MAX_KINDS = 128;
/** Characters of a peer's name that tell it from others. */
const MAX_NAME = 256;
const OTHER = 'other';

/** What was left out of one kind. */
export interface Suppressed {
  readonly kind: string;
  readonly lines: number;
  /** The peer that caused most of them, as far as it is remembered. */
  readonly mostOf: string;
}

interface Kind {
  readonly bucket: TokenBucket;
  suppressed: number;
  most: number;
  mostOf: string;
}

interface Pair {
  readonly bucket: TokenBucket;
  /** Since the last report. */
  suppressed: number;
}

export class LineLimits {
  readonly #kinds = new Map<string, Kind>();
  /** In order of last use. */
  readonly #pairs = new Map<string, Pair>();
  #suppressed = 0;

  /** Lines left out since the start. */
  get suppressed(): number {
    return this.#suppressed;
  }

  /** Pairs of kind and peer that are remembered. */
  get pairs(): number {
    return this.#pairs.size;
  }

  /** Whether a line of this kind about this peer may be written. */
  take(now: Instant, kind: string, peer: string): boolean {
    const group = this.#kinds.size < MAX_KINDS || this.#kinds.has(kind) ? kind : OTHER;
    const of = this.#kind(group);
    const name = peer.slice(0, MAX_NAME);
    const pair = this.#pair(`${group}\0${name}`);
    if (pair.bucket.take(now) && of.bucket.take(now)) return true;
    this.#suppressed++;
    of.suppressed++;
    pair.suppressed++;
    if (pair.suppressed > of.most) {
      of.most = pair.suppressed;
      of.mostOf = name;
    }
    return false;
  }

  /** What was left out since the last call, one entry per kind. */
  report(): Suppressed[] {
    const told: Suppressed[] = [];
    for (const [kind, of] of this.#kinds) {
      if (of.suppressed === 0) continue;
      told.push({ kind, lines: of.suppressed, mostOf: of.mostOf });
      of.suppressed = 0;
      of.most = 0;
    }
    for (const pair of this.#pairs.values()) pair.suppressed = 0;
    return told;
  }

  #kind(kind: string): Kind {
    let of = this.#kinds.get(kind);
    if (of === undefined) {
      of = { bucket: new TokenBucket(KIND_RATE, KIND_BURST), suppressed: 0, most: 0, mostOf: '' };
      this.#kinds.set(kind, of);
    }
    return of;
  }

  #pair(key: string): Pair {
    const pair = this.#pairs.get(key) ?? { bucket: new TokenBucket(PEER_RATE, PEER_BURST), suppressed: 0 };
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    if (this.#pairs.size > MAX_PAIRS) {
      const oldest = this.#pairs.keys().next();
      if (oldest.done !== true) this.#pairs.delete(oldest.value);
    }
    return pair;
  }
}
