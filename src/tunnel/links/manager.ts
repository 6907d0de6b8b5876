/**
 * Which of a session's links is in use, at one end. The agent's manager decides, by rank; the connector's follows what the
 * agent says, and deviates only while that link is suspect for it. Either way packets may come on any link, so ends that
 * disagree lose nothing.
 *
 *   in use, fine ──1 heartbeat missed, or losses──► suspect: copies on the best other link too
 *        ▲                                            │ 3 missed, or 20 points more loss than the other
 *        └── 1 s without trouble ◄────────────────────┤
 *                                                     ▼
 *                              the other is in use; back after 2, 4, 8 … s and as many good heartbeats
 *
 * Heartbeats run while packets do, or for half a minute while a suspicion is open, and there are two links at least; an idle
 * session has no timer here.
 */
import { TokenBucket } from '../../base/bucket.js';
import type { Counters } from '../../base/counters.js';
import { type Duration, earliest, elapsed, type Instant, instantAt, later, Millis, Seconds } from '../../base/time.js';
import { COPY_HEADER, emptyHeartbeat, HEARTBEAT_LENGTH, putCopy, putHeartbeat, readHeartbeat } from './frames.js';
import { FAST_INTERVAL, type Pace } from './health.js';
import { isDead, rankOfTrouble, troubleOf, whyLeave } from './judgement.js';
import { ManagedLink, type ManagedLinkOptions, Tier } from './managed-link.js';
import type { HeldPath, PathChoice } from './path-choice.js';
import { preferred, whyBetter } from './rank.js';
import type { LinkCounter, LinkReason } from './states.js';

/** Traffic counts as flowing this long after a packet: long enough to find out that its link is dead. */
const TRAFFIC_HOLD: Duration = Seconds(1);
/** After a suspicion links are watched this long though nothing flows: long enough to be dead, or to be used again. */
const WATCH_TIME: Duration = Seconds(30);
/** A suspect link without trouble for this long is trusted again. */
const RECOVERY: Duration = Seconds(1);
/** A switch for a better rank within a tier comes no sooner after the last one. */
const PLANNED_SPACING: Duration = Seconds(2);
/** Copies go on for this long when another link of the tier, or the agent's choice, has taken a suspect one's place: by then heartbeats tell how it is. */
const AFTER_TROUBLE: Duration = Seconds(2);
/** The peer's copies are answered by copies this long. */
const MIRROR_TIME: Duration = Millis(500);
/** A link that has rested this long may have died unnoticed, as NATs forget: the first packets go out on two. */
const REST: Duration = Seconds(10);
/** By then a heartbeat has been missed, or has not. */
const AFTER_REST: Duration = Millis(250);
/** QUIC's figures are looked at no more often than this. */
const FIGURES_INTERVAL: Duration = Millis(25);
/** Bytes of copies a second while fewer than two heartbeats are missed: an overloaded path must not get twice the load. */
const COPY_RATE = 2_500_000;
const COPY_BURST = 250_000;

/** Reasons that the link left shows too; otherwise another one was merely better. */
const LEFT: ReadonlySet<LinkReason> = new Set(['drained', 'operator', 'three_missed', 'heavy_loss', 'large_lost']);

export interface LinkManagerOptions {
  /** The agent decides, the connector follows. */
  readonly decides: boolean;
  readonly path: PathChoice;
  readonly counters: Counters<LinkCounter>;
  /** Another link is in use now, or none. */
  readonly onActive: (now: Instant, link: ManagedLink | undefined, reason: LinkReason) => void;
  /** A direct link is dead; the driver closes it. It is removed already. */
  readonly onDead: (now: Instant, link: ManagedLink) => void;
}

export class LinkManager {
  readonly links: ManagedLink[] = [];
  /** The link that packets take. */
  active: ManagedLink | undefined;
  activeSince: Instant = instantAt(Number.NEGATIVE_INFINITY);
  activeReason: LinkReason = 'only_link';
  /** The link that gets copies of them too. */
  copyTo: ManagedLink | undefined;
  #path: PathChoice;
  /** The link that packets took lately that are held to its kind, which the active one is not of. */
  #held: ManagedLink | undefined;
  #heldUsed: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #followed: number | undefined;
  #word = -1;
  #lastTraffic: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #watchUntil: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #copyUntil: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #troubleUntil: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #lastAlarm: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #lastFigures: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #missed = 0;
  readonly #budget = new TokenBucket(COPY_RATE, COPY_BURST);
  readonly #options: LinkManagerOptions;
  readonly #heard = emptyHeartbeat();

  constructor(options: LinkManagerOptions) {
    this.#options = options;
    this.#path = options.path;
  }

