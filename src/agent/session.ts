/**
 * An agent's session with one connector: it owns the flows' way, and links below it come and go.
 *
 *   waiting ──due──► opening ──channel──► linking ──welcome──► live ──link or channel lost──► waiting …
 *      ▲                │                    │                                  (30 min without a packet: closed)
 *      └─── back-off ◄──┴────────────────────┘ refused, timed out
 *
 * These are the states of the way through its relay; a spare way through another (`SpareWays`) takes its place when it is lost. The session itself is live while any link carries its packets: a direct one
 * goes on while the relay is away.
 */
import type { Entropy } from '../base/entropy.js';
import { type Duration, elapsed, type Instant, Millis, Minutes } from '../base/time.js';
import { InboundState } from '../node/inbound.js';
import type { Link } from '../node/link.js';
import type { Channel } from '../node/link-channels.js';
import type { LinkSet } from '../node/link-set.js';
import { PacketQueue } from '../node/packet-queue.js';
import type { RelayClient } from '../node/relay-client.js';
import type { CompiledService } from '../policy/view.js';
import { Backoff } from '../tunnel/backoff.js';
import { Fragmenter } from '../tunnel/fragments.js';
import type { DirectSide } from './direct.js';
import { noSpareWay, type SpareWay } from './spare-ways.js';

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
  /** The link through that channel, from its handshake on. */
  relayed: Link | undefined;
  /** The relay of that channel, or that is asked for one. */
  relay: RelayClient | undefined;
  /** When that relay may be asked, while the session waits for its turn. */
  turn: Instant | undefined;
  /** Relays that have said since the last back-off that the connector is not there. */
  readonly refusedBy = new Set<RelayClient>();
  /** A second way, through another relay. */
  readonly spare: SpareWay;
  readonly direct: DirectSide;
  /** Its live links, and which of them is in use. */
  readonly set: LinkSet;
  /** The live link that carries packets. */
  link: Link | undefined;
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
  #relayState: SessionState = 'waiting';
  readonly #onTransition: (session: AgentSession, transition: SessionTransition) => void;

  constructor(
    now: Instant,
    connector: string,
    service: string,
    entropy: Entropy,
    parts: (session: AgentSession) => { readonly direct: DirectSide; readonly set: LinkSet },
    onTransition: (session: AgentSession, transition: SessionTransition) => void,
  ) {
    this.connector = connector;
    this.service = service;
    this.id = randomId(entropy);
    this.fragmenter = new Fragmenter(entropy.uint32());
    this.backoff = new Backoff(entropy);
    this.spare = noSpareWay(new Backoff(entropy));
    this.lastUsed = now;
    this.downSince = now;
    this.transition = { from: 'closed', to: 'waiting', at: now, reason: 'first packet' };
    this.#onTransition = onTransition;
    const { direct, set } = parts(this);
    this.direct = direct;
    this.set = set;
  }

  /** Of the way through the relay. */
  get relayState(): SessionState {
    return this.#relayState;
  }

  get state(): SessionState {
    if (this.#relayState === 'closed') return 'closed';
    if (this.link !== undefined) return 'live';
    // The link through the relay may stand without carrying packets.
    return this.#relayState === 'live' ? 'linking' : this.#relayState;
  }

  get isLive(): boolean {
    return this.link !== undefined;
  }

  /** The live link that packets of this service take. */
  linkFor(now: Instant, { entry: { path } }: CompiledService): Link | undefined {
    return path === undefined ? this.link : this.set.linkOn(now, path);
  }

  /** Every link of the session, the one through the relay first. */
  *allLinks(): Generator<Link> {
    if (this.relayed !== undefined) yield this.relayed;
    if (this.spare.link !== undefined) yield this.spare.link;
    if (this.direct.attempt !== undefined) yield this.direct.attempt;
    if (this.direct.link !== undefined) yield this.direct.link;
    if (this.direct.standby !== undefined) yield this.direct.standby;
    if (this.direct.replaced !== undefined) yield this.direct.replaced.link;
  }

  /** The way through the relay has come to another state. */
  enter(now: Instant, to: SessionState, reason: string): void {
    this.#relayState = to;
    this.#changed(now, reason);
  }

  /** Another link, or none, carries packets from now on. */
  use(now: Instant, link: Link | undefined, reason: string): void {
    this.link = link;
    this.#changed(now, reason);
  }

  #changed(now: Instant, reason: string): void {
    const { to: from } = this.transition;
    const to = this.state;
    if (from === to && to !== 'waiting') return;
    const transition = { from, to, at: now, reason };
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
