/**
 * The standard topology: a user, a relay and a private service on three networks that one router joins; behind the service's
 * host lies a private network that only this host reaches. Each of user and service may sit behind a home router.
 *
 *   user ──(home)──┐              ┌──(office)── service ── backend
 *    192.0.2.2     ├──── net ─────┤            203.0.113.2  10.20.0.2
 *                  │              │
 *                  └──── relay ───┘
 *                     198.51.100.2
 *
 * Addresses of the three networks are the documentation prefixes (RFC 5737, RFC 3849), so that they look public to the product
 * and can never be meant elsewhere.
 */
import { acceptOnlyFrom, masquerade } from './firewall.js';
import type { Host } from './host.js';
import { type ImpairedLink, type ImpairedLinkOptions, impairedLink } from './impaired-link.js';
import { defaultRoutes, type Lab, type LinkEnd } from './lab.js';

/** How a host is joined to the router in the middle. */
export type Attachment = 'open' | 'masquerade';

export interface StandardOptions {
  readonly user?: Attachment;
  readonly service?: Attachment;
  /** True (default): nobody can open a connection to the service's host from the three networks. */
  readonly serviceClosed?: boolean;
  /** MTU of every link in bytes; default 1500. */
  readonly mtu?: number;
}

export interface StandardTopology {
  readonly lab: Lab;
  readonly net: Host;
  readonly user: Host;
  readonly relay: Host;
  readonly service: Host;
  readonly backend: Host;
  /** What is linked to `net` for each: the host itself, or the home router before it. */
  readonly edges: Readonly<Record<Uplink, Host>>;
}

export type Uplink = 'user' | 'relay' | 'service';

export interface HostAddresses {
  readonly v4: string;
  readonly v6: string;
}

/** Addresses of the hosts as seen on their own first link. Behind a masquerade the router has the public one. */
export const ADDRESSES = {
  user: { v4: '192.0.2.2', v6: '2001:db8:1::2' },
  relay: { v4: '198.51.100.2', v6: '2001:db8:2::2' },
  service: { v4: '203.0.113.2', v6: '2001:db8:3::2' },
  /** Inside addresses of user and service when they sit behind a home router. */
  userInside: { v4: '192.168.1.2', v6: 'fd00:1::2' },
  serviceInside: { v4: '192.168.2.2', v6: 'fd00:2::2' },
  /** The service's host on its private network, and the host behind it. */
  servicePrivate: { v4: '10.20.0.1', v6: 'fd00:20::1' },
  backend: { v4: '10.20.0.2', v6: 'fd00:20::2' },
} as const satisfies Record<string, HostAddresses>;

/** The device of every host or home router that is linked to `net`. */
const UPLINK_DEVICE = 'to-net';

/** The private network behind the service's host. */
const PRIVATE_NETWORK = ['10.20.0.0/24', 'fd00:20::/64'];

/** Builds the standard topology in `lab`. Programs may be started as soon as it returns. */
export function standardTopology(lab: Lab, options: StandardOptions = {}): StandardTopology {
  const linkOptions = options.mtu === undefined ? {} : { mtu: options.mtu };
  const net = lab.router('net');
  const edges = new Map<Uplink, Host>();
  const attach = (name: Uplink, outside: HostAddresses, inside?: HostAddresses): Host => {
    const host = lab.host(name);
    let edge = host;
    if (inside !== undefined) {
      edge = lab.router(name === 'user' ? 'home' : 'office');
      lab.link(withPrefix(host, inside), withPrefix(edge, firstOf(inside)), linkOptions);
      defaultRoutes(host, [firstOf(inside).v4, firstOf(inside).v6]);
    }
    lab.link(...uplinkEnds(net, edge, name), linkOptions);
    defaultRoutes(edge, [firstOf(outside).v4, firstOf(outside).v6]);
    if (inside !== undefined) masquerade(edge, UPLINK_DEVICE);
    edges.set(name, edge);
    return host;
  };
  const user = attach('user', ADDRESSES.user, options.user === 'masquerade' ? ADDRESSES.userInside : undefined);
  const relay = attach('relay', ADDRESSES.relay);
  const behindOffice = options.service === 'masquerade' ? ADDRESSES.serviceInside : undefined;
  const service = attach('service', ADDRESSES.service, behindOffice);
  const backend = lab.host('backend');
  lab.link(withPrefix(service, ADDRESSES.servicePrivate), withPrefix(backend, ADDRESSES.backend), linkOptions);
  if (options.serviceClosed !== false) acceptOnlyFrom(service, PRIVATE_NETWORK);
  return { lab, net, user, relay, service, backend, edges: Object.fromEntries(edges) as Record<Uplink, Host> };
}

/** Replaces the link between one host (or its home router) and `net` by one with faults; addresses and routes stay. */
export async function impairUplink(
  topology: StandardTopology,
  uplink: Uplink,
  options: ImpairedLinkOptions,
): Promise<ImpairedLink> {
  const { lab, net } = topology;
  const edge = topology.edges[uplink];
  const [left, right] = uplinkEnds(net, edge, uplink);
  lab.unlink(left, right);
  const link = await impairedLink(lab, left, right, options);
  const gateway = firstOf(ADDRESSES[uplink]);
  defaultRoutes(edge, [gateway.v4, gateway.v6]);
  return link;
}

type End = Required<LinkEnd>;

/** Both ends of an uplink; left is the side of the host. */
function uplinkEnds(net: Host, edge: Host, uplink: Uplink): [End, End] {
  return [
    { ...withPrefix(edge, ADDRESSES[uplink]), device: UPLINK_DEVICE },
    { ...withPrefix(net, firstOf(ADDRESSES[uplink])), device: `to-${uplink}` },
  ];
}

function withPrefix(host: Host, addresses: HostAddresses): { host: Host; addresses: string[] } {
  return { host, addresses: [`${addresses.v4}/24`, `${addresses.v6}/64`] };
}

/** The router's address on a host's network: the first one. */
function firstOf(addresses: HostAddresses): HostAddresses {
  return { v4: addresses.v4.replace(/\d+$/, '1'), v6: addresses.v6.replace(/[0-9a-f]+$/, '1') };
}
