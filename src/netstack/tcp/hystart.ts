/**
 * HyStart++: leaves the first slow start when round trips grow, before the queue overflows, by way of a slower phase that
 * can be taken back.
 *
 *   slow start ──the round's least RTT rose by the threshold──► conservative (a quarter of the growth) ──5 rounds──► over
 *       ▲──────────────────the RTT fell below what it was at entry─────────────┘
 *
 * RFC 9406 §4. Only the first slow start of a connection uses it (§4.3).
 */
import { seqAtOrAfter } from './sequence.js';

/** RFC 9406 §4.2: the rise that counts is an eighth of the round trip, within these bounds, µs. */
const LEAST_RISE = 4_000;
const MOST_RISE = 16_000;
const RISE_DIVISOR = 8;
/** Samples a round must have before it is judged. */
const SAMPLES = 8;
const GROWTH_DIVISOR = 4;
const ROUNDS = 5;

export class HyStart {
  #roundEnd = 0;
  #inRound = false;
  #last = Number.POSITIVE_INFINITY;
  #current = Number.POSITIVE_INFINITY;
  #samples = 0;
  /** Conservative rounds left; 0 = in plain slow start. */
  #left = 0;
  #baseline = 0;
  /** Slow start is over: the window is to become the threshold. */
  isOver = false;

  /** A round trip of `rtt` µs, by an acknowledgement up to `una` while numbers up to `nxt` were out. */
  measured(rtt: number, una: number, nxt: number): void {
    if (this.isOver) return;
    if (!this.#inRound || seqAtOrAfter(una, this.#roundEnd)) this.#beginRound(nxt);
    this.#current = Math.min(this.#current, rtt);
    if (++this.#samples < SAMPLES) return;
    if (this.#left > 0) {
      if (this.#current < this.#baseline) this.#left = 0;
      return;
    }
    const rise = Math.max(LEAST_RISE, Math.min(this.#last / RISE_DIVISOR, MOST_RISE));
    if (this.#current < this.#last + rise) return;
    this.#baseline = this.#current;
    this.#left = ROUNDS;
  }

  /** How far the window grows for `acked` bytes. */
  growth(acked: number): number {
    return this.#left > 0 ? acked / GROWTH_DIVISOR : acked;
  }

  /** The first loss, or the end of slow start: not used again. */
  finish(): void {
    this.isOver = true;
    this.#left = 0;
  }

  #beginRound(nxt: number): void {
    if (this.#left > 0 && --this.#left === 0) {
      this.finish();
      return;
    }
    this.#inRound = true;
    this.#roundEnd = nxt;
    this.#last = this.#current;
    this.#current = Number.POSITIVE_INFINITY;
    this.#samples = 0;
  }
}
