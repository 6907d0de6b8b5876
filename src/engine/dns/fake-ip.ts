/**
 * Addresses that stand for names: a name is answered with one of ours, and a flow to that address is dialled by name.
 *
 *   host ◄──► n ◄──► first IPv4 of the range + n, first IPv6 + n          n = 16 … ; 0 – 15 are the engine's own
 *
 * A name keeps its address while the pool lasts; then the name that was asked for, or dialled, longest ago gives its own up.
 */
import { IpAddress, Prefix } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';

/** Private (RFC 1918), and no part of what a Sallyport network gives to services and agents. */
export const FAKE_RANGE_V4 = Prefix.parse('10.126.0.0/16')!;
/** A locally assigned prefix (RFC 4193), always the same, so that restarts keep what programs remember. */
export const FAKE_RANGE_V6 = Prefix.parse('fd53:616c:6c79:126::/64')!;

/** Where fake addresses may lie: never where a real or a documentation address could be. */
const ALLOWED = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(
  (text) => Prefix.parse(text)!,
);
/** At the beginning of the range, for the device and the resolver. */
const RESERVED = 16;
/** Names at once; each takes two map entries. */
const NAMES_MAX = 65_536;
/** Addresses a range has at least. */
const RANGE_MIN = 64;

/** @throws SallyportError FAKE_IP_RANGE, FAKE_IP_OVERLAP (caller). @param routes of the host, without its default routes */
export function checkFakeRange(range: Prefix, routes: readonly Prefix[]): void {
  const allowed = ALLOWED.filter((prefix) => prefix.ip.isV4 === range.ip.isV4);
  if (!allowed.some((prefix) => prefix.length <= range.length && prefix.contains(range.ip))) {
    throw invalid('FAKE_IP_RANGE', `${range} is not inside ${allowed.join(', ')}`);
  }
  if (sizeOf(range) < RANGE_MIN) throw invalid('FAKE_IP_RANGE', `${range} has fewer than ${RANGE_MIN} addresses`);
  const taken = routes.find((route) => route.length > 0 && route.overlaps(range));
  if (taken !== undefined) throw invalid('FAKE_IP_OVERLAP', `${range} overlaps the local route ${taken}`);
}

interface FakeName {
  readonly host: string;
  readonly index: number;
}

export class FakeIpPool {
  readonly v4: Prefix;
  readonly v6: Prefix;
  readonly #capacity: number;
  /** Used longest ago first. */
  readonly #byHost = new Map<string, FakeName>();
  readonly #byIndex = new Map<number, FakeName>();
  #fresh = RESERVED;
  /** Names whose address another one got. */
  recycled = 0;

  /** Ranges that `checkFakeRange` accepts. */
  constructor(v4: Prefix = FAKE_RANGE_V4, v6: Prefix = FAKE_RANGE_V6, names = NAMES_MAX) {
    this.v4 = v4;
    this.v6 = v6;
    // The last address of an IPv4 range may be taken for a broadcast.
    this.#capacity = Math.min(names, sizeOf(v4) - RESERVED - 1, sizeOf(v6) - RESERVED);
  }

  get size(): number {
    return this.#byHost.size;
  }

  /** The address of a host in the form of `hostName`. */
  addressOf(host: string, family: 4 | 6): IpAddress {
    const entry = this.#byHost.get(host) ?? this.#add(host);
    this.#byHost.delete(host);
    this.#byHost.set(host, entry);
    return family === 4 ? addressAt(this.v4, entry.index) : addressAt(this.v6, entry.index);
  }

  /** Whether the address lies in one of the ranges: if no name has it, there is nowhere to go. */
  isFake(ip: IpAddress): boolean {
    return this.v4.contains(ip) || this.v6.contains(ip);
  }

  /** The host whose address it is now; a name that is asked about so is in use. */
  hostOf(ip: IpAddress): string | undefined {
    const entry = this.#entryOf(ip);
    if (entry === undefined) return undefined;
    this.#byHost.delete(entry.host);
    this.#byHost.set(entry.host, entry);
    return entry.host;
  }

  #entryOf(ip: IpAddress): FakeName | undefined {
    if (!this.isFake(ip)) return undefined;
    const base = ip.isV4 ? this.v4.ip : this.v6.ip;
    return this.#byIndex.get((ip.w3 - base.w3) >>> 0);
  }

  #add(host: string): FakeName {
    let index = this.#fresh;
    if (index < RESERVED + this.#capacity) this.#fresh++;
    else {
      const [oldest] = this.#byHost.values();
      this.#byHost.delete(oldest!.host);
      this.recycled++;
      index = oldest!.index;
    }
    const entry = { host, index };
    this.#byIndex.set(index, entry);
    return entry;
  }
}

function addressAt(range: Prefix, index: number): IpAddress {
  const { w0, w1, w2, w3 } = range.ip;
  return new IpAddress(w0, w1, w2, w3 + index);
}

function sizeOf(range: Prefix): number {
  return 2 ** (128 - range.bits);
}

function invalid(code: string, why: string): SallyportError {
  return new SallyportError('caller', code, `the range of fake addresses cannot be used: ${why}`);
}
