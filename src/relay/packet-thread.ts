/** The packet thread of a relay: opens the sockets, makes the core, and runs it in the reactor. */
import { SocketAddress } from '../base/address.js';
import { describeError, SallyportError } from '../base/error.js';
import { SOFTWARE } from '../base/software.js';
import { elapsed, type Instant, later, Seconds, toSeconds } from '../base/time.js';
import { parsePeerIdentity } from '../identity/peer-identity.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import { READABLE, type UdpOptions, type UdpSocket } from '../os/io.js';
import { createLinuxSockets } from '../os/linux/linux.js';
import { type PacketThreadContext, servePacketThread } from '../os/packet-thread.js';
import { PolicyKeeper } from '../policy/keeper.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { RelayCore } from './core.js';
import { makeRelayEndpoint } from './endpoint.js';
import type { RelayProtocol, RelayThreadData, RelayThreadStatus } from './thread-protocol.js';

/** A relay socket takes bursts of every node: the kernel is asked for this much. */
const BUFFER_BYTES = 8 * 1024 * 1024;
/**
 * Entries of one receive batch, 64 KB each: what is received is sent from where it lies, and half a megabyte is still in a core's second-level
 * cache then. 16 entries cost a sixth more processor time per packet of a run; fewer than 8 cost single datagrams more.
 */
const BATCH = 8;
/** A second port gets PROBEs only, at most 2,000 a second. */
const PROBE_SOCKET: UdpOptions = { bufferBytes: 256 * 1024, batch: 16, entryBytes: 2048, offload: false };
/** Batches taken from one socket before the others get their turn. */
const BATCHES_PER_TURN = 4;

await servePacketThread<RelayProtocol, RelayThreadData>((context) => {
  const { data, reactor } = context;
  const crypto = createCrypto();
  const policy = new PolicyKeeper(crypto, data.policyKey, data.network);
  policy.offer(data.policy);
  const sockets = openSockets(data.listen);
  const probeSockets = openProbeSockets(sockets, data.probePort, (problem) =>
    context.emit('event', { kind: 'no-probe-port', port: data.probePort, problem }),
  );
  const endpoint = makeRelayEndpoint({
    ...data,
    wall: reactor.wall(),
    accept: (_now, connection) => core.accept(reactor.now(), connection),
  });
  const core: RelayCore = new RelayCore({
    sockets,
    probeSockets,
    endpoint,
    policy,
    policyKey: data.policyKey,
    network: data.network,
    name: data.name,
    crypto,
    entropy: new SystemEntropy(),
    wall: () => reactor.wall(),
    parseCertificate: parsePeerIdentity,
    software: SOFTWARE,
    limits: data.limits,
    onEvent: (event) => context.emit('event', event),
  });
  core.tellFormer(reactor.now(), data.formerNodes);
  [...sockets, ...probeSockets].forEach((socket, index) => {
    reactor.watch(socket.fd, READABLE, () => {
      for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
        const entries = socket.receive();
        if (entries <= 0) return;
        core.handleBatch(reactor.now(), index, entries);
        // A batch that is not full was all there is.
        if (entries < socket.rx.offsets.length) return;
      }
    });
  });
  let nextClock = reactor.now();
  reactor.onTurn((now) => {
    if (now >= nextClock) {
      endpoint.setWallTime(now, reactor.wall());
      nextClock = later(now, Seconds(1));
    }
    return core.turn(now);
  });
  return {
    requests: {
      status: () => statusOf(context, core, sockets, probeSockets, policy, endpoint),
      policy: (envelope) => {
        const changed = policy.offer(envelope);
        if (changed) core.policyChanged(reactor.now());
        return { version: policy.view!.version, changed };
      },
      identity: ({ certificatePem, keyPem }) => {
        endpoint.setIdentity(certificatePem, keyPem);
        return undefined;
      },
      whereNodesAre: () => core.whereNodesAre(),
      drain: ({ span }) => {
        core.drain(reactor.now(), span);
        return undefined;
      },
      shutdown: () => {
        core.shutdown(reactor.now());
        return undefined;
      },
    },
    close: () => {
      for (const socket of [...sockets, ...probeSockets]) socket.close();
    },
  };
});

