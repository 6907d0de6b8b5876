/**
 * The paths of a running role that can be traced, out of what it says of itself in `status`.
 *
 *   agent, connector   relay           the way to the relay                        quic, else icmp, else udp
 *                      SESSION         by its peer's name or its id: what its link goes by    direct: icmp, else udp
 *   relay              NODE            the way to an agent or connector            icmp
 *                      AGENT/CONNECTOR both ends of a channel
 *   agent              service ID      TUN mode: through the tunnel, and the way below it; else the latter alone
 *   connector          service ID      the way to the backend
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { LinkStatus, RelayStatus } from '../../node/link-status.js';
import { parseBackend } from '../../policy/backend.js';
import type { TracedPath } from '../../trace/paths/path-tracer.js';
import type { TraceProtocol } from '../../trace/types.js';
import type { RoleStatus } from '../status-types.js';

/** What somebody wants to have traced: one of both. */
export interface PathChoice {
  readonly path: string | undefined;
  readonly service: string | undefined;
}

export interface ChosenPaths {
  readonly paths: readonly TracedPath[];
  /** What should be known beside the result. */
  readonly notes: readonly string[];
}

type Of<R extends RoleStatus['role']> = Extract<RoleStatus, { readonly role: R }>;

/** Where a path is probed that has no port of its own: nothing listens there (as traceroute has it). */
const NO_PORT = 33_434;
/** Our relays answer a version that nobody speaks, for which raw sockets are needed; echo is permitted to most users, UDP to all. */
const OUTER: readonly TraceProtocol[] = ['quic', 'icmp', 'udp'];
const PROXY_NOTE =
  'a trace cannot go into the tunnel in proxy mode, where programs speak to a proxy and send no packets of their own; this is the way below it';

/** @throws SallyportError PATH_UNKNOWN, SERVICE_UNKNOWN (caller), PATH_NOT_READY (environment) */
export function choosePaths(status: RoleStatus, { path, service }: PathChoice): ChosenPaths {
  if (status.role === 'tun2socks') {
    throw unknown('PATH_UNKNOWN', 'tun2socks has no paths of its own', 'trace an address: sallyport trace ADDRESS');
  }
  if (service !== undefined) {
    if (status.role === 'agent') return agentService(status, service);
    if (status.role === 'connector') return connectorService(status, service);
    throw unknown('SERVICE_UNKNOWN', 'a relay has no way to services', 'ask the agent or the connector');
  }
  return status.role === 'relay' ? relayPath(status, path ?? '') : nodePath(status, path ?? 'relay');
}

function nodePath(status: Of<'agent'> | Of<'connector'>, path: string): ChosenPaths {
  if (path === 'relay') return { paths: [wayToRelay(status.relay)], notes: [] };
  const sessions = sessionsOf(status);
  const session = sessions.find(({ peer, id }) => peer === path || id === path);
  if (session === undefined) {
    const names = ['relay', ...new Set(sessions.map(({ peer }) => peer))].join(', ');
    throw unknown('PATH_UNKNOWN', `there is no session ${path}`, `paths of this ${status.role}: ${names}`);
  }
  if (session.link === undefined) throw notReady(`the session with ${session.peer} has no link now`);
  return { paths: [wayOf(status, session)], notes: session.link.via === 'direct' ? [] : [byRelay(session.peer)] };
}

const byRelay = (peer: string): string => `the session with ${peer} goes by the relay: the way to that`;

/** Straight to the peer, as the session's link goes, or to the relay. */
function wayOf(status: Of<'agent'> | Of<'connector'>, { peer, link }: SessionWay): TracedPath {
  const remote = link?.via === 'direct' ? SocketAddress.parse(link.remote) : undefined;
  if (remote === undefined) return wayToRelay(relayOf(status, link?.relay));
  // The peer answers no QUIC of strangers; its host, or the router before it, answers echo requests.
  return { id: `session ${peer}`, target: remote.ip.toString(), port: remote.port, protocols: ['icmp', 'udp'] };
}

/** The relay of this name; the home relay where the link has none yet. */
function relayOf({ relay, relays }: Of<'agent'> | Of<'connector'>, name: string | undefined): RelayStatus {
  return name === undefined ? relay : (relays.find((one) => one.name === name) ?? relay);
}

function wayToRelay(relay: RelayStatus): TracedPath {
  const address = relay.address === undefined ? undefined : SocketAddress.parse(relay.address);
  if (address === undefined) throw notReady(`the relay has not been reached yet: ${relay.problem || relay.state}`);
  if (relay.over === 'tcp') {
    throw notReady(
      'the relay is reached over TLS, by way of this machine',
      'trace it by name: sallyport trace -P tcp RELAY:443',
    );
  }
  return { id: 'relay', target: address.ip.toString(), port: address.port, protocols: OUTER };
}

