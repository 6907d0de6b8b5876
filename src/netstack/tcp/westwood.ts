/**
 * CUBIC that falls, after a loss, to what the path was seen to carry rather than to a fixed share of the window: losses
 * that are not caused by a full queue (radio, a lossy link below a tunnel) then cost next to nothing.
 *
 *   rate = most bytes delivered in one of the last rounds, per µs
 *   threshold after a loss = max(CUBIC's, min(flight, rate · least RTT))
 *
 * With a full queue the flight exceeds rate · least RTT by what waits in it, so that the queue is emptied as usual.
 * After Mascolo et al., "TCP Westwood: bandwidth estimation for enhanced transport" (2001), with the greatest sample of a
 * few rounds in place of a low-pass filter: a round that stood still for want of receive window says nothing of the path.
 */
import type { Instant } from '../../base/time.js';
import { Cubic } from './cubic.js';

/** A sample counts for at least this many rounds, and for at most twice as many. */
const ROUNDS = 5;
/** Samples over shorter times would measure bursts, µs. */
const SHORTEST = 10_000;

export class Westwood extends Cubic {
  /** Greatest sample of the current rounds and of those before, bytes per µs. */
  #current = 0;
  #before = 0;
  #rounds = 0;
  #since = -1;
  #bytes = 0;
  #least = 0;

  delivered(now: Instant, bytes: number, least: number): void {
    this.#least = least;
    this.#bytes += bytes;
    if (this.#since < 0) {
      this.#since = now;
      this.#bytes = 0;
      return;
    }
    const span = now - this.#since;
    if (span < Math.max(least, SHORTEST)) return;
    this.#current = Math.max(this.#current, this.#bytes / span);
    this.#since = now;
    this.#bytes = 0;
    if (++this.#rounds < ROUNDS) return;
    this.#rounds = 0;
    this.#before = this.#current;
    this.#current = 0;
  }

  override lost(now: Instant, flight: number): void {
    super.lost(now, flight);
    this.#raise(flight);
  }

  override timedOut(now: Instant, flight: number): void {
    super.timedOut(now, flight);
    this.#raise(flight);
  }

  #raise(flight: number): void {
    const rate = Math.max(this.#current, this.#before);
    this.threshold = Math.max(this.threshold, Math.min(flight, rate * this.#least));
  }
}
