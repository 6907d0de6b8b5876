/**
 * How agents' links are admitted at a connector, and the sessions they belong to.
 *
 *   channel open ─► handshake ─► certificate of an agent ─► hello with a valid proof ─► session found or made ─► welcome, live
 *
 * A hello of the same identity with a new session id ends the older session. Links of one session may be several: through the relay,
 * and direct ones on addresses that its agent has proved by PUNCH. Packets go out on the one the agent names, and are accepted on all.
 */
import { ADDRESS_WORDS } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import {
  type Duration,
  earliest,
  elapsed,
  type Instant,
  later,
  Millis,
  Minutes,
  Seconds,
  type WallTime,
} from '../base/time.js';
import { Timer, TimerQueue } from '../base/timers.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import { Link } from '../node/link.js';
import type { Channel } from '../node/link-channels.js';
import { LinkSet } from '../node/link-set.js';
import type { Punching } from '../node/punching.js';
import type { Underlay } from '../node/underlay.js';
import type { Identity } from '../policy/proof.js';
import type { ConnectionHandler, DatagramBatch, QuicConnection } from '../quic/connection.js';
import { CloseCode } from '../tunnel/close-codes.js';
import { Tier } from '../tunnel/links/managed-link.js';
import type { LinkCounter, LinkReason } from '../tunnel/links/states.js';
import { decodeMessage, encodeMessage, OPEN_CHECKSUMS, PROTOCOL_VERSION, ToConnector } from '../tunnel/messages.js';
import { type Hello, type HelloParts, identify } from './hello.js';
import { LinkWatch, type WatchedLink } from './link-watch.js';
import { type ConnectorSession, SESSION_KEPT } from './session.js';

/** An agent has this long from its handshake to a valid hello. */
const HELLO_TIMEOUT: Duration = Seconds(5);
/** A new link takes packets when its agent has read the welcome, a round trip after it was sent; resets wait for that. */
const RESET_DELAY: Duration = Millis(250);
/** A session that has lost its links is waited for this long: its relay is looked for without patience. */
export const WANTED_TIME: Duration = Minutes(5);
/** Sessions held at once: one per agent, so this bounds the agents of one connector. */
const MAX_SESSIONS = 10_000;

/** A direct link's hello comes at most this long after the PUNCH from its address: that opens it, and a handshake follows. */
const PROOF_AGE: Duration = Seconds(20);

/** Agents end direct links that are not wanted here any more within a second and a round trip; those of earlier versions do not. */
const LEAVE_TIME: Duration = Seconds(5);

export type ConnectorEvent =
  | {
      readonly kind: 'session-opened' | 'session-resumed' | 'session-closed';
      readonly agent: string;
      readonly reason: string;
    }
  | { readonly kind: 'link-refused'; readonly agent: string; readonly code: string }
  /** Packets of the session take another link. */
  | {
      readonly kind: 'path';
      readonly agent: string;
      readonly link: number;
      readonly via: 'direct' | 'relay';
      readonly reason: LinkReason;
    }
  | { readonly kind: 'link-lost'; readonly agent: string; readonly reason: string };

export interface LinksParts extends HelloParts {
  readonly underlay: Underlay;
  readonly punching: Punching;
  readonly drops: Counters<DropName>;
  readonly linkCounters: Counters<LinkCounter>;
  readonly proof: () => unknown;
  readonly innerMtu: number;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly makeSession: (now: Instant, identity: Identity, id: string) => ConnectorSession;
  readonly onDatagrams: (now: Instant, session: ConnectorSession, batch: DatagramBatch, link: Link) => void;
  /** The session has a live link again. */
  readonly onLink: (now: Instant, session: ConnectorSession) => void;
  readonly onEvent: (event: ConnectorEvent) => void;
  /** The relay has said something that is not so. */
  /** How good the way of a relayed link is. */
  readonly tierAt: (link: Link) => Tier;
  readonly onLie: (what: string, relay: number) => void;
  /** Packets have left through the relay of this slot. */
  readonly onSentRelayed: (now: Instant, relay: number) => void;
}

interface Greeting {
  readonly connection: QuicConnection;
  readonly deadline: Instant;
}

