/**
 * What the packet threads of agent and connector set up alike: sockets of both families on one port, and the two QUIC endpoints.
 */
import { IpAddress, Prefix, SocketAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { earliest, elapsed, type Instant, later, Seconds } from '../base/time.js';
import { type HostNetwork, READABLE, type Reactor, type Sockets, type UdpSocket, WRITABLE } from '../os/io.js';
import type { ConnectionHandler, QuicConnection } from '../quic/connection.js';
import { QuicEndpoint } from '../quic/endpoint.js';
import { ETHERNET_MTU } from '../quic/options.js';
import { RELAYED_HEADER } from '../tunnel/frames.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import { CONNECTION_ID_LIFETIME, LINK_ALPN, RELAY_ALPN } from '../tunnel/messages.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { ExtraSockets } from './extra-sockets.js';
import { type IdleLifetimes, KeepAlive, LINK_KEEP_ALIVE, RELAY_KEEP_ALIVE } from './keep-alive.js';
import type { DirectOptions, Punching } from './punching.js';
import type { Resolved } from './relay-name.js';
import type { Relays } from './relays.js';

/** Everything the main thread hands to a node's packet thread. */
export interface NodeThreadData {
  readonly network: string;
  readonly name: string;
  readonly policyKey: Uint8Array;
  readonly policy: unknown;
  readonly proof: unknown;
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  /** Names of the network's relays, those of the operator's choice first. */
  readonly relays: readonly string[];
  /** UDP port for both families; 0 = ephemeral. */
  readonly port: number;
  readonly direct: DirectSettings;
}

/** What the operator says about direct links, as texts that were checked where the configuration is read. */
export interface DirectSettings {
  readonly path: PathChoice;
  readonly hideHost: boolean;
  /** Whether ports may be guessed. */
  readonly guesses: boolean;
  /** Prefixes. */
  readonly allow: readonly string[];
  /** ADDRESS:PORT. */
  readonly advertise: readonly string[];
}

export function directOptions({ path, hideHost, guesses, allow, advertise }: DirectSettings): DirectOptions {
  return {
    path,
    hideHost,
    guesses,
    allow: allow.map((text) => Prefix.parse(text)!),
    advertise: advertise.map((text) => SocketAddress.parse(text)!),
  };
}

/** For what arrives; what may wait to be sent is the underlay's to say. */
const BUFFER_BYTES = 8 * 1024 * 1024;
/** Entries of one receive batch: each may hold a whole coalesced run. */
const BATCH = 16;
const BATCHES_PER_TURN = 4;
/** The relay connection lives this long in silence (protocol §2), and is kept alive by us. */
const RELAY_IDLE = Seconds(90);
/** What a relay may tell a node: it speaks for all of the node's peers, many of which may go at once. */
const RELAY_MESSAGES_PER_SECOND = 20_000;
const LINK_IDLE = Seconds(90);
/** A wall clock that gained more than this on the monotonic one in a second: the machine slept, or the clock was set. */
const SLEPT = Seconds(2);

/** One socket per address family; IPv6 is left out where the host has none. Both try for the same port. */
export function openNodeSockets(sockets: Sockets, port: number): UdpSocket[] {
  const common = { bufferBytes: BUFFER_BYTES, batch: BATCH, keepsUnsent: true };
  const v4 = sockets.udp(new SocketAddress(IpAddress.v4(0), port), common);
  try {
    const any = new IpAddress(0, 0, 0, 0);
    const options = { ...common, anyPortIfTaken: port === 0 };
    return [v4, sockets.udp(new SocketAddress(any, v4.local.port), options)];
  } catch (error) {
    const isMissingFamily = error instanceof SallyportError && error.kind === 'environment' && port === 0;
    if (!isMissingFamily) {
      v4.close();
      throw error;
    }
    return [v4];
  }
}

/**
 * Memory of these sockets and endpoints whose content nobody needs between two turns: what arrived is taken then, and what was to be
 * sent is, unless a socket says "later" of it.
 */
export function scratchMemory(sockets: readonly UdpSocket[], { relay, links }: NodeEndpoints): Uint8Array[] {
  const memory = [relay.inbound.bytes, links.inbound.bytes, ...sockets.map((socket) => socket.rx.memory)];
  return sockets.some((socket) => socket.isBlocked) ? memory : [...memory, relay.tx, links.tx];
}

/** Sockets for guessing ports: many for a short time, so each is small until it is used. */
export function extraSockets(reactor: Reactor, sockets: Sockets): ExtraSockets {
  return {
    open: (onReadable) => {
      try {
        const socket = sockets.udp(new SocketAddress(IpAddress.v4(0), 0), { batch: 1 });
        const watch = reactor.watch(socket.fd, READABLE, onReadable);
        return {
          socket,
          close: () => {
            watch.close();
            socket.close();
          },
        };
      } catch {
        // Descriptors are used up: what is open has to do.
        return undefined;
      }
    },
  };
}

export interface NodeEndpoints {
  readonly relay: QuicEndpoint;
  readonly links: QuicEndpoint;
  /** For both. */
  readonly keepAlive: KeepAlive;
}

/** @param accept for a connector: judges links that agents make. */
export function makeNodeEndpoints(
  data: NodeThreadData,
  reactor: Reactor,
  accept: ((connection: QuicConnection) => ConnectionHandler | undefined) | undefined,
): NodeEndpoints {
  const common = {
    ca: data.caPem,
    identity: { certificate: data.certificatePem, key: data.keyPem },
    wallTime: reactor.wall(),
  };
  const relay = new QuicEndpoint({
    ...common,
    alpn: RELAY_ALPN,
    client: true,
    idleTimeout: RELAY_IDLE,
    keepAlive: RELAY_KEEP_ALIVE,
    messagesPerSecond: RELAY_MESSAGES_PER_SECOND,
    connectionIdLifetime: CONNECTION_ID_LIFETIME,
    mtuUpperBound: ETHERNET_MTU,
  });
  const links = new QuicEndpoint({
    ...common,
    alpn: LINK_ALPN,
    client: accept === undefined,
    idleTimeout: LINK_IDLE,
    keepAlive: LINK_KEEP_ALIVE,
    virtualPrefixBytes: RELAYED_HEADER,
    mtuUpperBound: ETHERNET_MTU - RELAYED_HEADER,
    answerUnknown: false,
    ...(accept === undefined
      ? {}
      : {
          server: {
            accept: (_now: number, connection: QuicConnection) => accept(connection),
            migration: false,
            // Addresses of channels are the relay's word already: nothing to prove by Retry.
            retryAbove: Number.POSITIVE_INFINITY,
          },
        }),
  });
  const keepAlive = new KeepAlive([
    { connections: () => relay.connections, most: RELAY_KEEP_ALIVE },
    { connections: () => links.connections, most: LINK_KEEP_ALIVE },
  ]);
  return { relay, links, keepAlive };
}

/** Watches the sockets and keeps the endpoints' wall clock; `receive` takes one batch of socket `index`. */
export function driveNode(
  reactor: Reactor,
  sockets: readonly UdpSocket[],
  endpoints: NodeEndpoints,
  core: {
    receive(now: Instant, index: number): number;
    writable(now: Instant, index: number): void;
    turn(now: Instant): Instant | undefined;
    /** Much may have happened that this process has not seen. */
    suspect(now: Instant): void;
  },
): void {
  const watches = sockets.map((socket, index) =>
    reactor.watch(socket.fd, READABLE, (ready) => {
      if ((ready & WRITABLE) !== 0) core.writable(reactor.now(), index);
      // A batch that is not full was all there is: asking again would only delay what is to be sent now.
      const { length } = socket.rx.offsets;
      for (let batch = 0; batch < BATCHES_PER_TURN; batch++) if (core.receive(reactor.now(), index) < length) return;
    }),
  );
  let lastClock = reactor.now();
  let lastWall = reactor.wall();
  let nextClock = lastClock;
  reactor.onTurn((now) => {
    if (now >= nextClock) {
      const wall = reactor.wall();
      const ahead = (wall - lastWall) * 1000 - elapsed(lastClock, now);
      // The monotonic clock stands still while a machine sleeps, the wall clock does not.
      if (ahead > SLEPT) core.suspect(now);
      lastClock = now;
      lastWall = wall;
      endpoints.relay.setWallTime(now, wall);
      endpoints.links.setWallTime(now, wall);
      nextClock = later(now, Seconds(1));
    }
    endpoints.keepAlive.turn(now);
    const next = earliest(core.turn(now), endpoints.keepAlive.due);
    for (let i = 0; i < sockets.length; i++) {
      watches[i]!.interest(sockets[i]!.isBlocked ? READABLE | WRITABLE : READABLE);
    }
    return next;
  });
}

/** Sums of the sockets' counters and the endpoints', for `status`. */
export function transportCounters(sockets: readonly UdpSocket[], endpoints: NodeEndpoints): Record<string, number> {
  const result: Record<string, number> = {};
  const add = (prefix: string, values: object): void => {
    for (const [name, value] of Object.entries(values) as [string, number][]) {
      if (value !== 0) result[`${prefix}.${name}`] = (result[`${prefix}.${name}`] ?? 0) + value;
    }
  };
  for (const socket of sockets) add('udp', socket.counters);
  add('relay', endpoints.relay.counters());
  add('links', endpoints.links.counters());
  add('nat', { keepAlivePings: endpoints.keepAlive.pings });
  return result;
}

/** Where a relay, given by its name, is; or that it is not known. */
export interface RelayAddresses {
  readonly relay: string;
  readonly resolved: Resolved;
}

/** Where a relay is reached over TCP, on this machine; undefined: it is not. */
export interface RelayTcpAddress {
  readonly relay: string;
  readonly address: string | undefined;
  /** Of the bridge there: `TcpCredit.memory`. */
  readonly credit?: SharedArrayBuffer;
}

/** What a packet thread tells when it is about to try a relay. */
export interface RelayAttempt {
  readonly relay: string;
  /** The port of the IPv4 socket that tries. */
  readonly port: number;
}

/** The requests that both nodes answer alike. */
export function nodeRequests(
  endpoints: NodeEndpoints,
  core: {
    readonly relays: Relays;
    reaches(a: SocketAddress): boolean;
    takePolicy(now: Instant, envelope: unknown): void;
    setNetwork(now: Instant, network: HostNetwork): void;
    readonly punching: Punching;
  },
  clock: { now(): Instant },
) {
  return {
    policy: (envelope: unknown): undefined => {
      core.takePolicy(clock.now(), envelope);
    },
    hostNetwork: (network: HostNetwork): undefined => {
      core.setNetwork(clock.now(), network);
    },
    mapped: (addresses: readonly string[]): number | undefined => {
      core.punching.setMapped(
        clock.now(),
        addresses.map((text) => SocketAddress.parse(text)!),
      );
      return core.punching.port4;
    },
    natEase: (ease: NatEase): undefined => {
      core.punching.setEase(clock.now(), ease);
    },
    idleLifetimes: (lifetimes: IdleLifetimes): undefined => {
      endpoints.keepAlive.setLifetimes(clock.now(), lifetimes);
    },
    relays: (names: readonly string[]): undefined => {
      core.relays.setNames(clock.now(), names);
    },
    relayAddresses: ({ relay, resolved }: RelayAddresses): undefined => {
      const { addresses: texts, problem } = resolved;
      const addresses = texts.map((text) => SocketAddress.parse(text)!);
      const client = core.relays.find(relay);
      if (problem === undefined) client?.setAddresses(addresses.filter((address) => core.reaches(address)));
      else client?.noAddress(problem);
    },
    relayTcp: ({ relay, address, credit }: RelayTcpAddress): undefined => {
      const at = address === undefined ? undefined : SocketAddress.parse(address)!;
      core.relays.find(relay)?.setTcp(clock.now(), at, credit);
    },
    identity: ({ certificatePem, keyPem }: { readonly certificatePem: string; readonly keyPem: string }): undefined => {
      endpoints.relay.setIdentity(certificatePem, keyPem);
      endpoints.links.setIdentity(certificatePem, keyPem);
    },
  };
}
