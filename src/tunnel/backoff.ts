/**
 * The delay before the next attempt to reconnect: 1, 2, 4, 8, 16, 30 s, each ±25 % so that a relay's nodes do not come back
 * as a herd; reset by a completed handshake, and capped at 2 s while a session has packets waiting.
 */
import type { Entropy } from '../base/entropy.js';
import { type Duration, Seconds } from '../base/time.js';

/** Base delays; the last repeats. */
export const RECONNECT_DELAYS: readonly Duration[] = [1, 2, 4, 8, 16, 30].map(Seconds);
/** Share of the base delay by which an attempt may come earlier or later. */
export const RECONNECT_JITTER = 0.25;
/** Longest wait while somebody's packets wait for the connection. */
export const RECONNECT_WANTED_CAP: Duration = Seconds(2);

export class Backoff {
  #attempt = 0;
  readonly #entropy: Entropy;

  constructor(entropy: Entropy) {
    this.#entropy = entropy;
  }

  /** Failed attempts since the last success. */
  get attempts(): number {
    return this.#attempt;
  }

  /** The delay before the next attempt; counts it. */
  next(wanted: boolean): Duration {
    const base = RECONNECT_DELAYS[Math.min(this.#attempt, RECONNECT_DELAYS.length - 1)]!;
    this.#attempt++;
    const capped = wanted ? Math.min(base, RECONNECT_WANTED_CAP) : base;
    const unit = this.#entropy.uint32() / 0x1_0000_0000;
    return (capped * (1 - RECONNECT_JITTER + 2 * RECONNECT_JITTER * unit)) as Duration;
  }

  reset(): void {
    this.#attempt = 0;
  }
}
