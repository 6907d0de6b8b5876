/** Relay, connector and agent in a simulated world: the real cores, wired as their packet threads wire them. */
import type { AgentCoreEvent } from '../../src/agent/core.js';
import { AgentCore } from '../../src/agent/core.js';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, Millis } from '../../src/base/time.js';
import { type ServiceBackend, serviceBackend } from '../../src/connector/backends.js';
import { ConnectorCore, type ConnectorCoreEvent } from '../../src/connector/core.js';
import type { FlowLimits } from '../../src/engine/flow-options.js';
import { parsePeerIdentity } from '../../src/identity/peer-identity.js';
import type { ExtraSockets } from '../../src/node/extra-sockets.js';
import {
  type DirectSettings,
  directOptions,
  driveNode,
  extraSockets,
  makeNodeEndpoints,
  type NodeEndpoints,
  openNodeSockets,
} from '../../src/node/thread-setup.js';
import { type HostNetwork, READABLE } from '../../src/os/io.js';
import { PolicyKeeper } from '../../src/policy/keeper.js';
import type { QuicEndpoint } from '../../src/quic/endpoint.js';
import { RelayCore, type RelayEvent } from '../../src/relay/core.js';
import { makeRelayEndpoint } from '../../src/relay/endpoint.js';
import type { RelayLimits } from '../../src/relay/limits.js';
import { type Credentials, crypto, type NodeCredentials, type Operator } from './identities.js';
import type { SimNat } from './sim-nat.js';
import type { Path, SimNetwork, SimUdpSocket } from './sim-network.js';
import { type SimClock, SimReactor, START } from './sim-reactor.js';
import { SimSockets } from './sim-sockets.js';
import { SimTun } from './sim-tun.js';

/** What the driver of a role does per socket and turn. */
const BATCHES_PER_TURN = 4;

export const at = (text: string): SocketAddress => SocketAddress.parse(text)!;

/** A machine: its loop, its sockets, and its way to the internet. */
export class SimHost {
  readonly reactor: SimReactor;
  readonly sockets: SimSockets;
  readonly path: Path = { delay: Millis(5), loss: 0, maxPayload: 1472, isDown: false };
  isRunning = true;

  constructor(clock: SimClock, network: SimNetwork, v4: string, v6: string | undefined) {
    this.reactor = new SimReactor(clock);
    const six = v6 === undefined ? undefined : IpAddress.parse(v6)!;
    this.sockets = new SimSockets(network, this.reactor, IpAddress.parse(v4)!, six, this.path);
  }

  /** Power cut: nothing is said to anybody. */
  kill(): void {
    this.isRunning = false;
    for (const socket of this.sockets.udpSockets) socket.close();
  }
}

export interface Site {
  readonly clock: SimClock;
  readonly network: SimNetwork;
  readonly operator: Operator;
  readonly seed: number;
  /** Of the network's relays. */
  readonly relayNames: readonly string[];
  /** The relay's. */
  readonly limits: RelayLimits;
}

export const RELAY_PORT = 4433;
/** The relay's second port. */
export const PROBE_PORT = 4434;

export class SimRelay {
  readonly host: SimHost;
  readonly core: RelayCore;
  readonly endpoint: QuicEndpoint;
  readonly policy: PolicyKeeper;
  readonly events: RelayEvent[] = [];
  readonly addresses: readonly SocketAddress[];
  readonly credentials: Credentials;