  /** A link whose way has been proved; it is not used before `live`. */
  add(now: Instant, options: Omit<ManagedLinkOptions, 'counters'>): ManagedLink {
    const link = new ManagedLink(now, { ...options, counters: this.#options.counters });
    this.links.push(link);
    link.enter(now, 'handshaking', 'punched');
    return link;
  }

  /** Both ends have been verified: packets may take it. */
  live(now: Instant, link: ManagedLink, rtt: Duration): void {
    link.health.seed(rtt);
    link.health.heard(now);
    for (const one of this.links)
      if (one !== link && one.tier === link.tier && one.isV6 === link.isV6) link.succeed(one);
    if (link.enter(now, 'standby', 'handshake_done')) this.#choose(now);
  }

  /** The link has ended. */
  remove(now: Instant, link: ManagedLink, reason: LinkReason): void {
    const at = this.links.indexOf(link);
    if (at < 0) return;
    this.links.splice(at, 1);
    const wasSuspect = link.state === 'suspect';
    link.enter(now, 'dead', reason);
    if (this.copyTo === link) this.copyTo = undefined;
    if (this.active !== link) return;
    this.#choose(now);
    if (wasSuspect) this.#doubt(now, link);
  }

  /** The link's relay goes away. */
  drain(now: Instant, link: ManagedLink): void {
    link.isDrained = true;
    this.#choose(now);
  }

  setPath(now: Instant, path: PathChoice): void {
    this.#path = path;
    this.copyTo = undefined;
    this.#choose(now);
  }

  /** The agent's `n`-th word: it uses this link now (connector). What it said before, and comes later, is not followed. */
  follow(now: Instant, n: number, number: number): void {
    if (n <= this.#word) return;
    this.#word = n;
    this.#followed = number;
    this.#choose(now);
  }

  /**
   * The link for packets that are held to links of one kind, whatever the others take; undefined: there is none. It stays the same
   * while it is in order. Nothing is copied for such packets while they do not take the active link.
   */
  linkOn(now: Instant, path: HeldPath): ManagedLink | undefined {
    const { active } = this;
    if (active !== undefined && isOn(active, path)) return active;
    const held = this.#held;
    if (
      held === undefined ||
      !isOn(held, path) ||
      held.state !== 'standby' ||
      held.isDrained ||
      !this.#isAllowed(held)
    ) {
      this.#held = undefined;
      for (const link of this.links) {
        if (!isOn(link, path) || !this.#isAllowed(link)) continue;
        this.#held = this.#held === undefined ? link : this.#better(now, link, this.#held);
      }
    }
    this.#heldUsed = now;
    return this.#held;
  }

  /** Packets of the session go or have come. Returns whether it was quiet before: `turn` is wanted. */
  traffic(now: Instant): boolean {
    const wasQuiet = !this.#isFlowing(now);
    const last = Math.max(this.#lastTraffic, this.activeSince) as Instant;
    const rested = elapsed(last, now) >= REST;
    this.#lastTraffic = now;
    if (this.links.length < 2) return false;
    if (rested) {
      this.#copyUntil = later(now, AFTER_REST);
      this.#chooseCopies(now);
    }
    return wasQuiet;
  }

  /** A copy has come, or the peer's word that it suspects a link. */
  onCopy(now: Instant, isMirrored: boolean): void {
    this.#options.counters.add('copies_in');
    if (isMirrored) return;
    this.#copyUntil = later(now, MIRROR_TIME);
    if (this.copyTo === undefined) this.#chooseCopies(now);
  }

  /** A heartbeat has come on `link`. False: it is malformed. */
  onBeat(now: Instant, link: ManagedLink, bytes: Uint8Array, offset: number, length: number): boolean {
    if (!readHeartbeat(bytes, offset, length, this.#heard)) return false;
    this.#options.counters.add('beats_in');
    link.health.onBeat(now, this.#heard);
    return true;
  }

  /** Whether copies made now are only an answer to the peer's. */
  isMirroring(now: Instant): boolean {
    return !this.#isInTrouble(now);
  }

  /** Whether the link in use is suspect, or stands for one that was. */
  #isInTrouble(now: Instant): boolean {
    return this.active?.state === 'suspect' || now < this.#troubleUntil;
  }

  /** Whether a packet of `bytes` bytes may go out twice. */
  mayCopy(now: Instant, bytes: number): boolean {
    if (this.#missed >= 2 || this.#budget.take(now, bytes)) return true;
    this.#options.counters.add('copies_over_limit');
    return false;
  }

  /** Runs what is due; cheap when nothing is. */
  turn(now: Instant): void {
    const isFlowing = this.#isFlowing(now) && this.links.length > 1;
    if (isFlowing) {
      this.#noteFigures(now);
      for (let i = this.links.length - 1; i >= 0; i--) this.#judge(now, this.links[i]!);
      this.#choose(now);
    }
    if (isFlowing) this.#alarm(now);
    for (const link of this.links) {
      link.health.setPace(now, isFlowing ? this.#paceOf(now, link) : 'none');
      if ((link.health.beatDue ?? now + 1) <= now) this.#sendBeat(now, link);
    }
  }

  /** When `turn` wants to be called; undefined: not by itself. */
  nextTimeout(now: Instant): Instant | undefined {
    let next: Instant | undefined;
    for (const link of this.links) {
      next = earliest(next, link.health.beatDue);
      if (link.health.pace === 'none') continue;
      next = earliest(next, link.health.missDue(link.health.missed(now)));
    }
    return next;
  }

  #isFlowing(now: Instant): boolean {
    return elapsed(this.#lastTraffic, now) < TRAFFIC_HOLD || (now < this.#watchUntil && this.#isOpen());
  }

  /** Whether it is not known yet what becomes of some link. */
  #isOpen(): boolean {
    for (const link of this.links) if (link.state === 'suspect' || this.#isWaitedFor(link)) return true;
    return false;
  }

  /** Whether it would be in use, had it not failed. */
  #isWaitedFor(link: ManagedLink): boolean {
    const { active } = this;
    if (active === undefined || link === active || link.trialFrom === undefined || !link.isUsable) return false;
    return link.tier < active.tier;
  }

  #isAllowed(link: ManagedLink): boolean {
    return link.isUsable && (this.#path === 'auto' || isOn(link, this.#path));
  }

  #noteFigures(now: Instant): void {
    const { active } = this;
    if (active === undefined || elapsed(this.#lastFigures, now) < FIGURES_INTERVAL) return;
    this.#lastFigures = now;
    const figures = active.connection.stats();
    if (figures !== undefined) active.losses.note(now, figures);
  }

  /** Suspects a link, or trusts it again, by what is known now. */
  #judge(now: Instant, link: ManagedLink): void {
    const { health } = link;
    if (!link.isUsable || health.pace === 'none') return;
    if (health.missedDown(now) > 0) health.heard(later(now, -link.connection.silentFor(now) as Duration));
    const trouble = troubleOf(now, link);
    if (link === this.active) this.#missed = health.missed(now);
    if (trouble !== undefined) {
      link.troubledAt = now;
      if (link.state !== 'suspect') this.#watchUntil = later(now, WATCH_TIME);
      link.enter(now, 'suspect', trouble);
      if (isDead(now, link)) this.#bury(now, link);
    } else if (link.state === 'suspect' && elapsed(link.troubledAt, now) >= RECOVERY) {
      link.enter(now, link === this.active ? 'active' : 'standby', 'recovered');
    }
  }

  #bury(now: Instant, link: ManagedLink): void {
    this.remove(now, link, 'silent');
    this.#options.onDead(now, link);
  }

  #choose(now: Instant): void {
    const { active } = this;
    if (active === undefined || !this.#isAllowed(active)) this.#chooseAny(now);
    else if (active.state === 'suspect') this.#leaveIfWorse(now, active);
    else this.#improve(now, active);
    this.#chooseCopies(now);
  }

  /** There is none, or the one there was may not be used any more. */
  #chooseAny(now: Instant): void {
    const wanted = this.#told();
    const best = wanted ?? this.#bestOther(now, undefined);
    if (best === undefined && this.active === undefined) return;
    this.#use(now, best, this.#whyAny(best, wanted !== undefined));
  }

  #whyAny(best: ManagedLink | undefined, isTold: boolean): LinkReason {
    if (this.active?.isUsable) return 'operator';
    if (best === undefined) return 'closed';
    if (isTold) return 'told_by_agent';
    return this.links.some((link) => link !== best && this.#isAllowed(link)) ? 'best_rank' : 'only_link';
  }

  #leaveIfWorse(now: Instant, active: ManagedLink): void {
    // The agent has left it. What has come since on the link that it names shows that this one lives, on the way here at least.
    const told = this.#told();
    if (told !== undefined && told !== active && told.health.lastHeard > active.since) {
      this.#use(now, told, 'told_by_agent');
      this.#copyFor(now, AFTER_TROUBLE);
      return;
    }
    const other = this.#bestOther(now, active);
    if (other === undefined || other.state === 'suspect') return;
    const reason = whyLeave(now, active, other);
    if (reason === undefined) return;
    active.failed(now, this.activeSince, reason === 'heavy_loss');
    this.#use(now, other, reason);
  }

  #improve(now: Instant, active: ManagedLink): void {
    if (!this.#options.decides) {
      const told = this.#told();
      if (told !== undefined && told !== active) this.#use(now, told, 'told_by_agent');
      return;
    }
    let best: ManagedLink | undefined;
    let reason: LinkReason | undefined;
    for (const link of this.links) {
      if (link === active || link.state !== 'standby' || !this.#isAllowed(link)) continue;
      const why = whyBetter(now, link, active);
      if (why === undefined || !link.mayReturn(now, active)) continue;
      if (link.tier === active.tier && why !== 'drained' && elapsed(this.activeSince, now) < PLANNED_SPACING) continue;
      if (best === undefined || preferred(now, link, best) === link) {
        best = link;
        reason = why;
      }
    }
    if (reason !== undefined) this.#use(now, best, reason);
  }

  /** The link the agent has named, while it is here and not suspect. */
  #told(): ManagedLink | undefined {
    if (this.#options.decides || this.#followed === undefined) return undefined;
    for (const link of this.links) {
      if (link.number === this.#followed) return this.#isAllowed(link) && link.state !== 'suspect' ? link : undefined;
    }
    return undefined;
  }

  #bestOther(now: Instant, than: ManagedLink | undefined): ManagedLink | undefined {
    let best: ManagedLink | undefined;
    for (const link of this.links) {
      if (link === than || !this.#isAllowed(link)) continue;
      if (best === undefined || this.#better(now, link, best) === link) best = link;
    }
    return best;
  }

  #better(now: Instant, a: ManagedLink, b: ManagedLink): ManagedLink {
    const difference = rankOfTrouble(now, a) - rankOfTrouble(now, b);
    if (difference !== 0) return difference < 0 ? a : b;
    return preferred(now, a, b);
  }

  #chooseCopies(now: Instant): void {
    const isWanted = this.#isInTrouble(now) || now < this.#copyUntil;
    this.copyTo = isWanted ? this.#bestOther(now, this.active) : undefined;
  }

  #use(now: Instant, link: ManagedLink | undefined, reason: LinkReason): void {
    const old = this.active;
    const wasSuspect = old?.state === 'suspect';
    if (old?.state === 'active') old.enter(now, 'standby', LEFT.has(reason) ? reason : 'lower_rank');
    if (link?.state === 'standby') link.enter(now, 'active', reason);
    link?.losses.reset();
    this.active = link;
    this.activeSince = now;
    this.activeReason = reason;
    this.#missed = 0;
    if (old !== undefined && link !== undefined) this.#options.counters.add('switches');
    if (wasSuspect) this.#doubt(now, old);
    this.#options.onActive(now, link, reason);
  }

  /** What has come in the place of a link in trouble may be the same way, of which nothing is known again. */
  #doubt(now: Instant, before: ManagedLink): void {
    if (this.active?.tier === before.tier) this.#copyFor(now, AFTER_TROUBLE);
  }

  #copyFor(now: Instant, span: Duration): void {
    this.#troubleUntil = later(now, span);
    this.#chooseCopies(now);
  }

  /** Has the peer make copies too, even when there is nothing to copy here: perhaps only its way here is dead. */
  #alarm(now: Instant): void {
    if (this.copyTo === undefined || !this.#isInTrouble(now)) return;
    if (elapsed(this.#lastAlarm, now) < FAST_INTERVAL) return;
    this.#lastAlarm = now;
    const bytes = new Uint8Array(COPY_HEADER);
    putCopy(bytes, 0, 0, false);
    this.copyTo.connection.sendDatagram(bytes);
  }

  #paceOf(now: Instant, link: ManagedLink): Pace {
    if (!link.isUsable) return 'none';
    if (link === this.active || link === this.copyTo || link.state === 'suspect') return 'fast';
    if (link === this.#held && elapsed(this.#heldUsed, now) < TRAFFIC_HOLD) return 'fast';
    return this.#isWaitedFor(link) && now >= link.trialFrom! ? 'fast' : 'slow';
  }

  #sendBeat(now: Instant, link: ManagedLink): void {
    const bytes = new Uint8Array(HEARTBEAT_LENGTH);
    putHeartbeat(bytes, 0, link.health.makeBeat(now));
    link.connection.sendDatagram(bytes);
    this.#options.counters.add('beats_out');
  }
}

function isOn(link: ManagedLink, path: HeldPath): boolean {
  return (link.tier === Tier.direct) === (path === 'direct');
}
