/**
 * Addresses and routes through `ip` (iproute2), tables of packet rules through `nft` (nftables), and settings of the kernel.
 * Synchronous: a few milliseconds a call, at start and when the set of services changes, never on the packet path.
 *
 * Routes carry a protocol number of their own (`ip route show proto 83`), and only routes that carry it are removed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { IpAddress, Prefix } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { HostRoute, NetworkConfig, RouteChoice } from '../io.js';
import { call } from './call.js';
import { type Change, Journal } from './journal.js';

/** rtm_protocol of our routes: unassigned in <linux/rtnetlink.h> and iproute2's rt_protos. */
const ROUTE_PROTOCOL = '83';
/** Where the kernel's own settings are. */
const SETTINGS = '/proc/sys/';

export interface NetworkOptions {
  /** File for the undo journal, in the state folder; one process at a time uses it. */
  readonly journal: string;
}

/** Undoes first what an earlier run left behind. */
export function createNetwork(options: NetworkOptions): NetworkConfig {
  const network = new IpRoute2(options);
  network.undo();
  return network;
}

class IpRoute2 implements NetworkConfig {
  readonly #journal: Journal;

  constructor(options: NetworkOptions) {
    this.#journal = new Journal(options.journal);
  }

  linkUp(device: string, mtu: number, queueLength?: number): void {
    const queue = queueLength === undefined ? [] : ['txqueuelen', String(queueLength)];
    ip('link', 'set', 'dev', checkDevice(device), 'mtu', String(mtu), ...queue, 'up');
  }

