/**
 * Addresses and routes through `ip` (iproute2), the only place that calls it. Synchronous: a few milliseconds a call, at
 * start and when the set of services changes, never on the packet path.
 *
 * Routes carry a protocol number of their own (`ip route show proto 83`), and only routes that carry it are removed.
 */
import { execFileSync } from 'node:child_process';
import { IpAddress, Prefix } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { HostRoute, NetworkConfig, RouteChoice } from '../io.js';
import { type Change, Journal } from './journal.js';

/** rtm_protocol of our routes: unassigned in <linux/rtnetlink.h> and iproute2's rt_protos. */
const ROUTE_PROTOCOL = '83';
/** A call that takes longer than this hangs; milliseconds. */
const CALL_TIMEOUT = 10_000;

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

/** A device name as `ip` takes it: it must not pass for an option. */
function checkDevice(name: string): string {
  if (/^[\w.@][\w.@-]{0,14}$/.test(name)) return name;
  throw new SallyportError('caller', 'BAD_DEVICE', `"${name}" is not the name of a network interface`);
}

/** Runs `ip` and returns what it prints. */
function ip(...args: string[]): string {
  try {
    return execFileSync('ip', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: CALL_TIMEOUT,
      env: { ...process.env, LC_ALL: 'C' },
    });
  } catch (error) {
    throw callError(args, error);
  }
}

/** Answers of the kernel, as `ip` prints them: strerror in the C locale, or the kernel's own words (extended acknowledgement). */
const ANSWERS: readonly (readonly [RegExp, string, string?])[] = [
  [/operation not permitted/i, 'NETWORK_NOT_PERMITTED', 'run as root or with CAP_NET_ADMIN'],
  [/file exists|already assigned/i, 'NETWORK_EXISTS'],
  [/no such process|cannot find device|cannot assign requested address|address not found/i, 'NETWORK_GONE'],
  [/network is unreachable|no route to host/i, 'NETWORK_UNREACHABLE'],
];

function callError(args: readonly string[], error: unknown): SallyportError {
  const { code, stderr } = isRecord(error) ? error : { code: undefined, stderr: undefined };
  if (code === 'ENOENT') {
    return new SallyportError('environment', 'IPROUTE2_MISSING', 'the program "ip" was not found', {
      cause: error,
      hint: 'install iproute2',
    });
  }
  const text = String(stderr ?? '').trim();
  const known = ANSWERS.find(([pattern]) => pattern.test(text));
  return new SallyportError('environment', known?.[1] ?? 'NETWORK_FAILED', `ip ${args.join(' ')}: ${text || code}`, {
    cause: error,
    ...(known?.[2] === undefined ? {} : { hint: known[2] }),
  });
}

function isUnreachable(error: unknown): boolean {
  return error instanceof SallyportError && error.code === 'NETWORK_UNREACHABLE';
}
