/**
 * An agent's sessions: opens them on the first packet for a service, keeps their links, and finds the one a packet takes.
 */
import { TokenBucket } from '../base/bucket.js';
import type { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { type Duration, earliest, elapsed, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import { closeText } from '../node/close-text.js';
import { Link } from '../node/link.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Underlay } from '../node/underlay.js';
import { verifyProof } from '../policy/proof.js';
import type { CompiledService, PolicyView } from '../policy/view.js';
import type { CloseReason, ConnectionHandler, DatagramBatch, QuicConnection } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { RECONNECT_WANTED_CAP } from '../tunnel/backoff.js';
import { CloseCode } from '../tunnel/close-codes.js';
import {
  decodeMessage,
  encodeMessage,
  formatChannel,
  PROTOCOL_VERSION,
  parseChannel,
  ToAgent,
} from '../tunnel/messages.js';
import { OPENS_AT_ONCE, OPENS_PER_SECOND } from '../tunnel/open-rate.js';
import { ABSENT_GRACE, AgentSession, type SessionTransition } from './session.js';

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
  readonly links: QuicEndpoint;
  readonly entropy: Entropy;
  readonly crypto: Crypto;
  readonly network: string;
  readonly policyKey: Uint8Array;
  readonly drops: Counters<DropName>;
  readonly wall: () => WallTime;
  readonly view: () => PolicyView | undefined;
  /** Whether the policy in force still admits anything new. */
  readonly admits: () => boolean;
  readonly proof: () => unknown;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly onTransition: (session: AgentSession, transition: SessionTransition) => void;
  /** The connector knows nothing of the session's old flows any more. */
  readonly onForgotten: (session: AgentSession) => void;
  readonly onDenied: (session: AgentSession, service: string, reason: string) => void;
  readonly onDatagrams: (now: Instant, session: AgentSession, batch: DatagramBatch) => void;
  /** The session's link carries packets now: these have waited for it. */
  readonly onReleased: (now: Instant, session: AgentSession, packets: readonly Uint8Array[]) => void;
  /** These have waited for a connector that is not there. */
  readonly onRefused: (now: Instant, packets: readonly Uint8Array[]) => void;
}

export class Sessions {
  readonly #parts: SessionsParts;
  readonly #byConnector = new Map<string, AgentSession>();
  /** The session each service's packets take now; an entry is dropped when it stops being right. */
  readonly #byService = new Map<string, AgentSession>();

  /** Until then the relay's word that a connector is not there may only mean that it is not back yet. */
  #settled: Instant | undefined;

  readonly #opens = new TokenBucket(OPENS_PER_SECOND * RATE_USED, OPENS_AT_ONCE * RATE_USED);
  /** When each session that waits for its turn may ask; the token is taken already. */
  readonly #turns = new Map<AgentSession, Instant>();

  constructor(parts: SessionsParts) {
    this.#parts = parts;
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
    return this.#choose(now, service, current);
  }

  /** Stays with the present session for a while; then any live one of the service's connectors, then the least tried. */
  #choose(now: Instant, service: CompiledService, current: AgentSession | undefined): AgentSession | undefined {
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
    if (best.state === 'waiting') best.deadline = earliest(best.deadline, later(now, RECONNECT_WANTED_CAP));
    return best;
  }

  /** A session with the connector that has failed least, made if need be. */
  #leastTried(now: Instant, service: CompiledService): AgentSession | undefined {
    let best: AgentSession | undefined;
    for (const name of service.entry.connectors) {
      let session = this.#byConnector.get(name);
      if (session === undefined) {
        session = new AgentSession(now, name, service.id, this.#parts.entropy, this.#parts.onTransition);
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
      if (session.state === 'waiting') session.deadline = now;
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
      if (session.isLive) continue;
      if (!available.has(session.service)) this.#toldAbsent(now, session);
      else {
        session.absentSince = undefined;
        if (session.state === 'waiting') session.deadline = now;
      }
    }
  }

  /** Sessions with connectors that may no longer serve anything of ours end. */
  policyChanged(now: Instant): void {
    this.#byService.clear();
    const view = this.#parts.view();
    for (const session of [...this.#byConnector.values()]) {
      if (view === undefined || view.servicesOf(session.connector).length === 0) this.#close(now, session, 'policy');
      else if (session.link !== undefined && !this.#checkPeer(session)) this.#unlink(now, session, 'policy', true);
    }
  }

  turn(now: Instant): void {
    for (const session of this.#byConnector.values()) {
      if (session.deadline !== undefined && session.deadline <= now) this.#due(now, session);
      const link = session.link;
      if (session.isLive && link !== undefined) {
        const state = link.lifeSigns.check(now, link.connection);
        if (state === 'gone') {
          this.#unlink(now, session, 'the connector has gone silent', true);
          session.absentSince ??= now;
        } else if (state === 'back') this.#parts.onReleased(now, session, []);
      }
      if (session.waiting.length > 0 && session.isAbsent(now)) this.#refuseWaiting(now, session);
      if (session.isIdle(now)) this.#close(now, session, 'idle');
    }
  }

  nextTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const session of this.#byConnector.values()) {
      next = earliest(next, session.deadline);
      if (session.isLive) next = earliest(next, session.link?.lifeSigns.due);
      else if (session.absentSince !== undefined && session.waiting.length > 0) {
        next = earliest(next, later(session.absentSince, ABSENT_GRACE));
      }
    }
    return next;
  }

  /** This machine may have slept: every connector is asked for a life sign at once. */
  suspect(now: Instant): void {
    for (const session of this.#byConnector.values()) session.link?.lifeSigns.suspect(now);
  }

  shutdown(now: Instant): void {
    for (const session of [...this.#byConnector.values()]) this.#close(now, session, 'agent stops');
  }

  #due(now: Instant, session: AgentSession): void {
    session.deadline = undefined;
    if (session.state === 'waiting') this.#openInTurn(now, session);
    else if (session.state === 'linking') {
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
        if (session.state !== 'opening') return;
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
    const handler = this.#handlerFor(session);
    const name = `${session.connector}.connector.${this.#parts.network}`;
    const connection = this.#parts.links.connect(now, channel.address, name, handler);
    session.link = new Link(now, connection, channel, session.links++, session.fragmenter, (at) =>
      this.#parts.relay.sentRelayed(at),
    );
    session.enter(now, 'linking', 'channel open');
    session.deadline = later(now, LINK_TIMEOUT);
  }

  #disbelieve(now: Instant, session: AgentSession, what: string): void {
    this.#parts.relay.countLie(what);
    this.#wait(now, session, what);
  }

  #handlerFor(session: AgentSession): ConnectionHandler {
    const isCurrent = (connection: QuicConnection): boolean => session.link?.connection === connection;
    return {
      onConnected: (now, connection) => {
        if (isCurrent(connection)) this.#greet(now, session, connection);
      },
      onControlMessage: (now, bytes, connection) => {
        if (isCurrent(connection)) this.#message(now, session, bytes);
      },
      onDatagrams: (now, batch, connection) => {
        if (!isCurrent(connection) || !session.link!.isLive) {
          this.#parts.drops.values[Drop.not_admitted]! += batch.count;
          return;
        }
        const isBack = session.link!.lifeSigns.isAsking;
        session.link!.received(now, batch.count);
        session.lastUsed = now;
        if (isBack) this.#parts.onReleased(now, session, []);
        this.#parts.onDatagrams(now, session, batch);
      },
      onClosed: (now, reason: CloseReason, connection) => {
        if (isCurrent(connection)) this.#unlink(now, session, closeText(reason, this.#parts.wall()), true);
      },
    };
  }

  #greet(now: Instant, session: AgentSession, connection: QuicConnection): void {
    if (!this.#checkPeer(session)) {
      this.#unlink(now, session, 'the peer is not the connector the policy names', true);
      return;
    }
    session.link!.enter(now, 'greeting');
    session.control = connection.openControl();
    session.control.send(
      encodeMessage({
        type: 'hello',
        version: PROTOCOL_VERSION,
        session: session.id,
        link: session.link!.number,
        proof: this.#parts.proof(),
        capabilities: [],
      }),
    );
  }

  /** Whether the certificate of the session's link is the connector's, and the policy lets it serve something. */
  #checkPeer(session: AgentSession): boolean {
    const certificate = this.#certificate(session);
    const view = this.#parts.view();
    return (
      certificate !== undefined &&
      certificate.role === 'connector' &&
      certificate.name === session.connector &&
      certificate.network === this.#parts.network &&
      view !== undefined &&
      view.servicesOf(session.connector).length > 0
    );
  }

  #certificate(session: AgentSession): PeerIdentity | undefined {
    const der = session.link?.connection.peerCertificates[0];
    if (der === undefined) return undefined;
    try {
      return this.#parts.parseCertificate(der);
    } catch {
      return undefined;
    }
  }

  #message(now: Instant, session: AgentSession, bytes: Uint8Array): void {
    const decoded = decodeMessage(ToAgent, bytes);
    if (!decoded.ok) return;
    const { message } = decoded;
    switch (message.type) {
      case 'welcome':
        if (session.state === 'linking') this.#welcome(now, session, message);
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

  #welcome(now: Instant, session: AgentSession, message: Extract<ToAgent, { type: 'welcome' }>): void {
    const problem = this.#verifyWelcome(session, message);
    if (problem !== undefined) {
      this.#unlink(now, session, problem, true);
      return;
    }
    session.services = new Set(message.services);
    session.absentSince = undefined;
    session.link!.enter(now, 'live');
    session.deadline = undefined;
    session.backoff.reset();
    session.lastProblem = '';
    if (session.welcomed) session.reconnects++;
    const reason = session.welcomed
      ? message.resumed
        ? 'resumed'
        : 'new at the connector: old flows end'
      : 'welcomed';
    if (session.welcomed && !message.resumed) this.#parts.onForgotten(session);
    session.welcomed = true;
    session.enter(now, 'live', reason);
    this.#parts.onReleased(now, session, session.waiting.drain());
  }

  #verifyWelcome(session: AgentSession, message: Extract<ToAgent, { type: 'welcome' }>): string | undefined {
    const { crypto, policyKey, network, view } = this.#parts;
    if (message.version !== PROTOCOL_VERSION) return 'the connector speaks another version';
    if (message.session !== session.id) return 'the connector answered for another session';
    const certificate = this.#certificate(session)!;
    try {
      const revocations = view()!.revocations;
      const identity = verifyProof(crypto, policyKey, network, message.proof, certificate.spki, { revocations });
      if (identity.role === 'connector' && identity.name === session.connector) return undefined;
      return 'the connector’s proof names another node';
    } catch (error) {
      return error instanceof SallyportError
        ? `${error.code}: ${error.message}`
        : 'the connector’s proof does not hold';
    }
  }

  /** Ends the session's link; the session stays and tries again. */
  #unlink(
    now: Instant,
    session: AgentSession,
    reason: string,
    tellRelay: boolean,
    code: number = CloseCode.done,
  ): void {
    const { channel, link } = session;
    session.channel = undefined;
    session.link = undefined;
    session.control = undefined;
    link?.enter(now, 'closed');
    link?.connection.close(now, code, reason);
    if (channel !== undefined) {
      if (tellRelay)
        this.#parts.relay.send({
          type: 'close',
          channel: formatChannel(channel.high, channel.low),
          reason: reason.slice(0, 200),
        });
      this.#parts.underlay.closeChannel(now, channel);
    }
    const wasLive = session.isLive;
    this.#wait(now, session, reason);
    if (wasLive) session.deadline = now;
  }

  #wait(now: Instant, session: AgentSession, reason: string): void {
    session.lastProblem = reason;
    session.enter(now, 'waiting', reason);
    session.deadline = later(now, session.backoff.next(session.isWanted(now)));
  }

  #close(now: Instant, session: AgentSession, reason: string): void {
    if (session.link !== undefined) this.#unlink(now, session, reason, true, CloseCode.sessionOver);
    this.#parts.drops.values[Drop.no_session]! += session.waiting.drain().length;
    session.deadline = undefined;
    session.enter(now, 'closed', reason);
    this.#parts.onForgotten(session);
    this.#byConnector.delete(session.connector);
    this.#turns.delete(session);
    for (const [service, one] of this.#byService) if (one === session) this.#byService.delete(service);
  }
}