  constructor(site: Site, credentials: Credentials, v4: string, v6: string | undefined, salt: number) {
    const { operator } = site;
    this.credentials = credentials;
    this.host = new SimHost(site.clock, site.network, v4, v6);
    const { reactor, sockets } = this.host;
    const listen = [`0.0.0.0:${RELAY_PORT}`, ...(v6 === undefined ? [] : [`[::]:${RELAY_PORT}`])];
    const udp = listen.map((text) => sockets.udp(at(text)));
    const probeSockets = udp.map(({ local }) => sockets.udp(new SocketAddress(local.ip, PROBE_PORT)));
    this.addresses = udp.map((socket) => socket.local);
    this.policy = new PolicyKeeper(crypto, operator.policyKey.publicKey, operator.network);
    this.endpoint = makeRelayEndpoint({
      ...credentials,
      caPem: operator.caPem,
      wall: reactor.wall(),
      resetKey: new Uint8Array(64).fill(7),
      accept: (_now, connection) => this.core.accept(reactor.now(), connection),
    });
    this.core = new RelayCore({
      sockets: udp,
      probeSockets,
      endpoint: this.endpoint,
      policy: this.policy,
      policyKey: operator.policyKey.publicKey,
      network: operator.network,
      name: credentials.name,
      crypto,
      // A restarted relay gives other channel ids than before, and another relay others than this one.
      entropy: new SeededEntropy(site.seed + salt + Math.floor(site.clock.now / 1_000_000)),
      wall: () => reactor.wall(),
      parseCertificate: parsePeerIdentity,
      software: 'sallyport/test',
      limits: site.limits,
      onEvent: (event) => this.events.push(event),
    });
    [...udp, ...probeSockets].forEach((socket, index) => {
      reactor.watch(socket.fd, READABLE, () => {
        for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
          const entries = socket.receive();
          if (entries <= 0) return;
          this.core.handleBatch(reactor.now(), index, entries);
          if (entries < socket.rx.offsets.length) return;
        }
      });
    });
    reactor.onTurn((now) => {
      this.endpoint.setWallTime(now, reactor.wall());
      return this.core.turn(now);
    });
  }

  /** Events of one kind, oldest first. */
  eventsOf<K extends RelayEvent['kind']>(kind: K): (RelayEvent & { kind: K })[] {
    return this.events.filter((event): event is RelayEvent & { kind: K } => event.kind === kind);
  }

  get channels(): number {
    return this.core.channels.size;
  }
}

/** What agent and connector have in common here. */
export abstract class SimNode {
  readonly host: SimHost;
  readonly credentials: NodeCredentials;
  readonly policy: PolicyKeeper;
  readonly udp: readonly SimUdpSocket[];

  constructor(
    site: Site,
    credentials: NodeCredentials,
    v4: string,
    { v6, nat }: { readonly v6?: string; readonly nat?: SimNat },
  ) {
    this.credentials = credentials;
    this.host = new SimHost(site.clock, site.network, v4, v6);
    this.policy = new PolicyKeeper(crypto, site.operator.policyKey.publicKey, site.operator.network);
    this.udp = openNodeSockets(this.host.sockets, 0) as SimUdpSocket[];
    for (const socket of this.udp) if (socket.local.ip.isV4) socket.nat = nat;
  }

  get name(): string {
    return this.credentials.name;
  }

  protected threadData(site: Site) {
    const { operator } = site;
    const { certificatePem, keyPem, proof } = this.credentials;
    return {
      network: operator.network,
      name: this.name,
      policyKey: operator.policyKey.publicKey,
      policy: undefined,
      proof,
      caPem: operator.caPem,
      certificatePem,
      keyPem,
      relays: site.relayNames,
      port: 0,
      direct: DIRECT_OFF,
    };
  }

  /** The host's further sockets, behind the same NAT. */
  protected extraSockets(nat: SimNat | undefined): ExtraSockets {
    const made = extraSockets(this.host.reactor, this.host.sockets);
    return {
      open: (onReadable) => {
        const opened = made.open(onReadable);
        if (opened !== undefined) (opened.socket as SimUdpSocket).nat = nat;
        return opened;
      },
    };
  }

  /** What a main thread would tell of this host: its addresses, and that everything is behind a default route. */
  protected hostNetwork(): HostNetwork {
    const addresses = this.udp.map(({ local }) => local.ip.toString());
    const prefixes = ['0.0.0.0/0', '::/0', ...this.udp.flatMap(({ nat }) => nat?.prefix ?? [])];
    return { addresses, routes: prefixes.map((prefix) => ({ prefix, via: 'eth0', isTunnel: false })) };
  }
}

/** A restarted node has other tokens and session ids than before. */
function nodeEntropy({ seed, clock }: Site, salt: number): SeededEntropy {
  return new SeededEntropy(seed + salt + 2 * elapsed(START, clock.now));
}

/** Most tests are about the way through the relay. */
export const DIRECT_OFF: DirectSettings = { path: 'relay', hideHost: false, guesses: true, allow: [], advertise: [] };

export interface ConnectorSetup {
  /** Service id → backend URL. */
  readonly services: Readonly<Record<string, string>>;
  readonly limits?: FlowLimits;
  /** Mode kernel: a TUN device instead of flows that end here. */
  readonly kernel?: boolean;
  readonly v6?: string;
  readonly direct?: Partial<DirectSettings>;
  /** What it is behind. */
  readonly nat?: SimNat;
}

