/**
 * The host's addresses and routes: two small reads of /proc and one call, nothing that a process without privileges could not do.
 * Looked at when the kernel says that they may be others (`network-events`), and every two seconds where it does not say so.
 *
 *   /proc/net/route        Iface Destination Gateway Flags RefCnt Use Metric Mask …      (hex, host byte order)
 *   /proc/net/ipv6_route   destination(32) length(2) source length next-hop metric refcnt use flags(8) device
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { IpAddress, Prefix } from '../../base/address.js';
import { type Duration, Seconds, toMillis } from '../../base/time.js';
import type { HostNetwork } from '../io.js';

const INTERVAL: Duration = Seconds(2);
/** <linux/route.h>: the route is in use; it rejects. */
const RTF_UP = 0x0001;
const RTF_REJECT = 0x0200;
/** <linux/if_tun.h>: the device carries IP packets, and no Ethernet frames. */
const IFF_TUN = 0x0001;
const LOOPBACK = 'lo';
/** Routes at most: a router with a full table tells its default route and the most specific ones by the others anyway. */
const MAX_ROUTES = 4096;

export interface HostNetworkWatch {
  /** The network may have changed. */
  look(): void;
  /** Nobody says when: looks by itself from now on. */
  poll(): void;
  stop(): void;
}

/** Calls `use` with what is there now, and after `look` whenever it has changed. */
export function watchHostNetwork(use: (network: HostNetwork) => void): HostNetworkWatch {
  let known = '';
  const look = (): void => {
    const network = readHostNetwork();
    const text = JSON.stringify(network);
    if (text === known) return;
    known = text;
    use(network);
  };
  look();
  let timer: NodeJS.Timeout | undefined;
  return {
    look,
    poll: () => {
      timer ??= setInterval(look, toMillis(INTERVAL)).unref();
    },
    stop: () => clearInterval(timer),
  };
}

export function readHostNetwork(): HostNetwork {
  const tunnels = new Map<string, boolean>();
  const isTunnel = (device: string): boolean => {
    const known = tunnels.get(device) ?? isTunDevice(device);
    tunnels.set(device, known);
    return known;
  };
  const addresses = Object.entries(networkInterfaces())
    .filter(([device]) => !isTunnel(device))
    .flatMap(([, entries]) => entries ?? [])
    .filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0)
    .map(({ address }) => address);
  const routes = [...parseRoutes4(read('/proc/net/route')), ...parseRoutes6(read('/proc/net/ipv6_route'))]
    .slice(0, MAX_ROUTES)
    .map(({ prefix, device, via }) => ({ prefix: prefix.toString(), via, isTunnel: isTunnel(device) }));
  return { addresses, routes };
}

/** Where the IPv4 default route leads, past TUN devices; of several the one with the lowest metric. */
export function defaultGateway4(): IpAddress | undefined {
  return parseGateway4(read('/proc/net/route'), (device) => !isTunDevice(device));
}

/** Not so TAP devices: behind one is an Ethernet, mostly the only one of a container that runs without root (slirp4netns, passt). */
function isTunDevice(device: string): boolean {
  return (Number.parseInt(read(`/sys/class/net/${device}/tun_flags`), 16) & IFF_TUN) !== 0;
}

export function parseGateway4(text: string, isUsed: (device: string) => boolean): IpAddress | undefined {
  let best: { readonly ip: IpAddress; readonly metric: number } | undefined;
  for (const line of text.split('\n').slice(1)) {
    const [device, destination, gateway, flags, , , metric, mask] = line.split('\t');
    if (device === undefined || mask === undefined || !isUsable(device, flags!) || !isUsed(device)) continue;
    const isDefault = swap(destination!) === 0 && swap(mask) === 0 && swap(gateway!) !== 0;
    if (isDefault && (best === undefined || Number(metric) < best.metric)) {
      best = { ip: IpAddress.v4(swap(gateway!)), metric: Number(metric) };
    }
  }
  return best?.ip;
}

interface Route {
  readonly prefix: Prefix;
  readonly device: string;
  /** Device, next hop and metric, as the kernel prints them: two that differ are two ways. */
  readonly via: string;
}

export function parseRoutes4(text: string): Route[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [device, destination, gateway, flags, , , metric, mask] = line.split('\t');
      if (device === undefined || mask === undefined || !isUsable(device, flags!)) return [];
      const prefix = Prefix.of(IpAddress.v4(swap(destination!)), bitsOf(swap(mask)));
      return prefix === undefined ? [] : [{ prefix, device, via: `${device} ${gateway} ${metric}` }];
    });
}

export function parseRoutes6(text: string): Route[] {
  return text.split('\n').flatMap((line) => {
    const [destination, length, , , gateway, metric, , , flags, device] = line.trim().split(/ +/);
    if (device === undefined || !isUsable(device, flags!)) return [];
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(destination!.slice(i * 2, i * 2 + 2), 16));
    const prefix = Prefix.of(IpAddress.fromBytes(bytes), Number.parseInt(length!, 16));
    return prefix === undefined ? [] : [{ prefix, device, via: `${device} ${gateway} ${metric}` }];
  });
}

function isUsable(device: string, flags: string): boolean {
  const bits = Number.parseInt(flags, 16);
  return device !== LOOPBACK && (bits & RTF_UP) !== 0 && (bits & RTF_REJECT) === 0;
}

/** The kernel prints the four bytes of an address as one integer of the machine, which is little-endian. */
function swap(hex: string): number {
  const value = Number.parseInt(hex, 16);
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

function bitsOf(mask: number): number {
  return Math.clz32(~mask);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Another /proc, or no such family: nothing is known of its routes.
    return '';
  }
}
