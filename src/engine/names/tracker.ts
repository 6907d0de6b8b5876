/**
 * Which name an address or a flow goes by. One tracker for all sources:
 *
 *   DNS answers seen, our resolver, the host's hook, fake addresses ──record──► address → names with expiry
 *   ClientHello over TCP or QUIC ─────────────────────────────────────────────► the flow's own name
 *
 * A flow's name, best first: the one in its ClientHello; else the one its address was answered for last when the flow began
 * (and how many others share the address); else none. With an encrypted ClientHello the name in it counts only if the address
 * was answered for it too; otherwise it is the outer name, and an answered name comes before it.
 * A flow keeps its name, so names that come to the address later do not touch it.
 */
import type { IpAddress } from '../../base/address.js';
import type { Crypto } from '../../base/crypto.js';
import { type Duration, elapsed, Hours, type Instant, later, Minutes, Seconds } from '../../base/time.js';
import { type ClientHello, ClientHelloReader } from './client-hello.js';
import { hostName } from './host-name.js';
import { looksLikeInitial, QuicInitialReader } from './quic-initial.js';

export const NAME_SOURCES = ['dns', 'resolver', 'hook', 'fake-ip', 'tls', 'quic'] as const;
export type NameSource = (typeof NAME_SOURCES)[number];

export interface KnownName {
  /** In the form of `hostName`. */
  readonly host: string;
  readonly source: NameSource;
  /** Other names that the address is known by. */
  readonly others: number;
  /** The name in front of an encrypted ClientHello, not the name that is reached. */
  readonly outer: boolean;
}

/** Addresses with names at once; the one that was named longest ago goes first. */
const ADDRESSES_MAX = 8192;
/** Names kept for one address: more say nothing about a flow to it. */
const NAMES_PER_ADDRESS = 8;
/** Bounds of a record's time to live, and what holds when there is none. */
const TTL_MIN = Seconds(1);
const TTL_MAX = Hours(24);
const TTL_DEFAULT = Minutes(10);
/** How long a flow's first bytes are looked at. */
const WATCH_TIME = Seconds(5);

interface Entry {
  readonly host: string;
  readonly source: NameSource;
  readonly expires: Instant;
}

export interface TrackerOptions {
  readonly crypto: Crypto;
  /** Default 8192. */
  readonly addresses?: number;
}

export class NameTracker {
  readonly #crypto: Crypto;
  readonly #limit: number;
  /** Oldest record first; the names of an address newest last. */
  readonly #addresses = new Map<string, Entry[]>();
  /** Records that made room for others before their time. */
  evicted = 0;

  constructor(options: TrackerOptions) {
    this.#crypto = options.crypto;
    this.#limit = options.addresses ?? ADDRESSES_MAX;
  }

  /** Addresses with names, some perhaps expired. */
  get size(): number {
    return this.#addresses.size;
  }

