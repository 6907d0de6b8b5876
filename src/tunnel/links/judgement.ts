/** What is held against a link: why it is suspect, why the one in use is left, and when it is dead. */
import { type Duration, elapsed, type Instant, Seconds } from '../../base/time.js';
import { LOSS_WINDOW } from './beat-history.js';
import { type ManagedLink, Tier } from './managed-link.js';
import type { LinkReason } from './states.js';

/** Heartbeats missed at which a link in use is left. */
const LEAVE_MISSED = 3;
/** More lost than on the other link by this share: left. */
const LEAVE_LOSS = 0.2;
/** Packets lost more than heartbeats by this share: the way swallows large ones, and says nothing. */
const LARGE_LOSS = 0.4;
/** Above this share lost a link is no clean one. */
const BAD_LOSS = 0.1;
/** A direct link that has been suspect and silent for this long is dead. */
const DEAD_AFTER: Duration = Seconds(15);

/** Why the link is suspect now; undefined when nothing is held against it. */
export function troubleOf(now: Instant, { health, losses }: ManagedLink): LinkReason | undefined {
  if (health.missedDown(now) > 0) return 'missed_heartbeat';
  if (health.missedUp(now) > 0) return 'upload_unheard';
  return losses.isRinging(now) ? 'packet_loss' : undefined;
}

/** How little of a link there is to hope for: 0 in order, 1 suspect, 2 suspect and silent. */
export function rankOfTrouble(now: Instant, { state, health }: ManagedLink): 0 | 1 | 2 {
  if (state !== 'suspect') return 0;
  return health.missed(now) >= LEAVE_MISSED ? 2 : 1;
}

/** Why the suspect link in use is to be left for the other one; undefined when it is not. */
export function whyLeave(now: Instant, active: ManagedLink, other: ManagedLink): LinkReason | undefined {
  if (active.isDrained && !other.isDrained) return 'drained';
  if (active.health.missed(now) >= LEAVE_MISSED) return 'three_missed';
  if (active.losses.share(now) - active.health.loss(now) >= LARGE_LOSS) return 'large_lost';
  if (active.health.known < LOSS_WINDOW || other.health.known < LOSS_WINDOW) return undefined;
  // Where both are bad, sixteen heartbeats tell too little.
  const window = other.health.loss(now) > BAD_LOSS ? 2 * LOSS_WINDOW : LOSS_WINDOW;
  const difference = active.health.loss(now, window) - other.health.loss(now, window);
  return difference >= LEAVE_LOSS ? 'heavy_loss' : undefined;
}

/** Whether a suspect link is given up; one through the relay lives as long as its channel. */
export function isDead(now: Instant, { tier, health, since }: ManagedLink): boolean {
  return tier === Tier.direct && elapsed(health.lastHeard, now) >= DEAD_AFTER && elapsed(since, now) >= DEAD_AFTER;
}
