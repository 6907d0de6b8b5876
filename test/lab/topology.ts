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
 * and can never be meant elsewhere. A carrier's NAT (CGNAT) may stand between a home router and `net`.
 */
import { SallyportError } from '../../src/base/error.js';
import { acceptOnlyFrom } from './firewall.js';
import type { Host } from './host.js';
import { type ImpairedLink, type ImpairedLinkOptions, impairedLink } from './impaired-link.js';
import { defaultRoutes, type Lab, type LinkEnd } from './lab.js';
import { type NatDevices, type NatSettings, restartNat, setNat } from './nat.js';

/** A home router that translates, and perhaps the carrier's before it. */
export interface HomeRouter extends NatSettings {
  readonly carrier?: NatSettings;
}

/**
 * How a host is joined to the router in the middle: by its own cable (`open`), by a router that only forwards, so that a bad cable is not
 * in the host itself (`routed`; the addresses are the same), or by a NAT; `masquerade` is a moderate one for both families.
 */
export type Attachment = 'open' | 'routed' | 'masquerade' | HomeRouter;

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
  /** What is linked to `net` for each: the host itself, or the outermost router before it. */
  readonly edges: Readonly<Record<Uplink, Host>>;
  /** The addresses of each of them towards `net`. */
  readonly transits: Readonly<Record<Uplink, HostAddresses>>;
  /** The NATs, innermost first. */
  readonly nats: Readonly<Record<'user' | 'service', readonly Nat[]>>;
}

/** A NAT of the topology. */
export class Nat {
  readonly router: Host;
  readonly #devices: NatDevices;
  #settings: NatSettings;

