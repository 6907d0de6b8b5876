/**
 * Spreads what a sender may send over time: credit grows at the pacing rate and is spent by sending. Bursts are as long as
 * a super-segment, so that the work stays per burst and not per packet.
 *
 *   credit(now) = min(burst + slack, credit(last) + (now − last) · rate)         a burst goes out once `burst` has come together
 */
import type { Instant } from '../../base/time.js';

/** A driver may wake up this much late without loss of rate, µs. */
const SLACK = 2_000;
/** A burst is what the rate makes in this time, µs (draft-ietf-ccwg-bbr §5.6.3's send quantum), within the bounds below. */
const BURST_TIME = 1_000;
const LONGEST_BURST = 65_536;
const SEGMENTS = 2;

export class Pacer {
  #credit = 0;
  #at = -1;
  #burst = 0;

  /** The longest burst at `rate` bytes per µs. */
  static burst(rate: number, segment: number): number {
    return Math.min(Math.max(rate * BURST_TIME, SEGMENTS * segment), Math.max(LONGEST_BURST, segment));
  }

  /** Bytes that may go now at `rate` bytes per µs. */
  available(now: Instant, rate: number, segment: number): number {
    this.#burst = Pacer.burst(rate, segment);
    const most = this.#burst + rate * SLACK;
    this.#credit = this.#at < 0 ? most : Math.min(this.#credit + (now - this.#at) * rate, most);
    this.#at = now;
    return this.#credit;
  }

  spend(bytes: number): void {
    this.#credit -= bytes;
  }

  /** How long until a burst, or the `wanted` bytes if they are fewer, may go, µs; asked after `available` said too little. */
  wait(rate: number, wanted: number): number {
    return Math.max((Math.min(this.#burst, wanted) - this.#credit) / rate, 1);
  }
}