export class SimConnector extends SimNode {
  readonly core: ConnectorCore;
  readonly endpoints: NodeEndpoints;
  readonly backends: Map<string, ServiceBackend>;
  readonly tun: SimTun | undefined;
  readonly events: ConnectorCoreEvent[] = [];

  constructor(site: Site, credentials: NodeCredentials, v4: string, setup: ConnectorSetup) {
    super(site, credentials, v4, setup);
    const { reactor, sockets } = this.host;
    const data = this.threadData(site);
    this.backends = new Map(Object.entries(setup.services).map(([id, url]) => [id, serviceBackend(id, url)]));
    this.tun = setup.kernel ? new SimTun(reactor) : undefined;
    this.endpoints = makeNodeEndpoints(data, reactor, (quic) => this.core.acceptLink(reactor.now(), quic));
    this.core = new ConnectorCore({
      ...data,
      policy: this.policy,
      software: 'sallyport/test',
      backends: this.backends,
      reactor,
      sockets,
      udp: this.udp,
      tun: this.tun,
      relayEndpoint: this.endpoints.relay,
      linkEndpoint: this.endpoints.links,
      crypto,
      entropy: nodeEntropy(site, 0),
      wall: () => reactor.wall(),
      parseCertificate: parsePeerIdentity,
      direct: directOptions({ ...DIRECT_OFF, ...setup.direct }),
      extraSockets: this.extraSockets(setup.nat),
      onEvent: (event) => this.events.push(event),
      onRelayAttempt: () => {},
      ...(setup.limits === undefined ? {} : { limits: setup.limits }),
    });
    if (this.tun !== undefined) reactor.watch(this.tun.fd, READABLE, () => this.core.kernel!.read(reactor.now()));
    driveNode(reactor, this.udp, this.endpoints, this.core);
    this.core.setNetwork(reactor.now(), this.hostNetwork());
  }

  eventsOf<K extends ConnectorCoreEvent['kind']>(kind: K): (ConnectorCoreEvent & { kind: K })[] {
    return this.events.filter((event): event is ConnectorCoreEvent & { kind: K } => event.kind === kind);
  }

  get sessions() {
    return [...this.core.links.sessions];
  }
}

export interface AgentSetup {
  readonly groups?: readonly string[];
  /** A TUN device instead of the agent's own stack. */
  readonly tun?: boolean;
  /** The relay's addresses are not known yet. */
  readonly unresolved?: boolean;
  readonly v6?: string;
  readonly direct?: Partial<DirectSettings>;
  /** What it is behind. */
  readonly nat?: SimNat;
}

export class SimAgent extends SimNode {
  readonly core: AgentCore;
  readonly endpoints: NodeEndpoints;
  readonly tun: SimTun | undefined;
  readonly events: AgentCoreEvent[] = [];
  /** Attempts at the relay so far. */
  attempts = 0;

  constructor(site: Site, credentials: NodeCredentials, v4: string, setup: AgentSetup) {
    super(site, credentials, v4, setup);
    const { reactor } = this.host;
    const data = this.threadData(site);
    this.endpoints = makeNodeEndpoints(data, reactor, undefined);
    this.tun = setup.tun ? new SimTun(reactor) : undefined;
    this.core = new AgentCore({
      ...data,
      endProxied: () => {},
      identity: credentials.identity,
      policy: this.policy,
      software: 'sallyport/test',
      udp: this.udp,
      tun: this.tun,
      relayEndpoint: this.endpoints.relay,
      linkEndpoint: this.endpoints.links,
      crypto,
      entropy: nodeEntropy(site, 1),
      clock: reactor,
      wall: () => reactor.wall(),
      parseCertificate: parsePeerIdentity,
      direct: directOptions({ ...DIRECT_OFF, ...setup.direct }),
      extraSockets: this.extraSockets(setup.nat),
      onEvent: (event) => this.events.push(event),
      onRelayAttempt: () => this.attempts++,
    });
    if (this.tun !== undefined) {
      reactor.watch(this.tun.fd, READABLE, () => {
        this.core.tun!.read(reactor.now());
      });
    }
    driveNode(reactor, this.udp, this.endpoints, this.core);
    this.core.setNetwork(reactor.now(), this.hostNetwork());
  }

  eventsOf<K extends AgentCoreEvent['kind']>(kind: K): (AgentCoreEvent & { kind: K })[] {
    return this.events.filter((event): event is AgentCoreEvent & { kind: K } => event.kind === kind);
  }

  get sessions() {
    return [...this.core.sessions.all];
  }

  session(connector: string) {
    return this.sessions.find((session) => session.connector === connector);
  }
}
