/**
 * The round-trip estimate of one connection and the retransmission timeout that follows from it.
 *
 *   first sample R: SRTT = R, RTTVAR = R/2      then: RTTVAR = ¾ RTTVAR + ¼ |SRTT − R|, SRTT = ⅞ SRTT + ⅛ R
 *   RTO = SRTT + max(margin, 4 RTTVAR), at most the cap, doubled per back-off
 *
 * RFC 6298 §2, §5.5–5.7, RFC 4015 §3.3. Samples come from segments sent once (Karn) or from timestamps (RFC 7323 §4). A back-off
 * lasts until one comes: a round trip longer than the timeout would otherwise never be measured.
 */
import { type Duration, Micros, Millis, Seconds } from '../../base/time.js';

/** RFC 6298 §2.1. */
const INITIAL_RTO = Seconds(1);
/** After a handshake that took more than that and was not measured, RFC 6298 §5.7. */
const CAUTIOUS_RTO = Seconds(3);
/**
 * The least that is waited beyond the smoothed round trip: longer than any delayed acknowledgement in use. Lower than the
 * RFC's floor of 1 s for the whole, as Linux and other deployed stacks have it.
 */
const MARGIN = Millis(200);
/** RFC 6298 §2.5 allows any cap ≥ 60 s. */
export const MAX_RTO = Seconds(120);
const MAX_BACKOFF = 10;

export class RttEstimator {
  /** Smoothed round trip; 0 until the first sample. */
  smoothed: Duration = Micros(0);
  variation: Duration = Micros(0);
  /** Lowest sample seen; 0 until the first. */
  least: Duration = Micros(0);
  #base: Duration = INITIAL_RTO;
  backoff = 0;

  sample(rtt: Duration): void {
    const r = Math.max(rtt, 1);
    if (this.smoothed === 0) {
      this.smoothed = Micros(r);
      this.variation = Micros(r / 2);
      this.least = Micros(r);
    } else {
      this.variation = Micros(0.75 * this.variation + 0.25 * Math.abs(this.smoothed - r));
      this.smoothed = Micros(0.875 * this.smoothed + 0.125 * r);
      if (r < this.least) this.least = Micros(r);
    }
    this.#base = Micros(Math.min(this.smoothed + Math.max(MARGIN, 4 * this.variation), MAX_RTO));
    this.backoff = 0;
  }

  /**
   * An acknowledgement came after the timeout that it would have stopped, `rtt` after the segment (RFC 4015 §3.3). Beyond the
   * next timeout it measures an outage, not the path.
   */
  late(rtt: Duration): void {
    if (rtt > 2 * this.#base) return;
    this.smoothed = Micros(Math.max(this.smoothed, rtt));
    this.variation = Micros(Math.max(this.variation, rtt / 2));
    this.#base = Micros(Math.min(this.smoothed + Math.max(MARGIN, 4 * this.variation), MAX_RTO));
    this.backoff = 0;
  }

  /** The timeout to arm now, in µs, back-off included. */
  get timeout(): Duration {
    return Micros(Math.min(this.#base * 2 ** this.backoff, MAX_RTO));
  }

  /** After an expiry: the next timeout is twice as long (RFC 6298 §5.5). */
  backOff(): void {
    if (this.backoff < MAX_BACKOFF) this.backoff++;
  }

  /** The handshake is complete. `again`: its SYN or SYN-ACK was sent more than once. */
  established(again: boolean): void {
    this.backoff = 0;
    if (again && this.smoothed === 0) this.#base = CAUTIOUS_RTO;
  }

  resetBackoff(): void {
    this.backoff = 0;
  }
}
