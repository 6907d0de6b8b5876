/**
 * One link of a session as the link manager sees it: its state, its health, and how soon it may be trusted again after it was
 * left (2, 4, 8 … 64 s; forgotten after a minute of good service).
 */
import type { Counters } from '../../base/counters.js';
import { type Duration, elapsed, type Instant, instantAt, later, Minutes, Seconds } from '../../base/time.js';
import { LOSS_WINDOW } from './beat-history.js';
import { FAST_INTERVAL, LinkHealth } from './health.js';
import { type LinkFigures, LossAlarm } from './loss-alarm.js';
import { type LinkCounter, type LinkReason, type ManagedState, mayEnter } from './states.js';

/** Ways of a link, best first. */
export const Tier = { direct: 0, relayUdp: 1, relayTcp: 2 } as const;
export type Tier = (typeof Tier)[keyof typeof Tier];

const FIRST_WAIT: Duration = Seconds(2);
const LONGEST_WAIT: Duration = Seconds(64);
/** Good service after which earlier failures no longer count. */
const FORGIVEN: Duration = Minutes(1);
/** Heartbeats that must all have come before a link that failed is used again: those of the wait, 32 at most. */
const LONGEST_TRIAL = 32;

/** The link's connection; `QuicConnection` is one. */
export interface LinkConnection {
  silentFor(now: Instant): Duration;
  sendDatagram(bytes: Uint8Array): boolean;
  stats(): LinkFigures | undefined;
}

export interface ManagedLinkOptions {
  readonly tier: Tier;
  readonly isV6: boolean;
  /** The agent's number of it. */
  readonly number: number;
  readonly connection: LinkConnection;
  readonly counters: Counters<LinkCounter>;
}

export class ManagedLink {
  readonly tier: Tier;
  readonly isV6: boolean;
  readonly number: number;
  readonly connection: LinkConnection;
  readonly health = new LinkHealth();
  readonly losses = new LossAlarm();
  /** The relay it takes goes away: only used when there is no other. */
  isDrained = false;
  since: Instant;
  reason: LinkReason = 'punched';
  /** The last instant at which something was wrong with it. */
  troubledAt: Instant = instantAt(Number.NEGATIVE_INFINITY);
  /** When it may be chosen by rank again. */
  returnAt: Instant = instantAt(Number.NEGATIVE_INFINITY);
  #failures = 0;
  /** It was last left because it loses packets. */
  #isLossy = false;
  #state: ManagedState = 'proving';
  readonly #counters: Counters<LinkCounter>;

  constructor(now: Instant, options: ManagedLinkOptions) {
    this.tier = options.tier;
    this.isV6 = options.isV6;
    this.number = options.number;
    this.connection = options.connection;
    this.#counters = options.counters;
    this.since = now;
  }

  get state(): ManagedState {
    return this.#state;
  }

  /** Whether packets may go out on it. */
  get isUsable(): boolean {
    return this.#state === 'standby' || this.#state === 'active' || this.#state === 'suspect';
  }

  /** The only way from state to state. False: there is no such step; nothing has changed but a counter. */
  enter(now: Instant, state: ManagedState, reason: LinkReason): boolean {
    if (state === this.#state) return true;
    if (!mayEnter(this.#state, state)) {
      this.#counters.add('illegal_steps');
      return false;
    }
    this.#state = state;
    this.since = now;
    this.reason = reason;
    this.#counters.add(`state_${state}`);
    this.#counters.add(`why_${reason}`);
    return true;
  }

  /** It was in use, since `since`, and failed: it is waited for, longer each time. */
  failed(now: Instant, since: Instant, isLossy: boolean): void {
    if (elapsed(since, now) > FORGIVEN) this.#failures = 0;
    this.#isLossy = isLossy;
    const wait = Math.min(FIRST_WAIT * 2 ** this.#failures, LONGEST_WAIT) as Duration;
    this.#failures++;
    this.returnAt = later(now, wait);
  }

  /** Takes the place of `before`: that a handshake has come through is no proof that the way loses less than it did. */
  succeed(before: ManagedLink): void {
    if (!before.#isLossy) return;
    this.#isLossy = true;
    this.#failures = before.#failures;
    this.returnAt = before.returnAt;
  }

  /** When heartbeats at the full pace begin to tell whether it may be used again; undefined for a link that never failed. */
  get trialFrom(): Instant | undefined {
    return this.#failures === 0 ? undefined : later(this.returnAt, (-this.#trial() * FAST_INTERVAL) as Duration);
  }

  /** Whether it has served its wait, and lost no more heartbeats at the end of it than `other` did. */
  mayReturn(now: Instant, other: ManagedLink): boolean {
    if (this.#failures === 0) return true;
    if (now < this.returnAt || this.health.known < this.#trial()) return false;
    return this.health.loss(now, this.#trial()) <= other.health.loss(now, this.#trial());
  }

  #trial(): number {
    return this.#failures <= 1 ? LOSS_WINDOW : LONGEST_TRIAL;
  }
}
