/**
 * Packetization-layer path MTU discovery of one sender: gets round paths that swallow large segments without a word, and finds
 * out when larger ones pass again. Sizes are payload bytes of a segment; what counts is whether a segment arrives, never ICMP.
 *
 *   known ──third timeout in a row (fourth: less)──► base size ─► search: the largest first, then halves        (black hole, RFC 4821 §7.7)
 *     ▲ └─told "too big" by ICMP────► that size ─┐
 *     │                                          ▼
 *     └─ nothing larger passes ◄── searched ── after 10 min: search (RFC 8899 §5.1.1: PMTU_RAISE_TIMER)
 *
 * A probe is the next data of the stream in one larger segment; when it alone is lost, that is no sign of congestion
 * (RFC 4821 §7.4). Three losses make a size too large (RFC 8899 §5.1.2: MAX_PROBES), for single ones may be chance.
 */
import { Millis, Minutes } from '../../base/time.js';
import { NEVER } from './state.js';

/** Timeouts in a row that make large segments suspect: before, loss or an outage is likelier. */
const SUSPECT_TIMEOUTS = 3;
/** As many more as runs of timeouts that ended with a large segment arriving after all, up to this: such a path loses much. */
const MORE_TIMEOUTS = 5;
const RAISE_AFTER = Minutes(10);
const MAX_PROBES = 3;
/** After a lost probe: whatever the round trip, few probes a second are lost. */
const PAUSE = Millis(500);
/** The search ends when the bounds are so close, bytes. */
const CLOSE = 16;

export const Probe = { none: 0, out: 1, lost: 2 } as const;

export class PathMtu {
  /** The probe in flight: its state, first number and the one after its last. */
  state: number = Probe.none;
  from = 0;
  to = 0;
  /** Largest size that may pass at all: what the peer and this end allow. */
  #most = 0;
  /** Largest size known to pass, and largest that may. */
  #low = 0;
  #high = 0;
  /** The next probe is of the size `#high` itself. */
  #bold = false;
  #tries = 0;
  #survived = 0;
  #nextAt: number = NEVER;

  /** Segments of `size` are what both ends agreed on. */
  start(size: number): void {
    this.#most = size;
    this.#low = size;
    this.#high = size;
    this.#nextAt = NEVER;
  }

  /** ICMP said that no more than `size` passes. */
  told(now: number, size: number): void {
    this.#low = size;
    this.#high = size;
    this.#nextAt = now + RAISE_AFTER;
  }

  /** Large segments do not seem to arrive; `size` from now on. What was sent until now is tried first, in case it was an outage. */
  suspect(now: number, size: number): void {
    this.state = Probe.none;
    this.#low = size;
    this.#high = this.#most;
    this.#bold = true;
    this.#tries = 0;
    this.#nextAt = now;
  }

  /** A segment of full size arrived after timeouts. */
  survived(): void {
    if (this.#survived < MORE_TIMEOUTS) this.#survived++;
  }

  /** Timeouts in a row after which large segments are suspect. */
  get patience(): number {
    return SUSPECT_TIMEOUTS + this.#survived;
  }

  /** The size to be tried now, 0 = none. */
  due(now: number): number {
    if (now < this.#nextAt || this.state !== Probe.none || this.#low >= this.#most) return 0;
    if (this.#high - this.#low < CLOSE) {
      // The last search is over and has rested for its time.
      this.#high = this.#most;
      this.#bold = true;
    }
    return this.#bold ? this.#high : (this.#low + this.#high + 1) >> 1;
  }

  sent(from: number, to: number): void {
    this.state = Probe.out;
    this.from = from;
    this.to = to;
  }

  /** The probe has arrived. Returns the size that segments may have now. */
  arrived(now: number): number {
    this.state = Probe.none;
    this.#low = (this.to - this.from) | 0;
    this.#high = Math.max(this.#high, this.#low);
    this.#bold = false;
    this.#tries = 0;
    this.#nextAt = this.#searching() ? now : now + RAISE_AFTER;
    return this.#low;
  }

  /** The probe alone is lost: it will be sent again in smaller segments. */
  lost(now: number): void {
    this.state = Probe.lost;
    this.#nextAt = now + PAUSE;
    if (++this.#tries < MAX_PROBES) return;
    this.#tries = 0;
    this.#bold = false;
    this.#high = ((this.to - this.from) | 0) - 1;
    if (!this.#searching()) this.#nextAt = now + RAISE_AFTER;
  }

  /** The timer expired for the segment at `head`: the probe, where too little followed for its loss to show otherwise, or another. */
  timedOut(now: number, head: number): void {
    if (head === this.from) this.lost(now);
    else this.inconclusive(now);
    this.state = Probe.none;
  }

  /** Other segments were lost with it, or all are sent again: it says nothing. */
  inconclusive(now: number): void {
    this.state = Probe.none;
    this.#nextAt = now + PAUSE;
  }

  #searching(): boolean {
    return this.#high - this.#low >= CLOSE;
  }
}
