/**
 * An agent's sessions: opens them on the first packet for a service, keeps their links, and finds the one a packet takes.
 */
import type { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, earliest, elapsed, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import type { Link } from '../node/link.js';
import type { Punching } from '../node/punching.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Relays } from '../node/relays.js';
import type { Underlay } from '../node/underlay.js';
import type { CompiledService, PolicyView } from '../policy/view.js';
import type { DatagramBatch } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { RECONNECT_WANTED_CAP } from '../tunnel/backoff.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { LinkCounter, LinkReason } from '../tunnel/links/states.js';
import type { ToAgent } from '../tunnel/messages.js';
import { ChannelAsker, isChannel } from './channel-asker.js';
import { AgentDirect } from './direct.js';
import { FirstWays } from './first-ways.js';
import { LinkAdmission, type Welcome } from './link-admission.js';
import { LinkChoice } from './link-choice.js';
import { ABSENT_GRACE, AgentSession, type SessionTransition } from './session.js';
import { SessionLinks, type SessionLinksOwner } from './session-links.js';
import { SpareWays } from './spare-ways.js';

/** Without a link for this long, new packets look for another connector of the service. */
const LOOK_ELSEWHERE: Duration = Seconds(5);

export interface SessionsParts {
  readonly relays: Relays;
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

  readonly #asker: ChannelAsker;
  readonly #spares: SpareWays;
  readonly #links: SessionLinks;
  readonly #direct: AgentDirect;
  readonly #choice: LinkChoice;
  readonly #firsts: FirstWays;

  constructor(parts: SessionsParts) {
    this.#parts = parts;
    this.#links = new SessionLinks({
      links: parts.links,
      network: parts.network,
      admission: new LinkAdmission(parts),
      drops: parts.drops,
      wall: parts.wall,
      proof: parts.proof,
      onSentRelayed: (now, relay) => parts.relays.at(relay)?.sentRelayed(now),
      owner: this,
    });
    this.#asker = new ChannelAsker(parts.underlay, parts.relays);
    this.#spares = new SpareWays({ relays: parts.relays, links: this.#links, asker: this.#asker, owner: this });
    const { punching, underlay } = parts;
    this.#direct = new AgentDirect({ links: this.#links, punching, table: underlay.direct });
    this.#choice = new LinkChoice({
      punching,
      counters: parts.linkCounters,
      links: this.#links,
      direct: this.#direct,
      onReleased: parts.onReleased,
      onPath: parts.onPath,
    });
    this.#firsts = new FirstWays({
      relays: parts.relays,
      links: this.#links,
      asker: this.#asker,
      spares: this.#spares,
      choice: this.#choice,
      admits: parts.admits,
    });
  }

  get all(): IterableIterator<AgentSession> {
    return this.#byConnector.values();
  }

  /** Service ids that relays say have a connector now. */
  get available(): ReadonlySet<string> {
    return this.#asker.catalogues.available;
  }

  /** Whether the packets of this service take this session. */
  carries(session: AgentSession, service: string): boolean {
    return this.#byService.get(service) === session;
  }

  /** Whether channels of this relay are in use. */
  isUsed(relay: RelayClient): boolean {
    for (const session of this.#byConnector.values()) {
      if (session.relay === relay || session.spare.relay === relay) return true;
    }
    return false;
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

  /** A relay is ready: sessions that wait for a channel ask for one at once. */
  relayReady(now: Instant, relay: RelayClient): void {
    this.#firsts.relayReady(now, relay);
    for (const session of this.#byConnector.values()) {
      session.absentSince = undefined;
      session.refusedBy.delete(relay);
      if (session.relayState === 'waiting') session.deadline = now;
      this.#spares.mayHave(now, session, relay);
    }
  }

  /** Channels die with the relay connection they were opened on. */
  relayLost(now: Instant, relay: RelayClient, reason: string): void {
    this.#asker.catalogues.lost(relay);
    for (const session of this.#byConnector.values()) {
      if (session.spare.relay === relay) this.#spares.drop(now, session, `relay: ${reason}`, false);
      if (session.relay === relay && session.channel !== undefined)
        this.#firsts.unlink(now, session, `relay: ${reason}`, true);
    }
  }

  /** A relay closed a channel. */
  channelClosed(now: Instant, relay: RelayClient, id: string, reason: string): void {
    for (const session of this.#byConnector.values()) {
      if (isChannel(session.channel, relay, id)) this.#firsts.unlink(now, session, reason, false);
      else if (isChannel(session.spare.channel, relay, id)) this.#spares.drop(now, session, reason, false);
    }
  }

  /** Connectors have come or gone (catalogue): waiting sessions need not wait longer, or need not be waited for. */
  catalogueChanged(now: Instant, relay: RelayClient, services: ReadonlySet<string>): void {
    this.#asker.catalogues.set(relay, services);
    const { available } = this.#asker.catalogues;
    for (const session of this.#byConnector.values()) {
      if (services.has(session.service)) {
        session.refusedBy.delete(relay);
        this.#spares.mayHave(now, session, relay);
      }
      if (session.relayState === 'live') continue;
      if (!available.has(session.service)) this.#firsts.toldAbsent(now, session);
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

  /** A relay goes away: its links are only used while there is no other, and another relay's are looked for. */
  relayDrains(now: Instant, relay: RelayClient): void {
    for (const session of this.#byConnector.values()) this.#spares.drain(now, session, relay);
  }

  /** Own addresses or the host's routes have changed. */
  networkChanged(now: Instant): void {
    for (const session of this.#byConnector.values()) this.#direct.networkChanged(now, session);
  }

  pathChanged(now: Instant): void {
    for (const session of this.#byConnector.values()) this.#choice.pathChanged(now, session);
  }

  turn(now: Instant): void {
    for (const session of this.#byConnector.values()) {
      if (session.deadline !== undefined && session.deadline <= now) this.#firsts.due(now, session);
      this.#checkLife(now, session);
      session.set.manager.turn(now);
      this.#direct.turn(now, session);
      this.#spares.turn(now, session);
      if (session.waiting.length > 0 && session.isAbsent(now)) this.#refuseWaiting(now, session);
      if (session.isIdle(now)) this.#close(now, session, 'idle');
    }
  }

  #checkLife(now: Instant, session: AgentSession): void {
    const { relayed, direct } = session;
    if (relayed?.isLive) {
      const state = relayed.lifeSigns.check(now, relayed.connection);
      if (state === 'gone') {
        this.#firsts.unlink(now, session, 'the connector has gone silent', true);
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
      next = earliest(next, this.#spares.nextTimeout(now, session));
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

  #refuseWaiting(now: Instant, session: AgentSession): void {
    const packets = session.waiting.drain();
    this.#parts.drops.values[Drop.no_session]! += packets.length;
    this.#parts.onRefused(now, packets);
  }

  onWelcome(now: Instant, session: AgentSession, link: Link, message: Welcome): void {
    session.services = new Set(message.services);
    session.absentSince = undefined;
    if (link === session.spare.link && message.resumed) {
      this.#spares.live(now, session);
      return;
    }
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
    if (link === session.spare.link) {
      // The connector has begun anew, and the first way's link is of the old session.
      this.#spares.live(now, session);
      this.#firsts.unlink(now, session, reason, true);
      this.#direct.relayLive(now, session);
      return;
    }
    session.refusedBy.clear();
    session.enter(now, 'live', reason);
    this.#direct.relayLive(now, session);
    this.#choice.because(reason, () => session.set.add(now, link, this.#parts.relays.tierAt(link), false));
    this.#spares.look(now, session);
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
    else if (link === session.relayed) this.#firsts.unlink(now, session, reason, true);
    else if (link === session.spare.link) this.#spares.drop(now, session, reason);
  }

  onDatagrams(now: Instant, session: AgentSession, batch: DatagramBatch, link: Link): void {
    this.#parts.onDatagrams(now, session, batch, link);
  }

  onBack(now: Instant, session: AgentSession, link: Link): void {
    if (session.link === link) this.#parts.onReleased(now, session, []);
  }

  #close(now: Instant, session: AgentSession, reason: string): void {
    this.#direct.end(now, session, reason);
    this.#spares.end(now, session, reason);
    if (session.relayed !== undefined) this.#firsts.unlink(now, session, reason, true, CloseCode.sessionOver);
    this.#parts.drops.values[Drop.no_session]! += session.waiting.drain().length;
    session.deadline = undefined;
    session.enter(now, 'closed', reason);
    this.#parts.onForgotten(session);
    this.#byConnector.delete(session.connector);
    for (const [service, one] of this.#byService) if (one === session) this.#byService.delete(service);
  }
}