interface SessionWay {
  readonly peer: string;
  readonly id: string;
  readonly link: LinkStatus | undefined;
  readonly services: readonly string[];
}

function sessionsOf(status: Of<'agent'> | Of<'connector'>): SessionWay[] {
  return status.role === 'agent'
    ? status.sessions.map(({ connector, session, link, services }) => ({
        peer: connector,
        id: session,
        link,
        services,
      }))
    : status.sessions.map(({ agent, session, link, services }) => ({ peer: agent, id: session, link, services }));
}

function relayPath({ nodes, channels }: Of<'relay'>, path: string): ChosenPaths {
  const names = path.split('/');
  if (names.length === 2 && !channels.some(({ agent, connector }) => agent === names[0] && connector === names[1])) {
    throw unknown('PATH_UNKNOWN', `there is no channel between the agent ${names[0]} and the connector ${names[1]}`);
  }
  const roles = names.length === 2 ? ['agent', 'connector'] : ['agent', 'connector', undefined];
  const found = names.map((name, i) =>
    nodes.find((node) => node.name === name && (names.length === 1 || node.role === roles[i])),
  );
  const paths = found.map((node, i): TracedPath => {
    if (node === undefined) {
      const there = [...new Set(nodes.map(({ name }) => name))].join(', ') || 'none';
      throw unknown('PATH_UNKNOWN', `no node ${names[i]} is connected`, `nodes of this relay: ${there}`);
    }
    const target = SocketAddress.parse(node.address)!.ip.toString();
    return { id: `${node.role} ${node.name}`, target, port: NO_PORT, protocols: ['icmp'] };
  });
  return { paths, notes: [] };
}

function agentService(status: Of<'agent'>, id: string): ChosenPaths {
  const service = status.services.find((one) => one.id === id);
  if (service === undefined) throw noService(id, status.services);
  const session = sessionsOf(status).find((one) => one.link !== undefined && one.services.includes(id));
  const outer = session === undefined ? wayToRelay(status.relay) : wayOf(status, session);
  if (status.device.mode === 'proxy') return { paths: [outer], notes: [PROXY_NOTE] };
  const target = service.virtualIp4 ?? service.virtualIp6;
  if (target === undefined) {
    throw unknown(
      'SERVICE_IS_PREFIX',
      `${id} is a whole network (${service.prefix})`,
      'trace an address of it: sallyport trace ADDRESS',
    );
  }
  const port = /^\d+/.exec(service.ports);
  const inner = {
    id: `service ${id}`,
    target,
    ...probeOf(service.protocols, port === null ? undefined : Number(port[0])),
  };
  return { paths: [inner, outer], notes: service.available ? [] : ['no connector serves it now'] };
}

function connectorService(status: Of<'connector'>, id: string): ChosenPaths {
  const service = status.services.find((one) => one.id === id);
  if (service === undefined) throw noService(id, status.services);
  const { protocols, target, host, port } = parseBackend(service.backend);
  if (target === 'cidr') {
    throw unknown(
      'SERVICE_IS_PREFIX',
      `${id} is a whole network (${host})`,
      'trace an address of it: sallyport trace ADDRESS',
    );
  }
  const address = service.resolved ?? (IpAddress.parse(host) === undefined ? undefined : host);
  if (address === undefined) throw notReady(`the backend’s name ${host} has no address`);
  return { paths: [{ id: `service ${id}`, target: address, ...probeOf(protocols, port) }], notes: [] };
}

/** Connections that are opened and reset, or echo requests; never datagrams, which a service would take for its own. */
function probeOf(protocols: readonly string[], port: number | undefined): Pick<TracedPath, 'port' | 'protocols'> {
  return protocols.includes('tcp') && port !== undefined
    ? { port, protocols: ['tcp'] }
    : { port: port ?? NO_PORT, protocols: ['icmp'] };
}

function noService(id: string, services: readonly { readonly id: string }[]): SallyportError {
  const ids = services.map((one) => one.id).join(', ') || 'none';
  return unknown('SERVICE_UNKNOWN', `there is no service ${id}`, `services: ${ids}`);
}

function unknown(code: string, message: string, hint?: string): SallyportError {
  return new SallyportError('caller', code, message, hint === undefined ? {} : { hint });
}

function notReady(message: string, hint?: string): SallyportError {
  return new SallyportError('environment', 'PATH_NOT_READY', message, hint === undefined ? {} : { hint });
}