  /** Made by `standardTopology`. */
  constructor(router: Host, addresses: HostAddresses, settings: NatSettings) {
    this.router = router;
    this.#devices = { outside: UPLINK_DEVICE, addresses };
    this.#settings = settings;
    setNat(router, this.#devices, settings);
  }

  /** Becomes another NAT; live mappings stay. */
  change(settings: NatSettings): void {
    this.#settings = settings;
    setNat(this.router, this.#devices, settings);
  }

  /** Loses every mapping. */
  restart(): void {
    restartNat(this.router, this.#devices, this.#settings);
  }
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
  /** Inside addresses behind a router that translates IPv4 only. */
  userGlobal: { v4: '192.168.1.2', v6: '2001:db8:11::2' },
  serviceGlobal: { v4: '192.168.2.2', v6: '2001:db8:13::2' },
  /** Home routers towards their carrier's NAT (RFC 6598). */
  userCarrier: { v4: '100.127.1.2', v6: 'fd00:101::2' },
  serviceCarrier: { v4: '100.127.2.2', v6: 'fd00:102::2' },
  /** The service's host on its private network, and the host behind it. */
  servicePrivate: { v4: '10.20.0.1', v6: 'fd00:20::1' },
  backend: { v4: '10.20.0.2', v6: 'fd00:20::2' },
} as const satisfies Record<string, HostAddresses>;

/** The device of every host or home router that is linked to `net`. */
const UPLINK_DEVICE = 'to-net';

/** Of the routers before the two hosts. */
const ROUTER_NAMES = { user: 'home', service: 'office' } as const;

/** The private network behind the service's host. */
const PRIVATE_NETWORK = ['10.20.0.0/24', 'fd00:20::/64'];

/** Builds the standard topology in `lab`. Programs may be started as soon as it returns. */
export function standardTopology(lab: Lab, options: StandardOptions = {}): StandardTopology {
  const linkOptions = options.mtu === undefined ? {} : { mtu: options.mtu };
  const net = lab.router('net');
  const edges = new Map<Uplink, Host>();
  const transits = new Map<Uplink, HostAddresses>();
  const nats = { user: [] as Nat[], service: [] as Nat[] };
  /** Puts a host at the inside of a new router, which becomes what has to be linked next. */
  const behind = (inner: Host, inside: HostAddresses, name: string, device?: string): Host => {
    const router = lab.router(name);
    const end = { ...withPrefix(inner, inside), ...(device === undefined ? {} : { device }) };
    lab.link(end, withPrefix(router, firstOf(inside)), linkOptions);
    defaultRoutes(inner, [firstOf(inside).v4, firstOf(inside).v6]);
    return router;
  };
  const attach = (name: Uplink): Host => {
    const host = lab.host(name);
    const outside: HostAddresses = ADDRESSES[name];
    const attachment = name === 'relay' ? 'open' : (options[name] ?? 'open');
    let edge = host;
    let transit = outside;
    if (name !== 'relay' && attachment === 'routed') {
      edge = behind(host, outside, ROUTER_NAMES[name]);
      transit = ADDRESSES[`${name}Carrier`];
    } else if (name !== 'relay' && attachment !== 'open' && attachment !== 'routed') {
      const home: HomeRouter = attachment === 'masquerade' ? { kind: 'moderate' } : attachment;
      const { carrier } = home;
      edge = behind(host, insideOf(name, home), ROUTER_NAMES[name]);
      if (home.ipv6 === 'none') host.ip('-6', 'route', 'delete', 'default');
      if (home.ipv4 === 'none') withoutIpv4(host, insideOf(name, home));
      const homeRouter = edge;
      if (carrier !== undefined) {
        edge = behind(homeRouter, ADDRESSES[`${name}Carrier`], `carrier-${name}`, UPLINK_DEVICE);
      }
      nats[name].push(new Nat(homeRouter, carrier === undefined ? outside : ADDRESSES[`${name}Carrier`], home));
      if (carrier !== undefined) nats[name].push(new Nat(edge, outside, carrier));
    }
    lab.link(...uplinkEnds(net, edge, name, transit), linkOptions);
    routeUplink(net, edge, name, transit);
    if (typeof attachment === 'object' && attachment.ipv6 === 'firewall') {
      net.ip('-6', 'route', 'add', name === 'user' ? '2001:db8:11::/64' : '2001:db8:13::/64', 'via', outside.v6);
    }
    edges.set(name, edge);
    transits.set(name, transit);
    return host;
  };
  const user = attach('user');
  const relay = attach('relay');
  const service = attach('service');
  const backend = lab.host('backend');
  lab.link(withPrefix(service, ADDRESSES.servicePrivate), withPrefix(backend, ADDRESSES.backend), linkOptions);
  if (options.serviceClosed !== false) acceptOnlyFrom(service, PRIVATE_NETWORK);
  return {
    lab,
    net,
    user,
    relay,
    service,
    backend,
    edges: Object.fromEntries(edges) as Record<Uplink, Host>,
    transits: Object.fromEntries(transits) as Record<Uplink, HostAddresses>,
    nats,
  };
}

/** Replaces the link between one host (or its home router) and `net` by one with faults; addresses and routes stay. */
export async function impairUplink(
  topology: StandardTopology,
  uplink: Uplink,
  options: ImpairedLinkOptions,
): Promise<ImpairedLink> {
  const { lab, net } = topology;
  const edge = topology.edges[uplink];
  const transit = topology.transits[uplink];
  const [left, right] = uplinkEnds(net, edge, uplink, transit);
  lab.unlink(left, right);
  const link = await impairedLink(lab, left, right, options);
  routeUplink(net, edge, uplink, transit);
  return link;
}

/** The edge's way to the world, and the world's to a host behind a router that only forwards. */
function routeUplink(net: Host, edge: Host, uplink: Uplink, transit: HostAddresses): void {
  const gateway = firstOf(transit);
  defaultRoutes(edge, [gateway.v4, gateway.v6]);
  const { v4, v6 } = ADDRESSES[uplink];
  if (transit.v4 === v4) return;
  net.ip('route', 'add', v4, 'via', transit.v4);
  net.ip('-6', 'route', 'add', v6, 'via', transit.v6);
}

/** Addresses behind a home router. @throws SallyportError LAB_NAT for what the topology cannot be. */
function insideOf(name: 'user' | 'service', home: HomeRouter): HostAddresses {
  if (home.ipv6 !== 'firewall') return ADDRESSES[`${name}Inside`];
  if (home.carrier !== undefined) {
    throw new SallyportError('caller', 'LAB_NAT', 'IPv6 without translation has no carrier NAT before it here');
  }
  return ADDRESSES[`${name}Global`];
}

type End = Required<LinkEnd>;

/** Both ends of an uplink; left is the side of the host. */
function uplinkEnds(net: Host, edge: Host, uplink: Uplink, transit: HostAddresses): [End, End] {
  return [
    { ...withPrefix(edge, transit), device: UPLINK_DEVICE },
    { ...withPrefix(net, firstOf(transit)), device: `to-${uplink}` },
  ];
}

export function withPrefix(host: Host, addresses: HostAddresses): { host: Host; addresses: string[] } {
  return { host, addresses: [`${addresses.v4}/24`, `${addresses.v6}/64`] };
}

/** Takes a host's IPv4 address from it, with all routes on it. */
export function withoutIpv4(host: Host, addresses: HostAddresses): void {
  host.ip('address', 'delete', `${addresses.v4}/24`, 'dev', deviceOf(host, addresses));
}

function deviceOf(host: Host, { v4 }: HostAddresses): string {
  return /^\d+: (\S+)/.exec(host.ip('-o', 'address', 'show', 'to', `${v4}/32`))![1]!;
}

/** The router's address on a host's network: the first one. */
export function firstOf(addresses: HostAddresses): HostAddresses {
  return { v4: addresses.v4.replace(/\d+$/, '1'), v6: addresses.v6.replace(/[0-9a-f]+$/, '1') };
}
