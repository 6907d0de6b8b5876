/**
 * An agent's sessions: opens them on the first packet for a service, keeps their links, and finds the one a packet takes.
 */
import { TokenBucket } from '../base/bucket.js';
import type { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, earliest, elapsed, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import type { Link } from '../node/link.js';
import type { Punching } from '../node/punching.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Underlay } from '../node/underlay.js';
import type { CompiledService, PolicyView } from '../policy/view.js';
import type { DatagramBatch } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { RECONNECT_WANTED_CAP } from '../tunnel/backoff.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { LinkCounter, LinkReason } from '../tunnel/links/states.js';
import { formatChannel, parseChannel, type ToAgent } from '../tunnel/messages.js';
import { OPENS_AT_ONCE, OPENS_PER_SECOND } from '../tunnel/open-rate.js';
import { AgentDirect } from './direct.js';
import { LinkAdmission, type Welcome } from './link-admission.js';
import { LinkChoice } from './link-choice.js';
import { ABSENT_GRACE, AgentSession, type SessionTransition } from './session.js';
import { SessionLinks, type SessionLinksOwner } from './session-links.js';

/** A link that is not live by then is given up. */
const LINK_TIMEOUT: Duration = Seconds(8);
/** Without a link for this long, new packets look for another connector of the service. */
const LOOK_ELSEWHERE: Duration = Seconds(5);

/** After this agent has come back to a relay its connectors may still be coming: an idle one notices a restart by its keep-alive. */
const RELAY_SETTLES: Duration = Seconds(12);
/** Share of the relay's rate that is used, so that requests which the network bunches are not refused. */
const RATE_USED = 0.9;
/** Refusals of the relay that another attempt soon will not change. */
const ABSENCE: ReadonlySet<string> = new Set(['NO_CONNECTOR', 'DENIED', 'POLICY_EXPIRED']);

export interface SessionsParts {
  readonly relay: RelayClient;
  readonly underlay: Underlay;
  readonly punching: Punching;
  readonly links: QuicEndpoint;
  readonly entropy: Entropy;
  readonly crypto: Crypto;
  readonly network: string;
  readonly policyKey: Uint8Array;
  readonly drops: Counters<DropName>;
  readonly linkCounters: Counters<LinkCounter>;
  readonly wall: () => WallTime;
  readonly view: () => PolicyView | undefined;
  /** Whether the policy in force still admits anything new. */
  readonly admits: () => boolean;
  readonly proof: () => unknown;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly onTransition: (session: AgentSession, transition: SessionTransition) => void;
  /** The connector knows nothing of the session's old flows any more. */
  readonly onForgotten: (session: AgentSession) => void;
  readonly onPath: (session: AgentSession, link: Link, reason: LinkReason) => void;
  readonly onDenied: (session: AgentSession, service: string, reason: string) => void;
  readonly onDatagrams: (now: Instant, session: AgentSession, batch: DatagramBatch, link: Link) => void;
  /** The session's link carries packets now: these have waited for it. */
  readonly onReleased: (now: Instant, session: AgentSession, packets: readonly Uint8Array[]) => void;
  /** These have waited for a connector that is not there. */
  readonly onRefused: (now: Instant, packets: readonly Uint8Array[]) => void;
}

export class Sessions implements SessionLinksOwner {
  readonly #parts: SessionsParts;
  readonly #byConnector = new Map<string, AgentSession>();
  /** The session each service's packets take now; an entry is dropped when it stops being right. */
  readonly #byService = new Map<string, AgentSession>();

  /** Until then the relay's word that a connector is not there may only mean that it is not back yet. */
  #settled: Instant | undefined;

  readonly #opens = new TokenBucket(OPENS_PER_SECOND * RATE_USED, OPENS_AT_ONCE * RATE_USED);
  /** When each session that waits for its turn may ask; the token is taken already. */
  readonly #turns = new Map<AgentSession, Instant>();

  readonly #links: SessionLinks;
  readonly #direct: AgentDirect;
  readonly #choice: LinkChoice;

  constructor(parts: SessionsParts) {
    this.#parts = parts;
    this.#links = new SessionLinks({
      links: parts.links,
      network: parts.network,
      admission: new LinkAdmission(parts),
      drops: parts.drops,
      wall: parts.wall,
      proof: parts.proof,
      onSentRelayed: (now) => parts.relay.sentRelayed(now),
      owner: this,
    });
    this.#direct = new AgentDirect({
      links: this.#links,
      punching: parts.punching,
      table: parts.underlay.direct,
    });
    this.#choice = new LinkChoice({
      path: parts.punching.path,
      counters: parts.linkCounters,
      links: this.#links,
      direct: this.#direct,
      onReleased: parts.onReleased,
      onPath: parts.onPath,
    });
  }

  get all(): IterableIterator<AgentSession> {
    return this.#byConnector.values();
  }

  /** Whether the packets of this service take this session. */
  carries(session: AgentSession, service: string): boolean {
    return this.#byService.get(service) === session;
  }

  /** Whether a session that programs have lately used waits for the relay. */
  isRelayWanted(now: Instant): boolean {
    for (const session of this.#byConnector.values()) if (!session.isLive && session.isWanted(now)) return true;
    return false;
  }

  /** The session for packets to `service`; opens one when there is none. Undefined when no connector may serve it. */
  sessionFor(now: Instant, service: CompiledService): AgentSession | undefined {
    const current = this.#byService.get(service.id);
    if (current?.isLive) {
      current.lastUsed = now;
      return current;
    }
    return this.#pick(now, service, current);
  }

  /** Stays with the present session for a while; then any live one of the service's connectors, then the least tried. */
  #pick(now: Instant, service: CompiledService, current: AgentSession | undefined): AgentSession | undefined {
    let best = current;
    const isDown = best?.downSince !== undefined && elapsed(best.downSince, now) > LOOK_ELSEWHERE;
    const isStuck = isDown || best?.isAbsent(now) === true;
    if (best === undefined || isStuck || best.state === 'closed') {
      const live = service.entry.connectors
        .map((name) => this.#byConnector.get(name))
        .find((session) => session?.isLive && session.services.has(service.id));
      best = live ?? this.#leastTried(now, service);
    }
    if (best === undefined) return undefined;
    this.#byService.set(service.id, best);
    best.lastUsed = now;
    // Somebody waits now: the back-off of quieter times no longer holds.
    if (best.relayState === 'waiting') best.deadline = earliest(best.deadline, later(now, RECONNECT_WANTED_CAP));
    return best;
  }

  /** A session with the connector that has failed least, made if need be. */
  #leastTried(now: Instant, service: CompiledService): AgentSession | undefined {
    let best: AgentSession | undefined;
    for (const name of service.entry.connectors) {
      let session = this.#byConnector.get(name);
      if (session === undefined) {
        const { entropy, onTransition } = this.#parts;
        const own = (one: AgentSession) => ({ direct: this.#direct.make(one), set: this.#choice.makeSet(one) });
        session = new AgentSession(now, name, service.id, entropy, own, onTransition);
        session.deadline = now;
        this.#byConnector.set(name, session);
      }
      if (best === undefined || session.backoff.attempts < best.backoff.attempts) best = session;
    }
    return best;
  }

  /** The relay is ready: sessions that wait for a channel ask for one at once. */
  relayReady(now: Instant): void {
    this.#settled = this.#settled === undefined ? now : later(now, RELAY_SETTLES);
    for (const session of this.#byConnector.values()) {
      session.absentSince = undefined;
      if (session.relayState === 'waiting') session.deadline = now;
    }
  }

  /** Channels die with the relay connection they were opened on. */
  relayLost(now: Instant, reason: string): void {
    for (const session of this.#byConnector.values()) {
      if (session.channel !== undefined) this.#unlink(now, session, `relay: ${reason}`, true);
    }
  }

  /** The relay closed a channel. */
  channelClosed(now: Instant, id: string, reason: string): void {
    const { high, low } = parseChannel(id);
    for (const session of this.#byConnector.values()) {
      const channel = session.channel;
      if (channel?.high === high && channel.low === low) this.#unlink(now, session, reason, false);
    }
  }

  /** Connectors have come or gone (catalogue): waiting sessions need not wait longer, or need not be waited for. */
  catalogueChanged(now: Instant, available: ReadonlySet<string>): void {
    for (const session of this.#byConnector.values()) {
      if (session.relayState === 'live') continue;
      if (!available.has(session.service)) this.#toldAbsent(now, session);
      else {
        session.absentSince = undefined;
        if (session.relayState === 'waiting') session.deadline = now;
      }
    }
  }

  /** Sessions with connectors that may no longer serve anything of ours end. */
  policyChanged(now: Instant): void {
    this.#byService.clear();
    const view = this.#parts.view();
    for (const session of [...this.#byConnector.values()]) {
      if (view === undefined || view.servicesOf(session.connector).length === 0) this.#close(now, session, 'policy');
      else {
        for (const link of [...session.allLinks()]) {
          if (this.#links.isAllowed(session, link)) continue;
          this.#links.close(now, link, CloseCode.policy, 'policy');
          this.onLost(now, session, link, 'policy');
        }
      }
    }
  }

  /** The relay goes away: its links are only used while there is no other. */
  relayDrains(now: Instant): void {
    for (const { relayed, set } of this.#byConnector.values()) {
      if (relayed?.managed !== undefined) set.manager.drain(now, relayed.managed);
    }
  }

  /** Own addresses or the host's routes have changed. */
  networkChanged(now: Instant): void {
    for (const session of this.#byConnector.values()) this.#direct.networkChanged(now, session);
  }

  turn(now: Instant): void {
    for (const session of this.#byConnector.values()) {
      if (session.deadline !== undefined && session.deadline <= now) this.#due(now, session);
      this.#checkLife(now, session);
      session.set.manager.turn(now);
      this.#direct.turn(now, session);
      if (session.waiting.length > 0 && session.isAbsent(now)) this.#refuseWaiting(now, session);
      if (session.isIdle(now)) this.#close(now, session, 'idle');
    }
  }

  #checkLife(now: Instant, session: AgentSession): void {
    const { relayed, direct } = session;
    if (relayed?.isLive) {
      const state = relayed.lifeSigns.check(now, relayed.connection);
      if (state === 'gone') {
        this.#unlink(now, session, 'the connector has gone silent', true);
        if (!session.isLive) session.absentSince ??= now;
      } else if (state === 'back') this.onBack(now, session, relayed);
    }
    for (const link of [direct.link, direct.standby]) {
      const state = link?.lifeSigns.check(now, link.connection);
      if (state === 'back') this.onBack(now, session, link!);
      else if (state === 'gone') {
        this.#links.close(now, link!, CloseCode.timeout, 'no life sign');
        this.#direct.failed(now, session, link!, 'no life sign');
      }
    }
  }

  nextTimeout(now: Instant): Instant | undefined {
    let next: Instant | undefined;
    for (const session of this.#byConnector.values()) {
      const { relayed, direct } = session;
      next = earliest(earliest(next, session.deadline), this.#direct.due(now, session));
      next = earliest(next, session.set.manager.nextTimeout(now));
      if (relayed?.isLive) next = earliest(next, relayed.lifeSigns.due);
      next = earliest(next, earliest(direct.link?.lifeSigns.due, direct.standby?.lifeSigns.due));
      if (session.isLive) continue;
      if (session.absentSince !== undefined && session.waiting.length > 0) {
        next = earliest(next, later(session.absentSince, ABSENT_GRACE));
      }
    }
    return next;
  }

  /** This machine may have slept: every connector is asked for a life sign at once. */
  suspect(now: Instant): void {
    for (const session of this.#byConnector.values()) {
      session.set.traffic(now);
      for (const link of session.allLinks()) link.lifeSigns.suspect(now);
    }
  }

  shutdown(now: Instant): void {
    for (const session of [...this.#byConnector.values()]) this.#close(now, session, 'agent stops');
  }

  #due(now: Instant, session: AgentSession): void {
    session.deadline = undefined;
    if (session.relayState === 'waiting') this.#openInTurn(now, session);
    else if (session.relayState === 'linking') {
      this.#unlink(now, session, 'the connector does not answer', true);
      session.absentSince ??= now;
    }
  }

  /** The relay says that the session's connector is not there. */
  #toldAbsent(now: Instant, session: AgentSession): void {
    session.absentSince ??= Math.max(now, this.#settled ?? now) as Instant;
  }

  #refuseWaiting(now: Instant, session: AgentSession): void {
    const packets = session.waiting.drain();
    this.#parts.drops.values[Drop.no_session]! += packets.length;
    this.#parts.onRefused(now, packets);
  }

  /** A relay that comes back is asked for the channels of all sessions, one after the other. */
  #openInTurn(now: Instant, session: AgentSession): void {
    let turn = this.#turns.get(session);
    if (turn === undefined && this.#parts.relay.state === 'ready') {
      turn = later(now, this.#opens.wait(now));
      this.#opens.spend(now, 1);
    }
    if (turn === undefined || turn <= now) {
      this.#turns.delete(session);
      this.#open(now, session);
    } else {
      this.#turns.set(session, turn);
      session.deadline = turn;
    }
  }

  #open(now: Instant, session: AgentSession): void {
    if (this.#parts.relay.state !== 'ready') return;
    if (!this.#parts.admits()) {
      this.#wait(now, session, 'the policy has expired');
      return;
    }
    session.enter(now, 'opening', 'asking the relay for a channel');
    const { service, connector } = session;
    this.#parts.relay.request(
      now,
      (id) => ({ type: 'open', id, service, connector }),
      (at, answer) => {
        if (session.relayState !== 'opening') return;
        if (!answer.ok) {
          if (ABSENCE.has(answer.code)) this.#toldAbsent(at, session);
          this.#wait(at, session, `${answer.code}: ${answer.message}`);
        } else if (answer.message.type !== 'opened' || answer.message.connector !== connector) {
          this.#disbelieve(at, session, 'the relay answered for another connector');
        } else this.#connect(at, session, answer.message.channel);
      },
    );
  }

  #connect(now: Instant, session: AgentSession, channelId: string): void {
    const { high, low } = parseChannel(channelId);
    const channel = this.#parts.underlay.openChannel(high, low);
    if (channel === undefined) {
      this.#disbelieve(now, session, 'the relay gave a channel of another peer');
      return;
    }
    session.channel = channel;
    session.relayed = this.#links.connect(now, session, channel.address, channel);
    session.enter(now, 'linking', 'channel open');
    session.deadline = later(now, LINK_TIMEOUT);
  }

  #disbelieve(now: Instant, session: AgentSession, what: string): void {
    this.#parts.relay.countLie(what);
    this.#wait(now, session, what);
  }

  onWelcome(now: Instant, session: AgentSession, link: Link, message: Welcome): void {
    session.services = new Set(message.services);
    session.absentSince = undefined;
    if (link.isDirect) {
      if (message.resumed) this.#direct.welcomed(now, session);
      else {
        this.#links.close(now, link, CloseCode.done, 'no such session');
        this.#direct.failed(now, session, link, 'the connector knows no such session');
      }
      return;
    }
    session.deadline = undefined;
    session.backoff.reset();
    session.lastProblem = '';
    if (session.welcomed) session.reconnects++;
    const reason = session.welcomed
      ? message.resumed
        ? 'resumed'
        : 'new at the connector: old flows end'
      : 'welcomed';
    if (session.welcomed && !message.resumed) {
      this.#direct.forget(now, session, reason);
      this.#parts.onForgotten(session);
    }
    session.welcomed = true;
    session.enter(now, 'live', reason);
    this.#direct.relayLive(now, session);
    this.#choice.because(reason, () => session.set.add(now, link, this.#parts.punching.relayTier, false));
  }

  onMessage(now: Instant, session: AgentSession, _link: Link, message: Exclude<ToAgent, Welcome>): void {
    switch (message.type) {
      case 'punch':
        this.#direct.onPunch(now, session, message);
        break;
      case 'services':
        session.services = new Set(message.services);
        break;
      case 'denied':
        this.#parts.onDenied(session, message.service, message.reason);
        break;
      case 'error':
        session.lastProblem = `${message.code}: ${message.message}`;
        break;
    }
  }

  onLost(now: Instant, session: AgentSession, link: Link, reason: string): void {
    if (link.isDirect) this.#direct.failed(now, session, link, reason);
    else if (link === session.relayed) this.#unlink(now, session, reason, true);
  }

  onDatagrams(now: Instant, session: AgentSession, batch: DatagramBatch, link: Link): void {
    this.#parts.onDatagrams(now, session, batch, link);
  }

  onBack(now: Instant, session: AgentSession, link: Link): void {
    if (session.link === link) this.#parts.onReleased(now, session, []);
  }

  /** Ends the session's link through the relay; the session stays and tries again. */
  #unlink(
    now: Instant,
    session: AgentSession,
    reason: string,
    tellRelay: boolean,
    code: number = CloseCode.done,
  ): void {
    const { channel, relayed } = session;
    session.channel = undefined;
    session.relayed = undefined;
    if (channel !== undefined) {
      if (tellRelay)
        this.#parts.relay.send({
          type: 'close',
          channel: formatChannel(channel.high, channel.low),
          reason: reason.slice(0, 200),
        });
      this.#parts.underlay.closeChannel(now, channel);
    }
    const wasLive = session.relayState === 'live';
    this.#wait(now, session, reason);
    if (wasLive) session.deadline = now;
    if (relayed !== undefined) this.#choice.because(reason, () => this.#links.close(now, relayed, code, reason));
  }

  #wait(now: Instant, session: AgentSession, reason: string): void {
    session.lastProblem = reason;
    session.enter(now, 'waiting', reason);
    session.deadline = later(now, session.backoff.next(session.isWanted(now)));
  }

  #close(now: Instant, session: AgentSession, reason: string): void {
    this.#direct.end(now, session, reason);
    if (session.relayed !== undefined) this.#unlink(now, session, reason, true, CloseCode.sessionOver);
    this.#parts.drops.values[Drop.no_session]! += session.waiting.drain().length;
    session.deadline = undefined;
    session.enter(now, 'closed', reason);
    this.#parts.onForgotten(session);
    this.#byConnector.delete(session.connector);
    this.#turns.delete(session);
    for (const [service, one] of this.#byService) if (one === session) this.#byService.delete(service);
  }
}
