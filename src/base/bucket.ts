/**
 * A token bucket: `rate` tokens a second flow in, at most `burst` are kept, and what was not whole stays as a fraction.
 *
 *   tokens(now) = min(burst, tokens(last) + (now − last) · rate)
 */
import { type Duration, type Instant, instantAt, Micros } from './time.js';

const MICROS_PER_SECOND = 1_000_000;

export class TokenBucket {
  readonly #rate: number;
  readonly #burst: number;
  #tokens: number;
  #last: Instant = instantAt(Number.NEGATIVE_INFINITY);

  /**
   * A bucket that starts full.
   * @param rate tokens a second, ≥ 0
   * @param burst most tokens kept; also the most that one `take` can ever get
   */
  constructor(rate: number, burst: number) {
    this.#rate = rate;
    this.#burst = burst;
    this.#tokens = burst;
  }

  get rate(): number {
    return this.#rate;
  }

  get burst(): number {
    return this.#burst;
  }

  /** Takes `n` tokens if they are all there. False takes none. */
  take(now: Instant, n = 1): boolean {
    this.#refill(now);
    if (this.#tokens < n) return false;
    this.#tokens -= n;
    return true;
  }

  /** Takes `n` tokens even if the bucket goes below zero: for costs known only afterwards. */
  spend(now: Instant, n: number): void {
    this.#refill(now);
    this.#tokens -= n;
  }

  /** Tokens there now; a fraction, negative after `spend`. */
  available(now: Instant): number {
    this.#refill(now);
    return this.#tokens;
  }

  /** How long until `n` tokens are there; 0 when they are, Infinity when they never will be. */
  wait(now: Instant, n = 1): Duration {
    this.#refill(now);
    if (this.#tokens >= n) return Micros(0);
    if (n > this.#burst) return Micros(Number.POSITIVE_INFINITY);
    return Micros(((n - this.#tokens) / this.#rate) * MICROS_PER_SECOND);
  }

  /** An instant before the last one changes nothing: time already counted is never counted again. */
  #refill(now: Instant): void {
    const span = now - this.#last;
    if (!(span > 0)) return;
    this.#last = now;
    if (span === Number.POSITIVE_INFINITY) return;
    const tokens = this.#tokens + (span * this.#rate) / MICROS_PER_SECOND;
    this.#tokens = Math.min(tokens, this.#burst);
  }
}