  /**
   * `host` was answered with these addresses. A record of the same name and address is replaced, whatever its source.
   * @param ttl kept between 1 s and 24 h; 10 min when absent
   * @returns false when `host` is no name.
   */
  record(
    now: Instant,
    host: string,
    addresses: readonly IpAddress[],
    ttl: Duration | undefined,
    source: NameSource,
  ): boolean {
    const name = hostName(host);
    if (name === undefined) return false;
    const span = Math.min(Math.max(ttl ?? TTL_DEFAULT, TTL_MIN), TTL_MAX) as Duration;
    const entry: Entry = { host: name, source, expires: later(now, span) };
    for (const address of addresses) {
      const key = address.toString();
      // A fake address stands for one name; whose it was before does not matter.
      const known = source === 'fake-ip' ? [] : (this.#addresses.get(key) ?? []);
      const entries = known.filter((old) => old.host !== name && old.expires > now);
      if (entries.length >= NAMES_PER_ADDRESS) entries.shift();
      entries.push(entry);
      this.#addresses.delete(key);
      this.#addresses.set(key, entries);
    }
    while (this.#addresses.size > this.#limit) {
      this.#addresses.delete(this.#addresses.keys().next().value!);
      this.evicted++;
    }
    return true;
  }

  /** The name an address was answered for last. */
  nameOf(now: Instant, address: IpAddress): KnownName | undefined {
    const live = this.#live(now, address);
    const last = live[live.length - 1];
    return last && { host: last.host, source: last.source, others: live.length - 1, outer: false };
  }

  /** Whether the address is known by `host`. */
  isKnownAs(now: Instant, address: IpAddress, host: string): boolean {
    return this.#live(now, address).some((entry) => entry.host === host);
  }

  /** A flow to `address` begins. */
  follow(now: Instant, address: IpAddress): FlowName {
    return new FlowName(this, this.#crypto, now, address);
  }

  /** Forgets what has expired. */
  expire(now: Instant): void {
    for (const [key, entries] of this.#addresses) {
      if (entries.every((entry) => entry.expires <= now)) this.#addresses.delete(key);
    }
  }

  #live(now: Instant, address: IpAddress): Entry[] {
    return this.#addresses.get(address.toString())?.filter((entry) => entry.expires > now) ?? [];
  }
}

/** The name of one flow; give it what the client sends first while `isWatching`. */
export class FlowName {
  name: KnownName | undefined;
  /** What the client said in the clear, once it is known. */
  hello: ClientHello | undefined;
  /** Of a flow whose ClientHello came over QUIC. */
  quicVersion: number | undefined;
  readonly #tracker: NameTracker;
  readonly #crypto: Crypto;
  /** When the client began to say something. */
  #began: Instant;
  readonly #address: IpAddress;
  #reader: ClientHelloReader | QuicInitialReader | undefined;
  #isWatching = true;
  #isQuic = false;

  constructor(tracker: NameTracker, crypto: Crypto, now: Instant, address: IpAddress) {
    this.#tracker = tracker;
    this.#crypto = crypto;
    this.#began = now;
    this.#address = address;
    this.name = tracker.nameOf(now, address);
  }

  /** It has begun as QUIC does. */
  get isQuic(): boolean {
    return this.#isQuic;
  }

  /** False once there is nothing more to learn: then `onStream` and `onDatagram` need not be called. */
  get isWatching(): boolean {
    return this.#isWatching;
  }

  /** Bytes kept of the flow. */
  get held(): number {
    return this.#reader?.held ?? 0;
  }

  /** The next bytes of the client's TCP stream. True when the name has changed. */
  onStream(now: Instant, bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.#isWatching || length === 0) return false;
    if (this.#reader === undefined) {
      this.#reader = new ClientHelloReader();
      this.#began = now;
    }
    return this.#feed(now, bytes, offset, length, 'tls');
  }

  /** The next datagram of the client. True when the name has changed. */
  onDatagram(now: Instant, bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.#isWatching) return false;
    if (this.#reader === undefined) {
      if (!looksLikeInitial(bytes, offset, length)) return this.#stop();
      this.#reader = new QuicInitialReader(this.#crypto);
      this.#isQuic = true;
    }
    return this.#feed(now, bytes, offset, length, 'quic');
  }

  /** For logs: `example.com`, `example.com (+2)`, `outer.example (outer)`; empty when there is none. */
  toString(): string {
    if (this.name === undefined) return '';
    const { host, others, outer } = this.name;
    return outer ? `${host} (outer)` : others > 0 ? `${host} (+${others})` : host;
  }

  #feed(now: Instant, bytes: Uint8Array, offset: number, length: number, source: 'tls' | 'quic'): boolean {
    const reader = this.#reader!;
    const progress = reader.feed(bytes, offset, length);
    if (progress === 'more') return elapsed(this.#began, now) > WATCH_TIME ? this.#stop() : false;
    this.hello = reader.hello;
    if (reader instanceof QuicInitialReader) this.quicVersion = reader.version;
    this.#stop();
    const host = this.hello?.serverName;
    if (host === undefined) return false;
    const outer = this.hello!.encrypted && !this.#tracker.isKnownAs(now, this.#address, host);
    if (outer && this.name !== undefined) return false;
    const before = this.name?.host;
    this.name = { host, source, others: 0, outer };
    return before !== host;
  }

  #stop(): false {
    this.#isWatching = false;
    this.#reader = undefined;
    return false;
  }
}
