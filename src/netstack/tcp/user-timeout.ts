/**
 * The user timeout option: each end says how long it will keep data unacknowledged, and both may wait as long as the longer.
 *
 *   field: G · 15 bits     G = 0: seconds, G = 1: minutes     0 = says nothing
 *
 * RFC 5482 §2–3.1: timeout = min(U_LIMIT, max(ours, theirs, L_LIMIT)).
 */
import { type Duration, Micros, Seconds } from '../../base/time.js';

const MINUTES = 0x8000;
const MOST = 0x7fff;
/** A peer cannot make this end give up sooner than RFC 1122 §4.2.3.5 wants (R2), nor hold its memory for longer than an hour. */
const LOWER_LIMIT = Seconds(100);
const UPPER_LIMIT = Seconds(3600);

/** The field for `timeout`, rounded up. */
export function userTimeoutField(timeout: Duration): number {
  const seconds = Math.ceil(timeout / 1e6);
  return seconds <= MOST ? seconds : MINUTES | Math.min(Math.ceil(seconds / 60), MOST);
}

/** The timeout to use when the peer's field says `field` and this end would take `ours`. */
export function agreedUserTimeout(ours: Duration, field: number): Duration {
  const theirs = (field & MOST) * ((field & MINUTES) !== 0 ? 60 : 1) * 1e6;
  if (theirs === 0) return ours;
  return Micros(Math.min(Math.max(ours, theirs, LOWER_LIMIT), Math.max(UPPER_LIMIT, ours)));
}
