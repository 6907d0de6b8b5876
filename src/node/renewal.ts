/** When what ends with its certificates is made anew, ahead of their end: links and relay connections alike. */
import { type Duration, type Instant, later, Millis, Minutes, scale, type WallTime } from '../base/time.js';

/** Certificates that end sooner are not outlived by a newer connection either. */
const LEAST_LIFETIME: Duration = Minutes(1);

/** Five sixths of the way to the end of the certificates (protocol.md §4); undefined when that is too near to be worth it. */
export function renewalOf(now: Instant, wall: WallTime, expiry: WallTime): Instant | undefined {
  const left = Millis(expiry - wall);
  return left < LEAST_LIFETIME ? undefined : later(now, scale(left, 5 / 6));
}