export class ConnectorLinks {
  readonly #parts: LinksParts;
  /** By invitation id: an identity has one session. */
  readonly #sessions = new Map<string, ConnectorSession>();
  readonly #greeting = new Set<Greeting>();
  /** The agent that the relay has named for each channel. */
  readonly #announced = new WeakMap<Channel, string>();
  /** Sessions whose agent has begun a new one; their flows are reset over its link. */
  readonly #replaced: { readonly old: ConnectorSession; readonly by: ConnectorSession; readonly at: Instant }[] = [];
  /** Links of ended sessions, still open for the resets of their flows. */
  readonly #ending: { readonly link: Link; readonly reason: string }[] = [];
  readonly #timers = new TimerQueue();
  /** When direct links that are not wanted any more are ended from here. */
  #directUntil: Instant | undefined;
  readonly #watch: LinkWatch;

  constructor(parts: LinksParts) {
    this.#parts = parts;
    this.#watch = new LinkWatch(this.#timers, {
      onGone: (now, session, link) => this.#end(now, session, link, 'the agent has gone silent'),
      onBack: (now, session, link) => {
        if (session.link === link) parts.onLink(now, session);
      },
    });
  }

  get sessions(): IterableIterator<ConnectorSession> {
    return this.#sessions.values();
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** The relay has opened a channel for this agent: no other one is taken on it. */
  announce(channel: Channel, agent: string): void {
    this.#announced.set(channel, agent);
  }

  /** To be given to the endpoint as its `accept`. */
  accept(now: Instant, connection: QuicConnection): ConnectionHandler | undefined {
    const channel = this.#parts.underlay.channels.at(connection.remote);
    const isDirect = !this.#parts.underlay.isVirtual(connection.remote);
    let certificate: PeerIdentity;
    try {
      certificate = this.#parts.parseCertificate(connection.peerCertificates[0]!);
    } catch {
      return undefined;
    }
    if ((channel === undefined) !== isDirect) return undefined;
    if (certificate.role !== 'agent' || certificate.network !== this.#parts.network) return undefined;
    const { direct } = this.#parts.underlay;
    if (isDirect) direct.hold(now, connection.remote);
    const greeting: Greeting = { connection, deadline: later(now, HELLO_TIMEOUT) };
    this.#greeting.add(greeting);
    let session: ConnectorSession | undefined;
    let link: Link | undefined;
    let watched: WatchedLink | undefined;
    return {
      onConnected: () => {},
      onControlMessage: (at, bytes) => {
        const decoded = decodeMessage(ToConnector, bytes);
        if (!decoded.ok || (decoded.message.type === 'hello') === (session !== undefined)) {
          connection.close(at, CloseCode.protocol, 'protocol');
          return;
        }
        const { message } = decoded;
        if (message.type === 'hello') {
          this.#greeting.delete(greeting);
          session = this.#hello(at, connection, certificate, message, channel);
          if (session === undefined) return;
          link = new Link(at, connection, channel, message.link, session.fragmenter, (sent) => {
            if (watched !== undefined) this.#watch.traffic(sent, watched);
            if (channel !== undefined) this.#parts.onSentRelayed(sent, channel.relay);
          });
          link.takesOpen = message.capabilities.includes(OPEN_CHECKSUMS);
          watched = this.#watch.add(session, link);
          this.#join(at, session, link);
        } else this.#message(at, session!, message);
      },
      onDatagrams: (at, batch) => {
        if (session === undefined || !link!.isLive) this.#parts.drops.values[Drop.not_admitted]! += batch.count;
        else {
          const isBack = link!.lifeSigns.isAsking;
          link!.received(at);
          this.#watch.traffic(at, watched!);
          if (isBack) this.#parts.onLink(at, session);
          this.#parts.onDatagrams(at, session, batch, link!);
        }
      },
      onClosed: (at, reason) => {
        this.#greeting.delete(greeting);
        if (isDirect) direct.release(at, connection.remote);
        if (session === undefined) return;
        this.#watch.remove(watched!);
        this.#leave(at, session, link!, reason.text);
        const isOver = reason.kind === 'peer-application' && reason.code === CloseCode.sessionOver;
        if (isOver) this.close(at, session, reason.text);
      },
      recheck: (_at, wall) =>
        session === undefined || this.#isAllowed(session, wall)
          ? undefined
          : { code: CloseCode.policy, reason: 'policy' },
    };
  }

  #isAllowed(session: ConnectorSession, wall: WallTime): boolean {
    const view = this.#parts.policy.view;
    return view !== undefined && !view.isRevoked(session.identity.invitationId) && this.#parts.policy.admits(wall);
  }

  /** Judges a hello; the session it belongs to, or undefined when the link was refused and closed. */
  #hello(
    now: Instant,
    connection: QuicConnection,
    certificate: PeerIdentity,
    hello: Hello,
    channel: Channel | undefined,
  ): ConnectorSession | undefined {
    const refuse = (code: string): undefined => {
      this.#parts.onEvent({ kind: 'link-refused', agent: certificate.name, code });
      connection.close(now, CloseCode.refused, `${code}: the connector refuses this link`);
      return undefined;
    };
    const identity = identify(this.#parts, certificate, hello);
    if (typeof identity === 'string') return refuse(identity);
    const existing = this.#sessions.get(identity.invitationId);
    if (channel === undefined) {
      if (existing?.id !== hello.session) return refuse('NO_SUCH_SESSION');
      if (!this.#mayBeDirect(now, existing, connection)) return refuse('NOT_PROVED');
      this.#welcome(connection, existing, true);
      return existing;
    }
    const announced = this.#announced.get(channel);
    if (identity.name !== announced) {
      this.#parts.onLie(`a channel of agent ${announced} that agent ${identity.name} uses`, channel.relay);
      return refuse('OTHER_AGENT');
    }
    if (existing?.id === hello.session) {
      this.#welcome(connection, existing, true);
      this.#parts.onEvent({ kind: 'session-resumed', agent: identity.name, reason: `link ${hello.link}` });
      return existing;
    }
    if (existing !== undefined) this.#sessions.delete(identity.invitationId);
    if (this.#sessions.size >= MAX_SESSIONS) return refuse('TOO_MANY_SESSIONS');
    const session = this.#parts.makeSession(now, identity, hello.session);
    this.#sessions.set(identity.invitationId, session);
    if (existing !== undefined) this.#replaced.push({ old: existing, by: session, at: later(now, RESET_DELAY) });
    this.#welcome(connection, session, false);
    this.#parts.onEvent({ kind: 'session-opened', agent: identity.name, reason: 'hello' });
    return session;
  }

  #welcome(connection: QuicConnection, session: ConnectorSession, resumed: boolean): void {
    connection.control?.send(
      encodeMessage({
        type: 'welcome',
        version: PROTOCOL_VERSION,
        session: session.id,
        resumed,
        proof: this.#parts.proof(),
        services: session.services,
        innerMtu: this.#parts.innerMtu,
        capabilities: [OPEN_CHECKSUMS],
      }),
    );
  }

  /** Whether this session's own token has come from the address that the connection comes from. */
  #mayBeDirect(now: Instant, session: ConnectorSession, { remote }: QuicConnection): boolean {
    const words = new Uint32Array(ADDRESS_WORDS);
    remote.write(words, 0);
    const socket = this.#parts.underlay.direct.socketOf(words, 0);
    const heardAt = session.path.puncher.pairs.at(words, 0, socket)?.heardAt;
    const isFresh = heardAt !== undefined && elapsed(heardAt, now) <= PROOF_AGE;
    return this.#parts.punching.path !== 'relay' && isFresh;
  }

  /** What an agent says on a live link besides its hello. */
  #message(now: Instant, session: ConnectorSession, message: Exclude<ToConnector, Hello>): void {
    const isOn = this.#parts.punching.path !== 'relay';
    if (message.type === 'error' || !session.path.isNews(message.n)) return;
    if (message.type === 'active') session.set.manager.follow(now, message.n, message.link);
    else if (message.type === 'punch') session.path.hearPunch(message);
    else if (isOn) session.path.joinRound(now, message.startIn, message.guess);
  }

  #join(now: Instant, session: ConnectorSession, link: Link): void {
    link.enter(now, 'live');
    session.links.add(link);
    session.lastLink = now;
    if (this.#parts.punching.path !== 'relay' || session.path.hasTold) session.path.linkLive(now, link.isDirect);
    const tier = link.isDirect ? Tier.direct : this.#parts.tierAt(link);
    session.set.add(now, link, tier, link.isDirect && link.connection.remote.ip.family === 6);
  }

  /** What manages a session's links. */
  makeSet(session: ConnectorSession): LinkSet {
    const timer = new Timer((now) => {
      const { manager } = session.set;
      manager.turn(now);
      const next = manager.nextTimeout(now);
      if (next !== undefined) this.#timers.arm(timer, next);
    });
    return new LinkSet({
      decides: false,
      path: this.#parts.punching.path,
      counters: this.#parts.linkCounters,
      owner: {
        onActive: (now, link, reason) => this.#use(now, session, link, reason),
        onDead: (now, link) => {
          link.connection.close(now, CloseCode.timeout, 'no life sign');
          this.#leave(now, session, link, 'no life sign');
        },
        onWake: (now) => this.#timers.armNoLater(timer, now),
      },
    });
  }

  #use(now: Instant, session: ConnectorSession, link: Link | undefined, reason: LinkReason): void {
    const old = session.link;
    session.link = link;
    if (link !== undefined) {
      const via = link.isDirect ? 'direct' : 'relay';
      this.#parts.onEvent({ kind: 'path', agent: session.identity.name, link: link.number, via, reason });
    }
    // A planned switch loses nothing, so nothing is sent again.
    if (link !== undefined && (old === undefined || !old.isLive || reason === 'three_missed')) {
      this.#parts.onLink(now, session);
    }
  }

  /** The operator wants other links used: packets move first, then the agents end theirs; `sweep` ends what is left. */
  pathChanged(now: Instant): void {
    const { path } = this.#parts.punching;
    this.#directUntil = path === 'relay' ? later(now, LEAVE_TIME) : undefined;
    for (const session of this.#sessions.values()) {
      session.set.manager.setPath(now, path);
      session.path.puncher.stop();
      session.path.announce(now);
    }
  }

  /** Own addresses or the host's routes have changed. */
  networkChanged(now: Instant): void {
    if (this.#parts.punching.path === 'relay') return;
    for (const session of this.#sessions.values()) {
      session.path.announceChange(now);
      for (const link of [...session.links]) {
        if (!link.isDirect || session.path.mayUse(link.connection.remote)) continue;
        this.#end(now, session, link, 'its address may no longer be used');
      }
    }
  }

  /** Ends a link from here; the session goes on. */
  #end(now: Instant, session: ConnectorSession, link: Link, reason: string): void {
    link.connection.close(now, CloseCode.done, reason);
    this.#leave(now, session, link, reason);
  }

  #leave(now: Instant, session: ConnectorSession, link: Link, reason: string): void {
    link.enter(now, 'closed');
    if (!session.links.delete(link)) return;
    if (link.channel !== undefined) this.#parts.underlay.channels.close(now, link.channel);
    session.lastLink = now;
    session.set.remove(now, link, 'closed');
    this.#parts.onEvent({ kind: 'link-lost', agent: session.identity.name, reason });
  }

  /** A channel of the relay in this slot has died: its link ends at once. */
  channelClosed(now: Instant, relay: number, high: number, low: number, reason: string): void {
    for (const { channel, connection } of this.#linksThrough(relay)) {
      if (channel!.high === high && channel!.low === low) connection.close(now, CloseCode.done, reason);
    }
  }

  /** Whether links go through the relay of this slot. */
  isUsed(relay: number): boolean {
    return this.#linksThrough(relay).next().done !== true;
  }

  *#linksThrough(relay: number): Generator<Link> {
    for (const session of this.#sessions.values()) {
      for (const link of session.links) if (link.channel?.relay === relay) yield link;
    }
  }

  /** A relay goes away: its links are only used while there is no other. */
  relayDrains(now: Instant, relay: number): void {
    for (const { set, managed } of this.#linksThrough(relay))
      if (managed !== undefined) set?.manager.drain(now, managed);
  }

  /** All channels of the relay in this slot have died with its connection. */
  relayLost(now: Instant, relay: number, reason: string): void {
    for (const session of this.#sessions.values()) {
      for (const link of [...session.links]) {
        if (link.channel?.relay === relay) this.#end(now, session, link, reason);
      }
    }
  }

  /** Ends a session: its flows are reset; its links close when the resets have left (`closeEnding`). */
  close(now: Instant, session: ConnectorSession, reason: string): void {
    if (this.#sessions.get(session.identity.invitationId) === session)
      this.#sessions.delete(session.identity.invitationId);
    session.end(now);
    this.#parts.punching.forget(session.path);
    for (const link of [...session.links]) {
      this.#ending.push({ link, reason });
      this.#leave(now, session, link, reason);
    }
    this.#parts.onEvent({ kind: 'session-closed', agent: session.identity.name, reason });
  }

  /** Whether sessions wait for the relay that some agent has lately used. */
  isRelayWanted(now: Instant): boolean {
    for (const session of this.#sessions.values()) {
      if (session.link === undefined && elapsed(session.lastLink, now) < WANTED_TIME) return true;
    }
    return false;
  }

  /** Runs what is due: agents are asked for life signs, replaced sessions end. */
  turn(now: Instant): void {
    this.#timers.expire(now);
    this.#watch.turn(now);
    this.#endReplaced(now);
  }

  nextTimeout(): Instant | undefined {
    return earliest(this.#timers.next(), this.#replaced[0]?.at);
  }

  /** This machine may have slept: every agent is asked for a life sign at once. */
  suspect(now: Instant): void {
    for (const session of this.#sessions.values()) {
      session.set.traffic(now);
      for (const link of session.links) link.lifeSigns.suspect(now);
    }
    this.#watch.suspect(now);
  }

  /**
   * Ends the sessions that were replaced: a restarted agent knows nothing of its programs' old flows, so the resets go over
   * its new link, as soon as that takes packets.
   */
  #endReplaced(now: Instant): void {
    while (this.#replaced.length > 0 && this.#replaced[0]!.at <= now) {
      const { old, by } = this.#replaced.shift()!;
      for (const link of old.links) link.connection.close(now, CloseCode.sessionOver, 'replaced by a new session');
      old.link = by.link;
      this.close(now, old, 'replaced by a new session');
    }
  }

  /** Closes the links of ended sessions; the driver has sent what they had to send. Returns whether there were any. */
  closeEnding(now: Instant): boolean {
    if (this.#ending.length === 0) return false;
    const ending = this.#ending.splice(0);
    for (const { link, reason } of ending) link.connection.close(now, CloseCode.sessionOver, reason);
    return true;
  }

  /** A new policy: sessions of revoked agents end, the others are judged anew. */
  policyChanged(now: Instant): void {
    const view = this.#parts.policy.view!;
    for (const session of [...this.#sessions.values()]) {
      if (view.isRevoked(session.identity.invitationId)) this.close(now, session, 'revoked');
      else session.policyChanged(now, view);
    }
    // Packets of these are taken as long as their links stand.
    for (const { old } of this.#replaced) old.policyChanged(now, view);
  }

  /** Ends sessions without a link whose time is up, connections that never said hello, and direct links that should have ended. */
  sweep(now: Instant): void {
    if (this.#directUntil !== undefined && now >= this.#directUntil) {
      this.#directUntil = undefined;
      for (const session of this.#sessions.values()) {
        for (const link of [...session.links]) if (link.isDirect) this.#end(now, session, link, 'operator');
      }
    }
    for (const session of [...this.#sessions.values()]) {
      if (session.links.size === 0 && elapsed(session.lastLink, now) >= SESSION_KEPT)
        this.close(now, session, 'no link');
    }
    for (const greeting of this.#greeting) {
      if (greeting.deadline > now) break;
      greeting.connection.close(now, CloseCode.timeout, 'no hello');
      this.#greeting.delete(greeting);
    }
  }
}
