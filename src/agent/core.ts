/**
 * The agent: one relay connection, sessions with connectors, and the host's packets in between, from a TUN device or from a
 * stack of its own.
 *
 * Order in a turn: `receive` for every socket that is readable, `readTun` when the device is, then `turn` once.
 */
import type { IpAddress, SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { DROP_REASONS, Drop } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { earliest, type Instant, later, Millis, type WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import type { ExtraSockets } from '../node/extra-sockets.js';
import { Inbound } from '../node/inbound.js';
import { INNER_MTU } from '../node/inner-mtu.js';
import { makePunching } from '../node/make-punching.js';
import { makeRelays } from '../node/make-relays.js';
import { Outbound } from '../node/outbound.js';
import type { DirectOptions, Punching } from '../node/punching.js';
import type { RelayClient } from '../node/relay-client.js';
import type { RelayEvent, Relays } from '../node/relays.js';
import { Underlay } from '../node/underlay.js';
import type { HostNetwork, TunDevice, UdpSocket } from '../os/io.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { Identity } from '../policy/proof.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import { LINK_COUNTERS, type LinkReason } from '../tunnel/links/states.js';
import type { FromRelay } from '../tunnel/messages.js';
import type { BirthdayRole } from '../tunnel/punch/birthday.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { judgeInbound } from './judge.js';
import { Routes } from './routes.js';
import type { AgentSession, SessionTransition } from './session.js';
import { Sessions } from './sessions.js';
import { StackPath } from './stack-path.js';
import { TunPath } from './tun-path.js';

export type AgentCoreEvent =
  | RelayEvent
  | {
      readonly kind: 'session';
      readonly connector: string;
      readonly from: string;
      readonly to: string;
      readonly reason: string;
    }
  /** Packets of the session take another link. */
  | {
      readonly kind: 'path';
      readonly connector: string;
      readonly link: number;
      readonly via: 'direct' | 'relay';
      readonly reason: LinkReason;
    }
  /** Ports are guessed to get through a symmetric NAT: many sockets are opened here, or many packets sent. */
  | { readonly kind: 'port-guessing'; readonly connector: string; readonly role: BirthdayRole }
  | { readonly kind: 'denied'; readonly connector: string; readonly service: string; readonly reason: string }
  | { readonly kind: 'policy'; readonly version: number; readonly envelope: unknown }
  | { readonly kind: 'policy-refused'; readonly code: string }
  | { readonly kind: 'routes'; readonly prefixes: readonly string[] };

export interface AgentParts {
  readonly identity: Identity;
  readonly policy: PolicyKeeper;
  readonly policyKey: Uint8Array;
  readonly proof: unknown;
  /** Names of the network's relays. */
  readonly relays: readonly string[];
  readonly software: string;
  readonly udp: readonly UdpSocket[];
  readonly tun: TunDevice | undefined;
  readonly relayEndpoint: QuicEndpoint;
  readonly linkEndpoint: QuicEndpoint;
  readonly crypto: Crypto;
  readonly entropy: Entropy;
  readonly clock: { now(): Instant };
  readonly wall: () => WallTime;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly onEvent: (event: AgentCoreEvent) => void;
  /** Ends the proxies' flows to the services that `isOver` names. */
  readonly endProxied: (isOver: (service: string) => boolean) => void;
  readonly onRelayAttempt: (relay: string) => void;
  readonly direct: DirectOptions;
  readonly extraSockets: ExtraSockets;
}

export class AgentCore {
  readonly drops = new Counters(DROP_REASONS);
  readonly linkCounters = new Counters(LINK_COUNTERS);
  readonly relays: Relays;
  readonly punching: Punching;
  readonly sessions: Sessions;
  readonly tun: TunPath | undefined;
  readonly stack: StackPath;
  #routes: Routes | undefined;
  #receiving: AgentSession | undefined;
  readonly #parts: AgentParts;
  readonly #own: { readonly overlay4: IpAddress | undefined; readonly overlay6: IpAddress | undefined };
  readonly #underlay: Underlay;
  readonly outbound: Outbound;
  readonly #inbound: Inbound;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    const { identity, relayEndpoint, linkEndpoint, entropy, crypto } = parts;
    this.#own = { overlay4: identity.overlay4, overlay6: identity.overlay6 };
    this.#underlay = new Underlay(
      parts.udp,
      relayEndpoint,
      linkEndpoint,
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
      entropy.uint32(),
    );
    this.punching = makePunching(parts.direct, parts.udp, this.#underlay, entropy, {
      extraSockets: parts.extraSockets,
      relay: () => this.relay,
      now: () => parts.clock.now(),
      onGuess: (path, role) => {
        const session = [...this.sessions.all].find(({ direct }) => direct.path === path);
        if (session !== undefined) parts.onEvent({ kind: 'port-guessing', connector: session.connector, role });
      },
      onNetwork: (now) => this.sessions.networkChanged(now),
    });
    this.relays = makeRelays(parts, {
      role: 'agent',
      network: identity.network,
      underlay: this.#underlay,
      punching: this.punching,
      owner: {
        onRelayReady: (now, relay) => this.sessions.relayReady(now, relay),
        onRelayLost: (now, relay, reason) => this.sessions.relayLost(now, relay, reason),
        onRelayMessage: (now, relay, message) => this.#message(now, relay, message),
        isRelayWanted: () => this.sessions.isRelayWanted(parts.clock.now()),
        isUsed: (relay) => this.sessions.isUsed(relay),
      },
    });
    this.sessions = new Sessions({
      relays: this.relays,
      underlay: this.#underlay,
      punching: this.punching,
      links: linkEndpoint,
      entropy,
      crypto,
      network: identity.network,
      policyKey: parts.policyKey,
      drops: this.drops,
      linkCounters: this.linkCounters,
      wall: parts.wall,
      view: () => parts.policy.view,
      admits: () => parts.policy.admits(parts.wall()),
      proof: () => parts.proof,
      parseCertificate: parts.parseCertificate,
      onForgotten: (session) => this.#forget(session),
      onTransition: (session, transition) => this.#transition(session, transition),
      onPath: (session, { number, isDirect }, reason) => {
        if (reason === 'three_missed') this.#suspectRelay(session);
        const via = isDirect ? 'direct' : 'relay';
        parts.onEvent({ kind: 'path', connector: session.connector, link: number, via, reason });
      },
      onDenied: (session, service, reason) =>
        parts.onEvent({ kind: 'denied', connector: session.connector, service, reason }),
      onDatagrams: (now, session, batch, link) => {
        this.#receiving = session;
        this.#inbound.handle(now, batch, session.inbound, link);
      },
      onReleased: (now, session, packets) => this.#release(now, session, packets),
      onRefused: (now, packets) => {
        if (this.tun === undefined) this.stack.refuse(packets);
        else this.tun.refuse(now, packets);
      },
    });
    this.#inbound = new Inbound(
      this.drops,
      { emit: (packet) => this.#packet(packet) },
      parts.tun === undefined ? {} : { udp: parts.tun.udpOffload, lasting: linkEndpoint.inbound },
    );
    this.outbound = new Outbound(linkEndpoint, this.#underlay, this.drops, entropy.uint32(), {
      onTooBig: (now, arena, offset, length, mtu) => {
        if (this.tun === undefined) this.stack.tooBig(arena, offset, length, mtu);
        else this.tun.tooBig(now, arena, offset, length, mtu);
      },
    });
    const shared = {
      sessions: this.sessions,
      outbound: this.outbound,
      drops: this.drops,
      routes: () => this.#routes,
      own: this.#own,
      innerMtu: INNER_MTU,
    };
    this.tun = parts.tun === undefined ? undefined : new TunPath({ ...shared, tun: parts.tun });
    this.stack = new StackPath({ ...shared, clock: parts.clock, entropy, crypto });
    if (parts.policy.view !== undefined) this.#routes = new Routes(parts.policy.view, identity);
  }

  /** The home relay; the first one while none is connected. */
  get relay(): RelayClient {
    return this.relays.home;
  }
  /** Where the home relay sees this node. */
  get observed(): SocketAddress | undefined {
    return this.relays.observed;
  }
  /** Service ids that relays say have a connector now. */
  get available(): ReadonlySet<string> {
    return this.sessions.available;
  }

  get routes(): Routes | undefined {
    return this.#routes;
  }

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
    this.punching.path = path;
    this.sessions.pathChanged(now);
  }

  receive(now: Instant, index: number): number {
    return this.#underlay.receive(now, index);
  }

  /** Socket `index`, which had no room, has some. */
  writable(now: Instant, index: number): void {
    this.#underlay.writable(now, index);
  }

  turn(now: Instant): Instant | undefined {
    const { relayEndpoint, linkEndpoint } = this.#parts;
    // Links first: what came over one, and its close, precedes the relay's word that its channel is gone. And packets leave
    // before anything else is looked after.
    linkEndpoint.process(now);
    this.stack.flush(now);
    this.outbound.flush(now);
    this.#underlay.flushLinks(now);
    relayEndpoint.process(now);
    this.relays.turn(now);
    this.punching.turn(now);
    this.sessions.turn(now);
    this.stack.flush(now);
    this.outbound.flush(now);
    this.#underlay.flush(now);
    this.outbound.drain(now);
    const network = earliest(relayEndpoint.nextTimeout(), linkEndpoint.nextTimeout());
    const own = earliest(earliest(this.relays.nextTimeout(), this.sessions.nextTimeout(now)), this.stack.nextTimeout());
    const next = earliest(earliest(network, own), this.punching.nextTimeout());
    return next !== undefined && next <= now ? later(now, Millis(1)) : next;
  }

  /** This machine may have slept: everybody is asked for a life sign at once. */
  suspect(now: Instant): void {
    this.relays.suspect(now);
    this.sessions.suspect(now);
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
    const { policy, identity, onEvent } = this.#parts;
    if (!policy.offer(envelope)) return;
    const routes = new Routes(policy.view!, identity);
    this.#routes = routes;
    this.tun?.resetDenied(routes);
    this.#parts.endProxied((service) => !routes.services.some(({ id }) => id === service));
    onEvent({ kind: 'policy', version: policy.view!.version, envelope });
    onEvent({ kind: 'routes', prefixes: routes.prefixes.map(String) });
    this.sessions.policyChanged(now);
  }

  shutdown(now: Instant): void {
    this.sessions.shutdown(now);
    this.#underlay.flush(now);
    this.relays.stop(now);
  }

  #message(now: Instant, relay: RelayClient, message: FromRelay): void {
    switch (message.type) {
      case 'policy':
        this.offerPolicy(now, message.envelope, relay);
        break;
      case 'drain':
        this.sessions.relayDrains(now, relay);
        break;
      case 'catalogue': {
        const available = message.services.filter((one) => one.available).map((one) => one.id);
        this.sessions.catalogueChanged(now, relay, new Set(available));
        break;
      }
      case 'close':
        this.sessions.channelClosed(now, relay, message.channel, message.reason);
        break;
    }
  }

  /** The way through a relay has died under a session: perhaps the relay has. */
  #suspectRelay(session: AgentSession): void {
    for (const link of session.allLinks()) {
      if (link.channel !== undefined && link.managed?.state === 'suspect') {
        this.relays.suspectAt(this.#parts.clock.now(), link.channel.relay);
      }
    }
  }

  #packet(packet: CoalescedPacket): void {
    const session = this.#receiving!;
    const routes = this.#routes;
    const drop = routes === undefined ? Drop.no_route : judgeInbound(routes, this.#own, session.connector, packet);
    if (drop !== Drop.none) {
      this.drops.values[drop]! += packet.segments;
      return;
    }
    const failed =
      this.tun === undefined ? this.stack.deliver(this.#parts.clock.now(), packet) : this.tun.deliver(packet);
    if (failed !== Drop.none) this.drops.values[failed]! += packet.segments;
  }

  #release(now: Instant, session: AgentSession, packets: readonly Uint8Array[]): void {
    for (const packet of packets) {
      const service = this.#routes?.serviceOf(packet, 0);
      const link = service && session.linkFor(now, service);
      if (link !== undefined) this.outbound.add(now, link, packet, 0, packet.length, service?.entry.path !== undefined);
      else if (service === undefined || !session.waiting.push(packet, 0, packet.length))
        this.drops.values[Drop.no_link]!++;
    }
    this.stack.kick(now);
  }

  /** The other end of these flows is gone: their programs are told, as one that only reads would wait for ever. */
  #forget(session: AgentSession): void {
    this.tun?.resetFlowsOf(session.connector);
    this.#parts.endProxied((service) => this.sessions.carries(session, service));
  }

  #transition(session: AgentSession, transition: SessionTransition): void {
    const { from, to, reason } = transition;
    this.#parts.onEvent({ kind: 'session', connector: session.connector, from, to, reason });
  }
}