/** Second ports on the addresses of `sockets`; none at all where one of them cannot be had, or with port 0. */
function openProbeSockets(sockets: readonly UdpSocket[], port: number, failed: (problem: string) => void): UdpSocket[] {
  const opened: UdpSocket[] = [];
  if (port === 0) return opened;
  const linux = createLinuxSockets();
  try {
    for (const { local } of sockets) opened.push(linux.udp(new SocketAddress(local.ip, port), PROBE_SOCKET));
    return opened;
  } catch (error) {
    for (const socket of opened) socket.close();
    failed(describeError(error));
    return [];
  }
}

function openSockets(listen: readonly string[]): UdpSocket[] {
  const sockets: UdpSocket[] = [];
  const linux = createLinuxSockets();
  for (const text of listen) {
    const local = SocketAddress.parse(text);
    if (local === undefined) throw new SallyportError('caller', 'ADDRESS', `${text} is not ADDRESS:PORT`);
    if (sockets.some((one) => one.local.ip.family === local.ip.family)) {
      throw new SallyportError('caller', 'LISTEN_TWICE', 'a relay listens on one address per address family');
    }
    sockets.push(linux.udp(local, { bufferBytes: BUFFER_BYTES, batch: BATCH }));
  }
  return sockets;
}

function statusOf(
  context: PacketThreadContext<RelayProtocol, RelayThreadData>,
  core: RelayCore,
  sockets: readonly UdpSocket[],
  probeSockets: readonly UdpSocket[],
  policy: PolicyKeeper,
  endpoint: QuicEndpoint,
): RelayThreadStatus {
  const now = context.reactor.now();
  const nodes = [...core.registry.nodes];
  const udp = {
    datagramsIn: 0,
    datagramsOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    sendBlocked: 0,
    sendFailed: 0,
    receiveErrors: 0,
  };
  for (const { counters } of [...sockets, ...probeSockets]) {
    for (const key of Object.keys(udp) as (keyof typeof udp)[]) udp[key] += counters[key];
  }
  return {
    listening: sockets.map((socket) => socket.local.toString()),
    probePort: probeSockets[0]?.local.port,
    policyVersion: policy.view?.version ?? 0,
    drainingSeconds: secondsUntil(core.draining.deadline, now),
    nodesHiddenBy: core.hiddenBy?.toString(),
    nodes: nodes.map((node) => ({
      role: node.identity.role,
      name: node.identity.name,
      address: node.forwardingAddress.toString(),
      services: [...node.services].sort(),
      channels: node.channels.size,
      secondsConnected: Math.round(toSeconds(elapsed(node.since, now))),
    })),
    channels: nodes
      .filter((node) => node.identity.role === 'agent')
      .flatMap((node) => [...node.channels])
      .map((side) => ({
        agent: side.node.identity.name,
        connector: side.peer.node.identity.name,
        service: side.service,
        packets: { fromAgent: side.packets, fromConnector: side.peer.packets },
        bytes: { fromAgent: side.bytes, fromConnector: side.peer.bytes },
        dropped: { fromAgent: side.dropped, fromConnector: side.peer.dropped },
      })),
    counters: {
      ...core.counts,
      ...core.forwarder.counters,
      ...core.probes.counters,
      ...prefixed('quic', endpoint.counters()),
      ...prefixed('udp', udp),
    },
    drops: core.drops.snapshot() as Record<string, number>,
  };
}

function secondsUntil(at: Instant | undefined, now: Instant): number | undefined {
  return at === undefined ? undefined : Math.max(0, Math.round(toSeconds(elapsed(now, at))));
}

function prefixed(prefix: string, values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== 0)
      .map(([name, value]) => [`${prefix}.${name}`, value]),
  );
}
