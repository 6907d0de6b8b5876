/** The packet thread of an agent: opens the device and the sockets, makes the core, and runs it in the reactor. */
import { Prefix, SocketAddress } from '../base/address.js';
import { describeError, SallyportError } from '../base/error.js';
import { SOFTWARE } from '../base/software.js';
import { spkiOf } from '../identity/keys.js';
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
import { type PacketThreadContext, servePacketThread } from '../os/packet-thread.js';
import { PolicyKeeper } from '../policy/keeper.js';
import { type Identity, verifyProof } from '../policy/proof.js';
import { AgentCore } from './core.js';
import { ProxyAccess } from './proxy/access.js';
import { parseForward } from './proxy/forward.js';
import type { ProxyListeners } from './proxy/proxy-listeners.js';
import { ProxyServer } from './proxy/proxy-server.js';
import { resolveTarget } from './proxy/resolve.js';
import { agentStatus } from './status.js';
import type { AgentDevice, AgentProtocol, AgentThreadData, ProxyOptions } from './thread-protocol.js';

const at = (text: string): SocketAddress => SocketAddress.parse(text)!;

type Context = PacketThreadContext<AgentProtocol, AgentThreadData>;

await servePacketThread<AgentProtocol, AgentThreadData>((context) => {
  const { data, reactor } = context;
  const crypto = createCrypto();
  const sockets = createLinuxSockets();
  const policy = new PolicyKeeper(crypto, data.policyKey, data.network);
  if (data.policy !== undefined) policy.offer(data.policy);
  const identity = verifyProof(crypto, data.policyKey, data.network, data.proof, spkiOf(data.keyPem));
  const udp = openNodeSockets(sockets, data.port);
  const endpoints = makeNodeEndpoints(data, reactor, undefined);
  const { tun, reason } = openTun(sockets, data);
  let proxy: ProxyServer | undefined;
  const core = new AgentCore({
    identity,
    policy,
    policyKey: data.policyKey,
    proof: data.proof,
    relays: data.relays,
    software: SOFTWARE,
    udp,
    tun,
    relayEndpoint: endpoints.relay,
    linkEndpoint: endpoints.links,
    crypto,
    entropy: new SystemEntropy(),
    clock: reactor,
    wall: () => reactor.wall(),
    parseCertificate: parsePeerIdentity,
    onEvent: (event) => context.emit('event', event),
    endProxied: (isOver) => {
      proxy?.endFlows(isOver);
    },
    onRelayAttempt: (relay) => context.emit('relayAttempt', { relay, port: udp[0]!.local.port }),
    direct: directOptions(data.direct),
    extraSockets: extraSockets(reactor, sockets),
  });
  if (tun !== undefined) {
    reactor.watch(tun.fd, READABLE, () => {
      core.tun!.read(reactor.now());
    });
  }
  proxy = tun === undefined ? openProxy(context, sockets, core, policy, identity) : undefined;
  const device = (): AgentDevice => ({
    mode: tun === undefined ? 'proxy' : 'tun',
    tun: tun?.name,
    reason,
    listeners: (proxy?.listeners ?? []).map(({ kind, local, isExposed }) => ({
      kind,
      address: local.toString(),
      isExposed,
    })),
  });
  driveNode(reactor, udp, endpoints, core);
  const networkEvents = watchNetworkEvents(reactor, (isWatched) => context.emit('hostNetwork', isWatched));
  reactor.onTurn(() => {
    proxy?.flush();
    return undefined;
  });
  return {
    requests: {
      status: () =>
        agentStatus(core, identity, device(), policy, reactor.now(), reactor.wall(), {
          ...transportCounters(udp, endpoints),
          ...prefixed('proxy', { ...proxy?.counters.snapshot(), ...proxy?.udpCounters.snapshot() }),
        }),
      device,
      listeners: (options) => {
        const { listeners, access } = parseProxyOptions(options);
        proxy?.reconfigure(listeners, access);
        return device();
      },
      path: (path) => {
        core.setPath(reactor.now(), path);
        return undefined;
      },
      network: () => ({
        overlay: [identity.overlay4, identity.overlay6].filter((ip) => ip !== undefined).map(String),
        prefixes: (core.routes?.prefixes ?? []).map(String),
      }),
      ...nodeRequests(endpoints, core, reactor),
      watchesNetwork: () => networkEvents !== undefined,
      prod: (orphans) => {
        core.tun?.prod(orphans.map(({ local, remote }) => ({ local: at(local), remote: at(remote) })));
        return undefined;
      },
      farewell: () => {
        core.tun?.farewell();
        return undefined;
      },
      shutdown: () => {
        proxy?.close();
        core.turn(reactor.now());
        core.shutdown(reactor.now());
        core.turn(reactor.now());
        return undefined;
      },
    },
    rest: () => {
      core.stack.buffers.clear();
      return scratchMemory(udp, endpoints);
    },
    close: () => {
      networkEvents?.close();
      tun?.close();
      for (const socket of udp) socket.close();
    },
  };
});

/** In mode `auto` a missing permission means proxy mode; every other failure is the caller's to know. */
function openTun(
  sockets: Sockets,
  data: AgentThreadData,
): { readonly tun: TunDevice | undefined; readonly reason: string | undefined } {
  if (data.mode === 'proxy') return { tun: undefined, reason: undefined };
  try {
    return { tun: sockets.tun({ name: data.tunName, offload: true }), reason: undefined };
  } catch (error) {
    const isMissing =
      error instanceof SallyportError && (error.code === 'TUN_NOT_PERMITTED' || error.code === 'TUN_NOT_AVAILABLE');
    if (data.mode === 'auto' && isMissing) return { tun: undefined, reason: describeError(error) };
    throw error;
  }
}

function openProxy(
  context: Context,
  sockets: Sockets,
  core: AgentCore,
  policy: PolicyKeeper,
  identity: Identity,
): ProxyServer {
  const { listeners, access } = parseProxyOptions(context.data.proxy);
  return new ProxyServer(
    {
      reactor: context.reactor,
      sockets,
      udp: core.stack.udp,
      connect: (now, to, handlers) => {
        try {
          return core.stack.connect(now, to, handlers);
        } catch {
          return undefined;
        }
      },
      resolve: (host, port, protocol) => {
        const { view } = policy;
        if (view === undefined) {
          return {
            ok: false,
            failure: 'host-unreachable',
            detail: 'the agent has no policy yet: the relay was not reached',
          };
        }
        return resolveTarget(host, port, view, identity, core.routes!.access, protocol);
      },
      // The stack is flushed in every turn.
      onActivity: () => {},
    },
    listeners,
    access,
  );
}

/** The texts are checked where the configuration is read. */
function parseProxyOptions(options: ProxyOptions): {
  readonly listeners: ProxyListeners;
  readonly access: ProxyAccess;
} {
  const { socks, http, forwards, allow, users } = options;
  return {
    listeners: {
      ...(socks === undefined ? {} : { socks: SocketAddress.parse(socks)! }),
      ...(http === undefined ? {} : { http: SocketAddress.parse(http)! }),
      forwards: forwards.map(parseForward),
    },
    access: new ProxyAccess(
      allow.map((text) => Prefix.parse(text)!),
      new Map(Object.entries(users)),
    ),
  };
}

function prefixed(prefix: string, values: Partial<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value ?? 0]));
}
