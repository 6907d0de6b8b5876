/**
 * How many bytes may wait for a stream that drains at a rate nobody tells: what it has taken in the last moments, times 12 ms.
 *
 *   sampled ─► bytes gone in each window of 20 ms ─► the most of the last six ─► × 12/20 ─► 6 KiB … 256 KiB
 *
 * The room may be filled again as often as it is looked at (every 2 ms), so that a stream that takes more than it is given soon shows it.
 * The most of several windows, as acknowledgements may come in bunches.
 */
import { type Duration, elapsed, type Instant, Millis } from '../base/time.js';

/** Four packets: with fewer, a stream of 5 Mbit/s falls idle between two looks. */
export const LEAST_STREAM_ROOM = 6 * 1024;
/** 2 ms at 1 Gbit/s; as datagrams of full size it fits the receive buffer of a UDP socket (net.core.rmem_max = 212,992, doubled). */
export const MOST_STREAM_ROOM = 256 * 1024;
const FIRST = 16 * 1024;
const WINDOW: Duration = Millis(20);
const WINDOWS = 6;
const DELAY: Duration = Millis(12);

export class StreamRoom {
  /** Bytes, between `LEAST_STREAM_ROOM` and `MOST_STREAM_ROOM`. */
  bytes = FIRST;
  readonly #gone = new Float64Array(WINDOWS);
  #next = 0;
  #since: Instant | undefined;
  #before = 0;

  /**
   * @param gone bytes that the stream has taken since it was opened.
   * @param isBusy something waits, or has since the last call: silence says nothing of the rate.
   */
  sample(now: Instant, gone: number, isBusy: boolean): void {
    if (this.#since === undefined || (!isBusy && gone === this.#before)) {
      this.#since = now;
      this.#before = gone;
      return;
    }
    const took = elapsed(this.#since, now);
    if (took < WINDOW) return;
    this.#gone[this.#next] = ((gone - this.#before) * WINDOW) / took;
    this.#next = (this.#next + 1) % WINDOWS;
    this.#since = now;
    this.#before = gone;
    let most = 0;
    for (const bytes of this.#gone) most = Math.max(most, bytes);
    this.bytes = Math.round(Math.min(MOST_STREAM_ROOM, Math.max(LEAST_STREAM_ROOM, (most * DELAY) / WINDOW)));
  }
}
