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
import { BufferStore, RETAINED_BYTES } from '../netstack/buffer-store.js';
import { createStackCounters } from '../netstack/counters.js';
import type { ExtraSockets } from '../node/extra-sockets.js';
import { Inbound } from '../node/inbound.js';
import { INNER_MTU } from '../node/inner-mtu.js';
import { makePunching } from '../node/make-punching.js';
import { makeRelays } from '../node/make-relays.js';
import { Outbound } from '../node/outbound.js';
import type { DirectOptions, Punching } from '../node/punching.js';
import type { RelayClient } from '../node/relay-client.js';
import type { RelayEvent, Relays } from '../node/relays.js';
import { StackOutput } from '../node/stack-output.js';
import { Underlay } from '../node/underlay.js';
import type { HostNetwork, Reactor, Sockets, TunDevice, UdpSocket } from '../os/io.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { Identity } from '../policy/proof.js';
import type { ConnectionHandler, QuicConnection } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { Fragmenter } from '../tunnel/fragments.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import { LINK_COUNTERS } from '../tunnel/links/states.js';
import { type FromRelay, parseChannel, type RegistrationStatus } from '../tunnel/messages.js';
import type { BirthdayRole } from '../tunnel/punch/birthday.js';
import type { CoalescedPacket } from '../wire/gro.js';
import type { ServiceBackend } from './backends.js';
import { KernelPath } from './kernel-path.js';
import { type ConnectorEvent, ConnectorLinks } from './links.js';
import { Registrar } from './registrar.js';
import { ConnectorSession } from './session.js';

const SWEEP_INTERVAL = Seconds(5);

export type ConnectorCoreEvent =
  | ConnectorEvent
  | RelayEvent
  | {
      readonly kind: 'registered';
      readonly relay: string;
      readonly service: string;
      readonly status: RegistrationStatus;
    }
  /** Ports are guessed to get through a symmetric NAT: many sockets are opened here, or many packets sent. */
  | { readonly kind: 'port-guessing'; readonly agent: string; readonly role: BirthdayRole }
  | { readonly kind: 'policy'; readonly version: number; readonly envelope: unknown }
  | { readonly kind: 'policy-refused'; readonly code: string };

export interface ConnectorParts {
  readonly name: string;
  readonly network: string;
  readonly policy: PolicyKeeper;
  readonly policyKey: Uint8Array;
  readonly proof: unknown;
  /** Names of the network's relays. */
  readonly relays: readonly string[];
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
  readonly onRelayAttempt: (relay: string) => void;
  readonly limits?: FlowLimits;
  readonly direct: DirectOptions;
  readonly extraSockets: ExtraSockets;
}

export class ConnectorCore {
  readonly drops = new Counters(DROP_REASONS);
  readonly linkCounters = new Counters(LINK_COUNTERS);
  readonly flowCounters = new Counters<FlowCounter>(FLOW_COUNTERS);
  readonly stackCounters = createStackCounters();
  /** Of all sessions' stacks: their number must not multiply what is kept. */
  readonly buffers = new BufferStore(RETAINED_BYTES);
  readonly relays: Relays;
  readonly punching: Punching;
  readonly links: ConnectorLinks;
  readonly registrar: Registrar;
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

  constructor(parts: ConnectorParts) {
    this.#parts = parts;
    this.#underlay = new Underlay(
      parts.udp,
      parts.relayEndpoint,
      parts.linkEndpoint,
      this.drops,
      {
        onRevalidate: (now, nonce, relay) => this.relays.at(relay)?.revalidate(now, nonce),
        onRelayed: (now, relay) => this.relays.at(relay)?.receivedRelayed(now),
        onProbeReply: (now, reply) => {
          this.relays.onProbeReply(now, reply);
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
      onGuess: (path, role) => {
        const session = [...this.links.sessions].find((one) => one.path === path);
        if (session !== undefined) parts.onEvent({ kind: 'port-guessing', agent: session.identity.name, role });
      },
      onNetwork: (now) => this.links.networkChanged(now),
    });
    this.registrar = new Registrar({
      services: () => parts.backends.keys(),
      policy: parts.policy,
      onRegistered: (relay, service, status) =>
        parts.onEvent({ kind: 'registered', relay: relay.name, service, status }),
    });
    this.relays = makeRelays(parts, {
      role: 'connector',
      network: parts.network,
      underlay: this.#underlay,
      punching: this.punching,
      owner: {
        onRelayReady: (now, relay) => this.registrar.relayReady(now, relay),
        onRelayLost: (now, relay, reason) => {
          this.registrar.relayLost(relay);
          this.links.relayLost(now, relay.slot, `relay: ${reason}`);
        },
        onRelayMessage: (now, relay, message) => this.#message(now, relay, message),
        isRelayWanted: () => this.links.isRelayWanted(parts.reactor.now()),
        isUsed: (relay) => this.links.isUsed(relay.slot),
      },
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
      tun === undefined ? {} : { udp: tun.udpOffload, lasting: parts.linkEndpoint.inbound },
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
      tierAt: (link) => this.relays.tierAt(link),
      onLie: (what, relay) => this.relays.at(relay)?.countLie(what),
      onSentRelayed: (now, relay) => this.relays.at(relay)?.sentRelayed(now),
    });
  }

