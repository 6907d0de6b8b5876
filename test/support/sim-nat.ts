/**
 * A NAT in virtual time, by the two independent properties of RFC 4787: which mapping a packet out gets, and which packets in
 * pass it.
 *
 *   inside 192.168.N.0/24 ── mapping: one per socket │ per socket and peer address │ per socket, peer address and port
 *                         ── filtering: anybody │ addresses sent to │ addresses and ports sent to
 */
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, elapsed, type Instant, Seconds } from '../../src/base/time.js';

export type NatBehaviour = 'independent' | 'address' | 'port';

export interface NatOptions {
  readonly mapping?: NatBehaviour;
  readonly filtering?: NatBehaviour;
  /** Packets from inside to a public address of the NAT itself come back in. */
  readonly hairpin?: boolean;
  /** Without a packet for this long a mapping is gone. */
  readonly lifetime?: Duration;
}

/** The familiar kinds, as games consoles call them. */
export const NAT_KINDS = {
  open: { mapping: 'independent', filtering: 'independent' },
  restricted: { mapping: 'independent', filtering: 'address' },
  moderate: { mapping: 'independent', filtering: 'port' },
  strict: { mapping: 'port', filtering: 'port' },
} as const satisfies Record<string, NatOptions>;

interface Mapping {
  readonly inside: SocketAddress;
  readonly outside: SocketAddress;
  /** Peers sent to, as the filter sees them. */
  readonly peers: Set<string>;
  used: Instant;
}

const FIRST_PORT = 20_000;
const PORTS = 40_000;

export class SimNat {
  readonly publicIp: IpAddress;
  readonly prefix: string;
  readonly #options: Required<NatOptions>;
  readonly #entropy: SeededEntropy;
  readonly #byKey = new Map<string, Mapping>();
  readonly #byOutside = new Map<string, Mapping>();
  readonly #subnet: number;
  #next = 2;

  /** @param number 1 … 250, different for every NAT of a world. */
  constructor(number: number, options: NatOptions = {}) {
    this.publicIp = IpAddress.parse(`203.0.113.${number}`)!;
    this.prefix = `192.168.${number}.0/24`;
    this.#subnet = number;
    this.#entropy = new SeededEntropy(number);
    this.#options = { mapping: 'independent', filtering: 'port', hairpin: false, lifetime: Seconds(120), ...options };
  }

  /** The address of the next host inside. */
  nextInside(): string {
    return `192.168.${this.#subnet}.${this.#next++}`;
  }

  isInside(ip: IpAddress): boolean {
    return ip.toString().startsWith(`192.168.${this.#subnet}.`);
  }

  get hairpins(): boolean {
    return this.#options.hairpin;
  }

  /** What a packet from inside has as its source outside. */
  outbound(now: Instant, from: SocketAddress, to: SocketAddress): SocketAddress {
    const key = `${from}>${seen(to, this.#options.mapping)}`;
    let mapping = this.#byKey.get(key);
    if (mapping === undefined || this.#isOver(now, mapping)) {
      const outside = new SocketAddress(this.publicIp, this.#freePort(from.port));
      mapping = { inside: from, outside, peers: new Set(), used: now };
      this.#byKey.set(key, mapping);
      this.#byOutside.set(outside.toString(), mapping);
    }
    mapping.used = now;
    mapping.peers.add(seen(to, this.#options.filtering));
    return mapping.outside;
  }

  /** Whom a packet from outside reaches inside. */
  inbound(now: Instant, from: SocketAddress, to: SocketAddress): SocketAddress | undefined {
    const mapping = this.#byOutside.get(to.toString());
    if (mapping === undefined || this.#isOver(now, mapping)) return undefined;
    return mapping.peers.has(seen(from, this.#options.filtering)) ? mapping.inside : undefined;
  }

  /** Every mapping is forgotten: the router has restarted. */
  restart(): void {
    this.#byKey.clear();
    this.#byOutside.clear();
  }

  #isOver(now: Instant, { used }: Mapping): boolean {
    return elapsed(used, now) > this.#options.lifetime;
  }

  /** A mapping that does not depend on the peer keeps the port when it is free; others are random. */
  #freePort(wanted: number): number {
    const isFree = (port: number): boolean => !this.#byOutside.has(new SocketAddress(this.publicIp, port).toString());
    let port = this.#options.mapping === 'independent' ? wanted : 0;
    while (port === 0 || !isFree(port)) port = FIRST_PORT + (this.#entropy.uint32() % PORTS);
    return port;
  }
}

function seen({ ip, port }: SocketAddress, behaviour: NatBehaviour): string {
  return behaviour === 'independent' ? '' : behaviour === 'address' ? `${ip}` : `${ip} ${port}`;
}
