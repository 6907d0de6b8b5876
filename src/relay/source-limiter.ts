/**
 * At most one answer per source and interval, in fixed memory: a direct-mapped table of the last sources. Two sources that
 * share a place take turns, which errs towards silence; a flood from many sources is bounded by the table's size per
 * interval.
 */
import { ADDRESS_WORDS } from '../base/address.js';
import { type Duration, elapsed, type Instant } from '../base/time.js';

const PLACES = 4096;

export class SourceLimiter {
  readonly #interval: Duration;
  readonly #last = new Float64Array(PLACES).fill(Number.NEGATIVE_INFINITY);

  constructor(interval: Duration) {
    this.#interval = interval;
  }

  /** Whether the source at `index` of a packed table may be answered now. */
  admit(now: Instant, addresses: Uint32Array, index: number): boolean {
    const at = index * ADDRESS_WORDS;
    let hash = addresses[at]! ^ Math.imul(addresses[at + 1]!, 0x85ebca6b);
    hash ^= Math.imul(addresses[at + 2]!, 0xc2b2ae35) ^ Math.imul(addresses[at + 3]!, 0x9e3779b1);
    hash ^= Math.imul(addresses[at + 4]!, 0x27d4eb2f);
    hash ^= hash >>> 15;
    const place = Math.imul(hash, 0x2c1b3c6d) >>> 20;
    if (elapsed(this.#last[place]! as Instant, now) < this.#interval) return false;
    this.#last[place] = now;
    return true;
  }
}
