/**
 * Which of two links is the better one, all being well: tier (direct, relay over UDP, relay over TCP), then the round trip
 * with 5 ms of stickiness beyond their jitter, then loss, then IPv6.
 */
import { type Duration, type Instant, Millis } from '../../base/time.js';
import type { ManagedLink } from './managed-link.js';
import type { LinkReason } from './states.js';

/** A shorter round trip is worth a switch only beyond this. */
export const RTT_STICKINESS: Duration = Millis(5);
/** Share of heartbeats by which a link of the same tier must lose less. */
const LOSS_STICKINESS = 0.1;
/** Round trips to be measured on both before they are compared. */
const MIN_SAMPLES = 4;

/** Why `candidate` is better than `current`; undefined when it is not. */
export function whyBetter(now: Instant, candidate: ManagedLink, current: ManagedLink): LinkReason | undefined {
  if (candidate.isDrained !== current.isDrained) return current.isDrained ? 'drained' : undefined;
  if (candidate.tier !== current.tier) return candidate.tier < current.tier ? 'best_rank' : undefined;
  const a = candidate.health;
  const b = current.health;
  if (a.samples < MIN_SAMPLES || b.samples < MIN_SAMPLES) return undefined;
  const apart = Math.abs(a.srtt - b.srtt);
  if (apart > RTT_STICKINESS + a.rttvar + b.rttvar) return a.srtt < b.srtt ? 'lower_rtt' : undefined;
  const loss = b.loss(now) - a.loss(now);
  if (Math.abs(loss) > LOSS_STICKINESS) return loss > 0 ? 'less_loss' : undefined;
  return apart < RTT_STICKINESS && candidate.isV6 && !current.isV6 ? 'best_rank' : undefined;
}

/** The better one to take when neither is in use; measurements count as far as there are any. */
export function preferred(now: Instant, a: ManagedLink, b: ManagedLink): ManagedLink {
  if (a.isDrained !== b.isDrained) return a.isDrained ? b : a;
  if (a.tier !== b.tier) return a.tier < b.tier ? a : b;
  if (Math.abs(a.health.srtt - b.health.srtt) > RTT_STICKINESS) return a.health.srtt < b.health.srtt ? a : b;
  const loss = a.health.loss(now) - b.health.loss(now);
  if (loss !== 0) return loss < 0 ? a : b;
  if (a.isV6 !== b.isV6) return a.isV6 ? a : b;
  return a.number < b.number ? a : b;
}
