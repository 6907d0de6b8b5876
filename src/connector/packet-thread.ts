/** The packet thread of a connector: opens the sockets, makes the core, and runs it in the reactor. */
import { IpAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { SOFTWARE } from '../base/software.js';
import { parsePeerIdentity } from '../identity/peer-identity.js';
import {
  directOptions,
  driveNode,
  extraSockets,
  makeNodeEndpoints,
  nodeRequests,
  openNodeSockets,
  scratchMemory,
  transportCounters,
} from '../node/thread-setup.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import { READABLE, type Sockets, type TunDevice } from '../os/io.js';
import { createLinuxSockets } from '../os/linux/linux.js';
import { watchNetworkEvents } from '../os/linux/network-events.js';
import { servePacketThread } from '../os/packet-thread.js';
import { PolicyKeeper } from '../policy/keeper.js';
import { type ServiceBackend, serviceBackend } from './backends.js';
import { ConnectorCore } from './core.js';
import { kernelPlan } from './kernel-plan.js';
import { connectorStatus } from './status.js';
import type { ConnectorProtocol, ConnectorThreadData } from './thread-protocol.js';

await servePacketThread<ConnectorProtocol, ConnectorThreadData>((context) => {
  const { data, reactor } = context;
  const crypto = createCrypto();
  const sockets = createLinuxSockets();
  const policy = new PolicyKeeper(crypto, data.policyKey, data.network);
  if (data.policy !== undefined) policy.offer(data.policy);
  const backends = new Map<string, ServiceBackend>(
    Object.entries(data.services).map(([id, url]) => [id, serviceBackend(id, url)]),
  );
  const tun = data.mode === 'kernel' ? openTun(sockets, data.tunName) : undefined;
  const udp = openNodeSockets(sockets, data.port);
  const endpoints = makeNodeEndpoints(data, reactor, (connection) => core.acceptLink(reactor.now(), connection));
  const core: ConnectorCore = new ConnectorCore({
    name: data.name,
    network: data.network,
    policy,
    policyKey: data.policyKey,
    proof: data.proof,
    relays: data.relays,
    software: SOFTWARE,
    backends,
    reactor,
    sockets,
    udp,
    tun,
    relayEndpoint: endpoints.relay,
    linkEndpoint: endpoints.links,
    crypto,
    entropy: new SystemEntropy(),
    wall: () => reactor.wall(),
    parseCertificate: parsePeerIdentity,
    onEvent: (event) => context.emit('event', event),
    onRelayAttempt: (relay) => context.emit('relayAttempt', { relay, port: udp[0]!.local.port }),
    direct: directOptions(data.direct),
    extraSockets: extraSockets(reactor, sockets),
  });
  if (tun !== undefined) reactor.watch(tun.fd, READABLE, () => core.kernel!.read(reactor.now()));
  driveNode(reactor, udp, endpoints, core);
  const networkEvents = watchNetworkEvents(reactor, (isWatched) => context.emit('hostNetwork', isWatched));
  return {
    requests: {
      status: () => ({
        mode: data.mode,
        tun: tun?.name,
        ...connectorStatus(core, backends, policy, reactor.now(), reactor.wall(), transportCounters(udp, endpoints)),
      }),
      kernel: () => kernelPlan(policy.view, data.name, backends),
      ...nodeRequests(endpoints, core, reactor),
      watchesNetwork: () => networkEvents !== undefined,
      backends: (resolved) => {
        for (const [id, text] of Object.entries(resolved)) {
          const backend = backends.get(id);
          if (backend !== undefined) backend.address = IpAddress.parse(text);
        }
        return undefined;
      },
      path: (path) => {
        core.setPath(reactor.now(), path);
        return undefined;
      },
      services: (wanted) => {
        const removed = [...backends.keys()].filter((id) => !(id in wanted));
        for (const id of removed) backends.delete(id);
        for (const [id, url] of Object.entries(wanted)) {
          if (backends.get(id)?.url !== url) backends.set(id, serviceBackend(id, url));
        }
        core.backendsChanged(reactor.now(), removed);
        return undefined;
      },
      shutdown: () => {
        core.shutdown(reactor.now());
        core.turn(reactor.now());
        return undefined;
      },
    },
    rest: () => {
      core.buffers.clear();
      return scratchMemory(udp, endpoints);
    },
    close: () => {
      networkEvents?.close();
      tun?.close();
      for (const socket of udp) socket.close();
    },
  };
});

/** @throws SallyportError KERNEL_MODE_NOT_PERMITTED, and those of `Sockets.tun`. */
function openTun(sockets: Sockets, name: string): TunDevice {
  try {
    return sockets.tun({ name, offload: true });
  } catch (error) {
    if (!(error instanceof SallyportError && error.code === 'TUN_NOT_PERMITTED')) throw error;
    throw new SallyportError('environment', 'KERNEL_MODE_NOT_PERMITTED', error.message, {
      cause: error,
      hint: 'run as root or with CAP_NET_ADMIN, or use --mode engine, which needs no privilege',
    });
  }
}