  addAddress(device: string, address: string, prefixLength: number): void {
    const parsed = IpAddress.parse(address);
    if (parsed === undefined || Prefix.of(parsed, prefixLength) === undefined) {
      throw new SallyportError('caller', 'BAD_ADDRESS', `${address}/${prefixLength} is not an address`);
    }
    const change: Change = { kind: 'address', device: checkDevice(device), value: `${parsed}/${prefixLength}` };
    this.#make(change, () => {
      // Without duplicate address detection an IPv6 address is usable at once; the device has no neighbours.
      const flags = parsed.isV4 ? [] : ['nodad'];
      ip('address', 'add', change.value, 'dev', device, ...flags);
    });
  }

  addRoute(device: string, prefix: string, sourceAddress?: string): void {
    const parsed = parsePrefix(prefix);
    const source = sourceAddress === undefined ? [] : ['src', checkAddress(sourceAddress)];
    const change: Change = { kind: 'route', device: checkDevice(device), value: parsed.toString() };
    const other = listRoutes(parsed.ip.family, ['exact', change.value]).find((route) => route.device !== device);
    if (other !== undefined) {
      throw new SallyportError('environment', 'ROUTE_CONFLICT', `${prefix} is already routed to ${other.device}`, {
        hint: `see it with: ip route show ${change.value}`,
      });
    }
    this.#make(change, () => {
      ip(family(parsed), 'route', 'add', change.value, 'dev', device, 'proto', ROUTE_PROTOCOL, ...source);
    });
  }

  removeRoute(device: string, prefix: string): void {
    const change: Change = { kind: 'route', device: checkDevice(device), value: parsePrefix(prefix).toString() };
    const id = this.#journal.find(change);
    if (id === undefined) return;
    revert(change);
    this.#journal.undone(id);
  }

  routes(): HostRoute[] {
    return [...listRoutes(4, []), ...listRoutes(6, [])];
  }

  routeTo(address: IpAddress): RouteChoice | undefined {
    let answer: string;
    try {
      answer = ip('-j', 'route', 'get', address.toString());
    } catch (error) {
      if (isUnreachable(error)) return undefined;
      throw error;
    }
    const route = records(answer)[0];
    if (route === undefined || typeof route['dev'] !== 'string') return undefined;
    return { device: route['dev'], gateway: addressIn(route['gateway']), source: addressIn(route['prefsrc']) };
  }

  setting(key: string): string | undefined {
    const file = settingFile(key);
    try {
      return readFileSync(file, 'latin1').trim();
    } catch {
      return undefined;
    }
  }

  set(key: string, value: string): void {
    const before = this.setting(key);
    if (before === undefined || before === value) return;
    const change: Change = { kind: 'setting', device: key, value: before };
    const id = this.#journal.begin(change);
    try {
      writeSetting(key, value);
    } catch (error) {
      this.#journal.undone(id);
      throw error;
    }
  }

  setTable(table: string, script: string): void {
    const change: Change = { kind: 'table', device: 'inet', value: checkTable(table) };
    const id = this.#journal.find(change) ?? this.#journal.begin(change);
    try {
      call('nft', ['-f', '-'], script);
    } catch (error) {
      if (!this.#hasTable(table)) this.#journal.undone(id);
      throw error;
    }
  }

  counters(table: string): Record<string, number> {
    const { nftables } = JSON.parse(call('nft', ['-j', 'list', 'counters', 'table', 'inet', checkTable(table)])) as {
      readonly nftables: readonly { readonly counter?: { readonly name: string; readonly packets: number } }[];
    };
    return Object.fromEntries(
      nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets]])),
    );
  }

  #hasTable(table: string): boolean {
    try {
      call('nft', ['list', 'chains', 'inet', table]);
      return true;
    } catch {
      return false;
    }
  }

  /** Tries everything, then throws the first failure; what failed stays in the journal for the next attempt. */
  undo(): void {
    const failures: unknown[] = [];
    for (const { id, change } of this.#journal.pending()) {
      try {
        revert(change);
        this.#journal.undone(id);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Writes down, then acts. What was there before is left alone, now and by `undo`. */
  #make(change: Change, act: () => void): void {
    if (this.#journal.find(change) !== undefined) return;
    const id = this.#journal.begin(change);
    try {
      act();
    } catch (error) {
      this.#journal.undone(id);
      if (!(error instanceof SallyportError && error.code === 'NETWORK_EXISTS')) throw error;
    }
  }
}

/** Removes what was made; that it is gone already, or its device is, is just as well. */
function revert(change: Change): void {
  const { kind, value, device } = change;
  try {
    if (kind === 'address') ip('address', 'del', value, 'dev', device);
    else if (kind === 'setting') writeSetting(device, value);
    else if (kind === 'table') call('nft', ['delete', 'table', device, value]);
    else ip(family(parsePrefix(value)), 'route', 'del', value, 'dev', device, 'proto', ROUTE_PROTOCOL);
  } catch (error) {
    if (!(error instanceof SallyportError && error.code === 'NETWORK_GONE')) throw error;
  }
}

function listRoutes(ipFamily: 4 | 6, filter: readonly string[]): HostRoute[] {
  const found: HostRoute[] = [];
  for (const route of records(ip('-j', `-${ipFamily}`, 'route', 'show', 'table', 'main', ...filter))) {
    const text = route['dst'] === 'default' ? (ipFamily === 4 ? '0.0.0.0/0' : '::/0') : route['dst'];
    const prefix = typeof text === 'string' ? Prefix.parse(text) : undefined;
    if (prefix !== undefined) found.push({ prefix, device: deviceOf(route) });
  }
  return found;
}

function deviceOf(route: Readonly<Record<string, unknown>>): string {
  if (typeof route['dev'] === 'string') return route['dev'];
  const hop: unknown = Array.isArray(route['nexthops']) ? route['nexthops'][0] : undefined;
  if (isRecord(hop) && typeof hop['dev'] === 'string') return hop['dev'];
  return typeof route['type'] === 'string' ? route['type'] : 'unknown';
}

/** What `ip -j` printed, as a list of objects. */
function records(json: string): Record<string, unknown>[] {
  const parsed: unknown = json.trim() === '' ? [] : JSON.parse(json);
  return Array.isArray(parsed) ? parsed.filter(isRecord) : [];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function addressIn(value: unknown): IpAddress | undefined {
  return typeof value === 'string' ? IpAddress.parse(value) : undefined;
}

const family = (prefix: Prefix): string => `-${prefix.ip.family}`;

function parsePrefix(text: string): Prefix {
  const prefix = Prefix.parse(text);
  if (prefix === undefined) throw new SallyportError('caller', 'BAD_PREFIX', `${text} is not an address prefix`);
  return prefix;
}

function checkAddress(text: string): string {
  if (IpAddress.parse(text) === undefined)
    throw new SallyportError('caller', 'BAD_ADDRESS', `${text} is not an address`);
  return text;
}

/** The file of a setting such as `net/ipv4/ip_forward`. */
function settingFile(key: string): string {
  if (/^net(\/[\w.@-]+)+$/.test(key) && !key.includes('..')) return `${SETTINGS}${key}`;
  throw new SallyportError('caller', 'BAD_SETTING', `"${key}" is not a setting of the network`);
}

/** @throws SallyportError NETWORK_GONE when there is none (a device has gone), NETWORK_NOT_PERMITTED, NETWORK_FAILED. */
function writeSetting(key: string, value: string): void {
  const file = settingFile(key);
  try {
    writeFileSync(file, value);
  } catch (error) {
    const { code } = Object(error) as { readonly code?: string };
    const known = code === 'ENOENT' ? 'NETWORK_GONE' : code === 'EACCES' ? 'NETWORK_NOT_PERMITTED' : 'NETWORK_FAILED';
    throw new SallyportError('environment', known, `setting ${key} to ${value}: ${code}`, { cause: error });
  }
}

function checkTable(name: string): string {
  if (/^[a-z_][a-z0-9_]{0,62}$/i.test(name)) return name;
  throw new SallyportError('caller', 'BAD_TABLE', `"${name}" is not the name of a table`);
}

/** A device name as `ip` takes it: it must not pass for an option. */
function checkDevice(name: string): string {
  if (/^[\w.@][\w.@-]{0,14}$/.test(name)) return name;
  throw new SallyportError('caller', 'BAD_DEVICE', `"${name}" is not the name of a network interface`);
}

const ip = (...args: string[]): string => call('ip', args);

function isUnreachable(error: unknown): boolean {
  return error instanceof SallyportError && error.code === 'NETWORK_UNREACHABLE';
}
