/**
 * An agent's session with one connector: it owns the flows' way, and links below it come and go.
 *
 *   opening ──channel──► linking ──welcome──► live ──link or channel lost──► opening …
 *      ▲                    │                                                 (30 min without a packet: closed)
 *      └──── back-off ◄─────┘ refused, timed out
 */
import type { Entropy } from '../base/entropy.js';
import { type Duration, elapsed, type Instant, Millis, Minutes } from '../base/time.js';
import { InboundState } from '../node/inbound.js';
import type { Link } from '../node/link.js';
import { PacketQueue } from '../node/packet-queue.js';
import type { Channel } from '../node/underlay.js';
import type { ControlStream } from '../quic/control-stream.js';
import { Backoff } from '../tunnel/backoff.js';
import { Fragmenter } from '../tunnel/fragments.js';

/** A session outlives its last packet by this long, so that it survives a sleep. */
export const SESSION_IDLE: Duration = Minutes(30);

/** A session that carried packets within this time is missed when it has no link: nobody waits out a long back-off for it. */
const WANTED_TIME: Duration = Minutes(5);

/** A connector that is not there is waited for this long, as it may only be reconnecting; then new flows are refused. */
export const ABSENT_GRACE: Duration = Millis(500);

export type SessionState = 'waiting' | 'opening' | 'linking' | 'live' | 'closed';

/** Why a session is in the state it is in; shown by `status`. */
export interface SessionTransition {
  readonly from: SessionState;
  readonly to: SessionState;
  readonly at: Instant;
  readonly reason: string;
}

export class AgentSession {
  readonly connector: string;
  /** 32 hex digits, random. */
  readonly id: string;
  readonly inbound = new InboundState();
  readonly fragmenter: Fragmenter;
  readonly waiting = new PacketQueue();
  readonly backoff: Backoff;
  /** The service it was opened for; asked for again when the channel is lost. */
  service: string;
  channel: Channel | undefined;
  link: Link | undefined;
  control: ControlStream | undefined;
  /** Services this connector's policy copy lets us use, from its welcome. */
  services: ReadonlySet<string> = new Set();
  /** Links made so far; the next one's number. */
  links = 0;
  /** Whether the connector has welcomed this session before: it should be resumed. */
  welcomed = false;
  /** When the next attempt or the present one's end is due. */
  deadline: Instant | undefined;
  lastUsed: Instant;
  /** Since when no link is live; undefined while one is. */
  downSince: Instant | undefined;
  /** Since when the connector is known not to be there; undefined while nothing is known against it. */
  absentSince: Instant | undefined;
  lastProblem = '';
  reconnects = 0;
  transition: SessionTransition;
  readonly #onTransition: (session: AgentSession, transition: SessionTransition) => void;

  constructor(
    now: Instant,
    connector: string,
    service: string,
    entropy: Entropy,
    onTransition: (session: AgentSession, transition: SessionTransition) => void,
  ) {
    this.connector = connector;
    this.service = service;
    this.id = randomId(entropy);
    this.fragmenter = new Fragmenter(entropy.uint32());
    this.backoff = new Backoff(entropy);
    this.lastUsed = now;
    this.downSince = now;
    this.transition = { from: 'closed', to: 'waiting', at: now, reason: 'first packet' };
    this.#onTransition = onTransition;
  }

  get state(): SessionState {
    return this.transition.to;
  }

  get isLive(): boolean {
    return this.transition.to === 'live';
  }

  enter(now: Instant, to: SessionState, reason: string): void {
    const transition = { from: this.state, to, at: now, reason };
    this.transition = transition;
    this.downSince = to === 'live' ? undefined : (this.downSince ?? now);
    this.#onTransition(this, transition);
  }

  /** Whether packets wait for it, or programs have lately used it: one that only reads sends nothing while it waits. */
  isWanted(now: Instant): boolean {
    return this.waiting.length > 0 || (this.welcomed && elapsed(this.lastUsed, now) < WANTED_TIME);
  }

  /** Whether new flows are refused rather than kept waiting. */
  isAbsent(now: Instant): boolean {
    return this.absentSince !== undefined && elapsed(this.absentSince, now) >= ABSENT_GRACE;
  }

  isIdle(now: Instant): boolean {
    return elapsed(this.lastUsed, now) >= SESSION_IDLE;
  }
}

function randomId(entropy: Entropy): string {
  return Array.from({ length: 4 }, () => entropy.uint32().toString(16).padStart(8, '0')).join('');
}
