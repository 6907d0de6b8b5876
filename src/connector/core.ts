/**
 * The connector: one relay connection, the links that agents make through it, and for each agent a session whose flows end
 * in a userspace stack and go on through the host's own sockets, or (`--mode kernel`) whose packets the host's kernel routes.
 *
 * Order in a turn: `receive` for every socket that is readable, then `turn` once. Everything is synchronous.
 */

import type { SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { DROP_REASONS } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { earliest, type Instant, later, Millis, Seconds, type WallTime } from '../base/time.js';
import { TimerQueue } from '../base/timers.js';
import { DirectDialer } from '../engine/dialer.js';
import { DEFAULT_FLOW_LIMITS, FLOW_COUNTERS, type FlowCounter, type FlowLimits } from '../engine/flow-options.js';
import { Flows } from '../engine/flows.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import { createStackCounters } from '../netstack/counters.js';
import type { ExtraSockets } from '../node/extra-sockets.js';
import { Inbound } from '../node/inbound.js';
import { INNER_MTU } from '../node/inner-mtu.js';
import { makePunching } from '../node/make-punching.js';
import { Outbound } from '../node/outbound.js';
import type { DirectOptions, Punching } from '../node/punching.js';
import { type Answer, RelayClient } from '../node/relay-client.js';
import { StackOutput } from '../node/stack-output.js';
import { Underlay } from '../node/underlay.js';
import type { HostNetwork, Reactor, Sockets, TunDevice, UdpSocket } from '../os/io.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { Identity } from '../policy/proof.js';
import type { ConnectionHandler, QuicConnection } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { Fragmenter } from '../tunnel/fragments.js';
import { LINK_COUNTERS } from '../tunnel/links/states.js';
import { type FromRelay, MAX_SERVICES_PER_MESSAGE, parseChannel, type RegistrationStatus } from '../tunnel/messages.js';
import type { CoalescedPacket } from '../wire/gro.js';
import type { ServiceBackend } from './backends.js';
import { KernelPath } from './kernel-path.js';
import { type ConnectorEvent, ConnectorLinks } from './links.js';
import { ConnectorSession } from './session.js';

const SWEEP_INTERVAL = Seconds(5);
/** A `register` without an answer is repeated after this, doubling. */
const REGISTER_RETRY = Seconds(2);
const REGISTER_RETRY_MAX = Seconds(60);

export type ConnectorCoreEvent =
  | ConnectorEvent
  | { readonly kind: 'relay-ready'; readonly over: 'udp' | 'tcp' }
  | { readonly kind: 'relay-lost'; readonly reason: string }
  | { readonly kind: 'relay-drains'; readonly seconds: number }
  | { readonly kind: 'registered'; readonly service: string; readonly status: RegistrationStatus }
  | { readonly kind: 'policy'; readonly version: number; readonly envelope: unknown }
  | { readonly kind: 'policy-refused'; readonly code: string };

export interface ConnectorParts {
  readonly name: string;
  readonly network: string;
  readonly policy: PolicyKeeper;
  readonly policyKey: Uint8Array;
  readonly proof: unknown;
  readonly relayName: string;
  readonly software: string;
  readonly backends: ReadonlyMap<string, ServiceBackend>;
  readonly reactor: Reactor;
  readonly sockets: Sockets;
  readonly udp: readonly UdpSocket[];
  /** The device of `--mode kernel`; without one, flows end here. */
  readonly tun: TunDevice | undefined;
  readonly relayEndpoint: QuicEndpoint;
  readonly linkEndpoint: QuicEndpoint;
  readonly crypto: Crypto;
  readonly entropy: Entropy;
  readonly wall: () => WallTime;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly onEvent: (event: ConnectorCoreEvent) => void;
  /** The relay's name may be looked up anew. */
  readonly onRelayAttempt: () => void;
  readonly limits?: FlowLimits;
  readonly direct: DirectOptions;
  readonly extraSockets: ExtraSockets;
}

export class ConnectorCore {
  readonly drops = new Counters(DROP_REASONS);
  readonly linkCounters = new Counters(LINK_COUNTERS);
  readonly flowCounters = new Counters<FlowCounter>(FLOW_COUNTERS);
  readonly stackCounters = createStackCounters();
  readonly relay: RelayClient;
  readonly punching: Punching;
  readonly links: ConnectorLinks;
  readonly registrations = new Map<string, RegistrationStatus | 'pending'>();
  observed: SocketAddress | undefined;
  readonly #parts: ConnectorParts;
  readonly #underlay: Underlay;
  readonly outbound: Outbound;
  readonly #inbound: Inbound;
  readonly kernel: KernelPath | undefined;
  readonly #timers = new TimerQueue();
  readonly #dirty: ConnectorSession[] = [];
  #receiving: ConnectorSession | undefined;
  #sending: ConnectorSession | undefined;
  #nextSweep: Instant = 0 as Instant;
  #registerAt: Instant | undefined;
  #registerWait = REGISTER_RETRY;

  constructor(parts: ConnectorParts) {
    this.#parts = parts;
    this.#underlay = new Underlay(
      parts.udp,
      parts.relayEndpoint,
      parts.linkEndpoint,
      this.drops,
      {
        onRevalidate: (now, nonce) => this.relay.revalidate(now, nonce),
        onRelayed: (now) => this.relay.receivedRelayed(now),
        onProbeReply: (now, reply) => {
          this.relay.onProbeReply(now, reply.nonce);
          this.punching.reflexive.onReply(now, reply);
        },
        onPunch: (now, bytes, offset, length, sources, index, socket) =>
          this.punching.receive(now, bytes, offset, length, sources, index, socket),
      },
      parts.entropy.uint32(),
    );
    this.punching = makePunching(parts.direct, parts.udp, this.#underlay, parts.entropy, {
      extraSockets: parts.extraSockets,
      relay: () => this.relay,
      now: () => parts.reactor.now(),
      onNetwork: (now) => this.links.networkChanged(now),
    });
    this.relay = new RelayClient({
      endpoint: parts.relayEndpoint,
      entropy: parts.entropy,
      role: 'connector',
      serverName: parts.relayName,
      software: parts.software,
      proof: () => parts.proof,
      owner: {
        onRelayReady: (now) => this.#relayReady(now),
        onRelayLost: (now, reason) => this.#relayLost(now, reason),
        onRelayMessage: (now, message) => this.#message(now, message),
        onObserved: (now, address) => {
          this.observed = address;
          this.punching.setObserved(now, address);
        },
        onRelayAttempt: () => parts.onRelayAttempt(),
        isRelayWanted: () => this.links.isRelayWanted(parts.reactor.now()),
      },
      wall: parts.wall,
      setRelay: (address) => this.#underlay.setRelay(address),
      sendProbe: (address, bytes) => this.#underlay.probe(address, bytes),
    });
    this.outbound = new Outbound(parts.linkEndpoint, this.#underlay, this.drops, parts.entropy.uint32(), {
      onTooBig: (now, packet, offset, length, mtu) => {
        if (this.kernel !== undefined) this.kernel.tooBig(now, packet, offset, length, mtu);
        else this.#sending?.bounces.add(packet.bytes, offset, length, 'too_big', mtu);
      },
    });
    const { tun } = parts;
    const { outbound, drops } = this;
    this.kernel = tun === undefined ? undefined : new KernelPath({ tun, outbound, drops, innerMtu: INNER_MTU });
    this.#inbound = new Inbound(
      drops,
      { emit: (packet) => this.#packet(packet) },
      { udp: tun === undefined || tun.udpOffload },
    );
    this.links = new ConnectorLinks({
      underlay: this.#underlay,
      punching: this.punching,
      policy: parts.policy,
      policyKey: parts.policyKey,
      network: parts.network,
      crypto: parts.crypto,
      drops: this.drops,
      linkCounters: this.linkCounters,
      wall: parts.wall,
      proof: () => parts.proof,
      innerMtu: INNER_MTU,
      parseCertificate: parts.parseCertificate,
      makeSession: (now, identity, id) => this.#makeSession(now, identity, id),
      onDatagrams: (now, session, batch, link) => {
        this.#receiving = session;
        this.#inbound.handle(now, batch, session.inbound, link);
        this.#markDirty(session);
      },
      onLink: (now, session) => {
        session.flows.stack.kick(now);
        this.#markDirty(session);
      },
      onEvent: parts.onEvent,
      onLie: (what) => this.relay.countLie(what),
      onSentRelayed: (now) => this.relay.sentRelayed(now),
    });
  }

  /** To be given to the links' endpoint as its `accept`. */
  acceptLink(now: Instant, connection: QuicConnection): ConnectionHandler | undefined {
    return this.links.accept(now, connection);
  }

  /** Whether a socket reaches this relay address. */
  reaches(address: SocketAddress): boolean {
    return this.#underlay.reaches(address);
  }

  /** What the main thread has learnt of the host's addresses and routes. When they are others, everybody is asked for a life sign. */
  setNetwork(now: Instant, network: HostNetwork): void {
    if (!this.punching.setNetwork(now, network)) return;
    this.relay.wake(now);
    this.suspect(now);
  }

  /** Socket `index` is readable: takes one batch. Returns the number of entries. */
  receive(now: Instant, index: number): number {
    return this.#underlay.receive(now, index);
  }

  /** Socket `index`, which had no room, has some. */
  writable(now: Instant, index: number): void {
    this.#underlay.writable(now, index);
  }

  /** Runs what is due and sends what there is; returns when it wants to run again. */
  turn(now: Instant): Instant | undefined {
    const { relayEndpoint, linkEndpoint } = this.#parts;
    // Links first: what came over one, and its close, precedes the relay's word that its channel is gone. And packets leave
    // before anything else is looked after.
    linkEndpoint.process(now);
    this.#flushDirty(now);
    this.outbound.flush(now);
    this.#underlay.flushLinks(now);
    relayEndpoint.process(now);
    this.relay.turn(now);
    if (this.#registerAt !== undefined && now >= this.#registerAt) this.#register(now);
    if (now >= this.#nextSweep) {
      this.#nextSweep = later(now, SWEEP_INTERVAL);
      this.links.sweep(now);
    }
    this.punching.turn(now);
    this.links.turn(now);
    this.#timers.expire(now);
    this.#flushDirty(now);
    this.#flush(now);
    if (this.#dirty.length > 0) return now;
    const network = earliest(relayEndpoint.nextTimeout(), linkEndpoint.nextTimeout());
    const own = earliest(
      earliest(this.#timers.next(), this.relay.nextTimeout()),
      earliest(this.#nextSweep, this.#registerAt),
    );
    return earliest(earliest(network, own), earliest(this.links.nextTimeout(), this.punching.nextTimeout()));
  }

  /** This machine may have slept: everybody is asked for a life sign at once. */
  suspect(now: Instant): void {
    this.relay.suspect(now);
    this.links.suspect(now);
  }

  /** A policy envelope from the relay or the state folder. */
  offerPolicy(now: Instant, envelope: unknown): void {
    try {
      this.takePolicy(now, envelope);
    } catch (error) {
      const code = error instanceof SallyportError ? error.code : 'POLICY_MALFORMED';
      this.relay.countLie(`a policy that does not hold: ${code}`);
      this.#parts.onEvent({ kind: 'policy-refused', code });
    }
  }

  /** As `offerPolicy`. @throws SallyportError those of `PolicyKeeper.offer`. */
  takePolicy(now: Instant, envelope: unknown): void {
    if (!this.#parts.policy.offer(envelope)) return;
    const view = this.#parts.policy.view!;
    this.#parts.onEvent({ kind: 'policy', version: view.version, envelope });
    this.links.policyChanged(now);
    if (this.relay.state === 'ready') this.#registerAt = now;
  }

  /** `backends` have changed: the relay is told, and flows to services that are gone end. Others stay where they go. */
  backendsChanged(now: Instant, removed: readonly string[]): void {
    for (const id of removed) this.registrations.delete(id);
    for (let at = 0; at < removed.length; at += MAX_SERVICES_PER_MESSAGE) {
      const services = removed.slice(at, at + MAX_SERVICES_PER_MESSAGE).map((id) => ({ id }));
      if (this.relay.state === 'ready') this.relay.send({ type: 'withdraw', services });
    }
    for (const session of this.links.sessions) {
      session.reevaluate(now);
      this.#markDirty(session);
    }
    if (this.relay.state !== 'ready') return;
    this.#registerWait = REGISTER_RETRY;
    this.#registerAt = now;
  }

  /** Ends every session and the relay connection; the driver runs one more `turn`. */
  shutdown(now: Instant): void {
    for (const session of [...this.links.sessions]) this.links.close(now, session, 'the connector stops');
    this.#flush(now);
    this.relay.stop(now);
  }

  /** Sends what there is; links of ended sessions close after the resets of their flows. */
  #flush(now: Instant): void {
    this.outbound.flush(now);
    this.#underlay.flush(now);
    if (this.links.closeEnding(now)) this.#underlay.flush(now);
    this.outbound.drain(now);
  }

  #relayReady(now: Instant): void {
    this.#parts.onEvent({ kind: 'relay-ready', over: this.relay.isOverTcp ? 'tcp' : 'udp' });
    this.punching.reflexive.ask(now);
    this.#registerWait = REGISTER_RETRY;
    this.#registerAt = now;
  }

  #relayLost(now: Instant, reason: string): void {
    this.#parts.onEvent({ kind: 'relay-lost', reason });
    this.#registerAt = undefined;
    this.links.relayLost(now, `relay: ${reason}`);
  }

  #register(now: Instant): void {
    this.#registerAt = later(now, this.#registerWait);
    this.#registerWait = Math.min(this.#registerWait * 2, REGISTER_RETRY_MAX) as typeof REGISTER_RETRY;
    const ids = [...this.#parts.backends.keys()];
    if (ids.length === 0) this.#registerAt = undefined;
    for (const id of ids) if (!this.registrations.has(id)) this.registrations.set(id, 'pending');
    for (let at = 0; at < ids.length; at += MAX_SERVICES_PER_MESSAGE) {
      const services = ids.slice(at, at + MAX_SERVICES_PER_MESSAGE).map((id) => ({ id }));
      this.relay.request(
        now,
        (id) => ({ type: 'register', id, services }),
        (_at, answer) => this.#registered(answer),
      );
    }
  }

  #registered(answer: Answer): void {
    if (!answer.ok || answer.message.type !== 'registered') return;
    this.#registerAt = undefined;
    for (const service of answer.message.services) {
      const { id } = service;
      const status = service.status === 'ok' && !this.#isAsInPolicy(service) ? 'conflict' : service.status;
      if (status !== service.status) this.relay.countLie(`another virtual address of ${id} than the policy's`);
      if (!this.#parts.backends.has(id) || this.registrations.get(id) === status) continue;
      this.registrations.set(id, status);
      this.#parts.onEvent({ kind: 'registered', service: id, status });
    }
  }

  /** What the relay repeats of a service is what the operator has signed; without a policy yet there is nothing to compare. */
  #isAsInPolicy(service: {
    readonly id: string;
    readonly virtualIp4?: string | undefined;
    readonly virtualIp6?: string | undefined;
  }): boolean {
    const { view } = this.#parts.policy;
    if (view === undefined) return true;
    const entry = view.service(service.id)?.entry;
    return entry?.virtualIp4 === service.virtualIp4 && entry?.virtualIp6 === service.virtualIp6;
  }

  #message(now: Instant, message: FromRelay): void {
    switch (message.type) {
      case 'channel': {
        const { high, low } = parseChannel(message.channel);
        const channel = this.#underlay.openChannel(high, low);
        if (channel === undefined) {
          this.relay.countLie('a channel that is in use already, or one too many');
          break;
        }
        this.links.announce(channel, message.agent);
        this.relay.send({ type: 'ready', channel: message.channel });
        break;
      }
      case 'close': {
        const { high, low } = parseChannel(message.channel);
        this.links.channelClosed(now, high, low, message.reason);
        this.#underlay.closeChannelById(now, high, low);
        break;
      }
      case 'policy':
        this.offerPolicy(now, message.envelope);
        break;
      case 'drain':
        this.#parts.onEvent({ kind: 'relay-drains', seconds: message.deadline / 1000 });
        break;
    }
  }

  #makeSession(now: Instant, identity: Identity, id: string): ConnectorSession {
    const { reactor, sockets, entropy, crypto, policy, backends, name, limits } = this.#parts;
    return new ConnectorSession({
      now,
      identity,
      id,
      connector: name,
      view: policy.view!,
      backends,
      drops: this.drops,
      punching: this.punching,
      fragmenter: new Fragmenter(entropy.uint32()),
      kernel: this.kernel,
      onTimer: (session) => this.#markDirty(session),
      makeSet: (session) => this.links.makeSet(session),
      makeFlows: (session) =>
        new Flows({
          reactor,
          dialer: new DirectDialer(reactor, sockets, true),
          router: session,
          limits: limits ?? DEFAULT_FLOW_LIMITS,
          counters: this.flowCounters,
          stack: {
            mtu: INNER_MTU,
            entropy,
            crypto,
            counters: this.stackCounters,
            sink: new StackOutput(this.outbound, reactor, this.drops, { link: () => session.link }),
          },
          onActivity: () => this.#markDirty(session),
        }),
    });
  }

  #packet(packet: CoalescedPacket): void {
    this.#receiving!.receive(this.#parts.reactor.now(), packet);
  }

  #markDirty(session: ConnectorSession): void {
    if (session.isDirty) return;
    session.isDirty = true;
    this.#dirty.push(session);
  }

  #flushDirty(now: Instant): void {
    if (this.#dirty.length === 0) return;
    for (const session of this.#dirty.splice(0)) this.#flushSession(now, session);
  }

  /** Without a link time stands still for the session's flows. */
  #flushSession(now: Instant, session: ConnectorSession): void {
    session.isDirty = false;
    if (session.link === undefined) return;
    this.#sending = session;
    session.flows.flush(now);
    this.outbound.flush(now);
    this.#sending = undefined;
    if (!session.bounces.isEmpty) {
      session.bounces.report(now);
      this.#markDirty(session);
    }
    const next = session.flows.nextTimeout();
    if (next !== undefined) this.#timers.arm(session.timer, next <= now ? later(now, Millis(1)) : next);
  }
}