  /** The home relay; the first one while none is connected. */
  get relay(): RelayClient {
    return this.relays.home;
  }
  /** Where the home relay sees this node. */
  get observed(): SocketAddress | undefined {
    return this.relays.observed;
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
    this.relays.routesChanged(now, ({ ip }) => this.punching.rules.route(ip) !== 'none');
    this.relays.wake(now);
    this.suspect(now);
  }

  /** The links that packets may take are others from now on. */
  setPath(now: Instant, path: PathChoice): void {
    if (path === this.punching.path) return;
    this.punching.path = path;
    this.links.pathChanged(now);
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
    const { relayEndpoint, linkEndpoint, sockets } = this.#parts;
    // Links first: what came over one, and its close, precedes the relay's word that its channel is gone. And packets leave
    // before anything else is looked after.
    linkEndpoint.process(now);
    sockets.flushDatagrams();
    this.#flushDirty(now);
    this.outbound.flush(now);
    this.#underlay.flushLinks(now);
    relayEndpoint.process(now);
    this.relays.turn(now);
    this.registrar.turn(now);
    if (now >= this.#nextSweep) {
      this.#nextSweep = later(now, SWEEP_INTERVAL);
      this.links.sweep(now);
    }
    this.punching.turn(now);
    this.links.turn(now);
    this.#timers.expire(now);
    sockets.flushDatagrams();
    this.#flushDirty(now);
    this.#flush(now);
    if (this.#dirty.length > 0) return now;
    const network = earliest(relayEndpoint.nextTimeout(), linkEndpoint.nextTimeout());
    const own = earliest(
      earliest(this.#timers.next(), this.relays.nextTimeout()),
      earliest(this.#nextSweep, this.registrar.nextTimeout()),
    );
    return earliest(earliest(network, own), earliest(this.links.nextTimeout(), this.punching.nextTimeout()));
  }

  /** This machine may have slept: everybody is asked for a life sign at once. */
  suspect(now: Instant): void {
    this.relays.suspect(now);
    this.links.suspect(now);
  }

  /** A policy envelope from a relay. */
  offerPolicy(now: Instant, envelope: unknown, relay = this.relay): void {
    try {
      this.takePolicy(now, envelope);
    } catch (error) {
      const code = error instanceof SallyportError ? error.code : 'POLICY_MALFORMED';
      relay.countLie(`a policy that does not hold: ${code}`);
      this.#parts.onEvent({ kind: 'policy-refused', code });
    }
  }

  /** As `offerPolicy`. @throws SallyportError those of `PolicyKeeper.offer`. */
  takePolicy(now: Instant, envelope: unknown): void {
    if (!this.#parts.policy.offer(envelope)) return;
    const view = this.#parts.policy.view!;
    this.#parts.onEvent({ kind: 'policy', version: view.version, envelope });
    this.links.policyChanged(now);
    this.registrar.changed(now);
  }

  /** `backends` have changed: the relay is told, and flows to services that are gone end. Others stay where they go. */
  backendsChanged(now: Instant, removed: readonly string[]): void {
    this.registrar.withdraw(removed);
    for (const session of this.links.sessions) {
      session.reevaluate(now);
      this.#markDirty(session);
    }
    this.registrar.changed(now);
  }

  /** Ends every session and the relay connection; the driver runs one more `turn`. */
  shutdown(now: Instant): void {
    for (const session of [...this.links.sessions]) this.links.close(now, session, 'the connector stops');
    this.#flush(now);
    this.relays.stop(now);
  }

  /** Sends what there is; links of ended sessions close after the resets of their flows. */
  #flush(now: Instant): void {
    this.outbound.flush(now);
    this.#underlay.flush(now);
    if (this.links.closeEnding(now)) this.#underlay.flush(now);
    this.outbound.drain(now);
  }

  #message(now: Instant, relay: RelayClient, message: FromRelay): void {
    switch (message.type) {
      case 'channel': {
        const { high, low } = parseChannel(message.channel);
        const channel = this.#underlay.channels.open(relay.slot, high, low);
        if (channel === undefined) {
          relay.countLie('a channel that is in use already, or one too many');
          break;
        }
        this.links.announce(channel, message.agent);
        relay.send({ type: 'ready', channel: message.channel });
        break;
      }
      case 'close': {
        const { high, low } = parseChannel(message.channel);
        this.links.channelClosed(now, relay.slot, high, low, message.reason);
        this.#underlay.channels.closeById(now, relay.slot, high, low);
        break;
      }
      case 'policy':
        this.offerPolicy(now, message.envelope, relay);
        break;
      case 'drain':
        this.links.relayDrains(now, relay.slot);
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
            buffers: this.buffers,
            sink: new StackOutput(this.outbound, reactor, this.drops, {
              link: (at, packet, offset) => session.linkOf(at, packet.bytes, offset),
              isHeld: () => session.isHeld,
            }),
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
