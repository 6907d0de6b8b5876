/**
 * The addresses other than the relay's from which QUIC packets are taken: those of peers that a PUNCH has proved, or on which a
 * link lives. Everything else is dropped before the QUIC endpoint sees it.
 *
 *   verified PUNCH ──► open for 10 s ──┬── hold (handshake, link) ──► open until released, and 10 s more
 *                                      └── nothing ──► closed
 *
 * A new connection is one whose first packet shows a source connection id that has not been seen here (RFC 9000 §17.2): repeats of an
 * Initial keep theirs.
 */
import { ADDRESS_WORDS, type SocketAddress, sameWords } from '../base/address.js';
import { type Duration, elapsed, type Instant, later, Seconds } from '../base/time.js';
import { U64Map } from '../base/u64map.js';
import { wordAt } from '../tunnel/frames.js';

/** Protocol.md §4. */
const OPEN_TIME: Duration = Seconds(10);
/** New connections from one address in that time. */
const MAX_NEW = 3;
/** Addresses at once: a session proves a few. */
const MAX_ENTRIES = 16_384;
const SWEEP_INTERVAL: Duration = Seconds(5);
/** Longest connection id (RFC 9000 §17.2). */
const MAX_CID = 20;

interface Entry {
  readonly words: Uint32Array;
  until: Instant;
  /** The socket it was last proved on; 0: the one of its family. */
  socket: number;
  /** Handshakes and links that live on it. */
  holds: number;
  /** Hashes of the source connection ids of new connections, and when they came. */
  readonly seen: Uint32Array;
  readonly seenAt: Float64Array;
  /** Another address with the same hash. */
  next: Entry | undefined;
}

export class DirectTable {
  readonly #entries: U64Map<Entry>;
  readonly #all = new Set<Entry>();
  #last: Entry | undefined;
  #nextSweep: Instant = 0 as Instant;

  /** @param seed random: peers choose their addresses. */
  constructor(seed: number) {
    this.#entries = new U64Map<Entry>(seed);
  }

  get size(): number {
    return this.#all.size;
  }

  /** A PUNCH from this address was verified. False: the table is full. */
  open(now: Instant, sources: Uint32Array, index: number, socket = 0): boolean {
    if (now >= this.#nextSweep) this.#sweep(now);
    const entry = this.#find(sources, index) ?? this.#add(sources, index);
    if (entry === undefined) return false;
    entry.until = later(now, OPEN_TIME);
    if (entry.holds === 0) entry.socket = socket;
    return true;
  }

  /** A handshake or link on this address begins, and ends with `release`. */
  hold(now: Instant, address: SocketAddress, socket?: number): void {
    const words = packed(address);
    this.open(now, words, 0, socket ?? this.socketOf(words, 0));
    const entry = this.#find(words, 0);
    if (entry !== undefined) entry.holds++;
  }

  /** A handshake of our own with this address begins: its answers are nobody's new connection, however many came before. */
  expectAnswer(address: SocketAddress): void {
    this.#find(packed(address), 0)?.seenAt.fill(Number.NEGATIVE_INFINITY);
  }

  release(now: Instant, address: SocketAddress): void {
    const entry = this.#find(packed(address), 0);
    if (entry === undefined || entry.holds === 0) return;
    entry.holds--;
    entry.until = later(now, OPEN_TIME);
  }

  /** The socket that packets to the packed address at `index` leave by. */
  socketOf(addresses: Uint32Array, index: number): number {
    const last = this.#last;
    const entry =
      last !== undefined && sameWords(addresses, index, last.words, 0) ? last : this.#find(addresses, index);
    return entry?.socket ?? 0;
  }

  /** Whether an open address belongs to this socket. */
  needs(now: Instant, socket: number): boolean {
    for (const entry of this.#all) {
      if (entry.socket === socket && (entry.holds > 0 || entry.until > now)) return true;
    }
    return false;
  }

  /** Whether packets from the packed address at `index` are taken. */
  isOpen(now: Instant, sources: Uint32Array, index: number): boolean {
    const last = this.#last;
    const entry = last !== undefined && sameWords(sources, index, last.words, 0) ? last : this.#find(sources, index);
    if (entry === undefined || (entry.holds === 0 && entry.until <= now)) return false;
    this.#last = entry;
    return true;
  }

  /** Whether the packet with a long header at `offset`, from an open address, is one of few new connections. */
  admits(
    now: Instant,
    sources: Uint32Array,
    index: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean {
    const entry = this.#find(sources, index);
    const hash = entry === undefined ? 0 : sourceIdHash(bytes, offset, length);
    if (entry === undefined || hash === 0) return false;
    let oldest = 0;
    for (let i = 0; i < MAX_NEW; i++) {
      if (entry.seen[i] === hash) return true;
      if (entry.seenAt[i]! < entry.seenAt[oldest]!) oldest = i;
    }
    if (elapsed(entry.seenAt[oldest]! as Instant, now) < OPEN_TIME) return false;
    entry.seen[oldest] = hash;
    entry.seenAt[oldest] = now;
    return true;
  }

  #find(sources: Uint32Array, index: number): Entry | undefined {
    let entry = this.#entries.get(high(sources, index), low(sources, index));
    while (entry !== undefined && !sameWords(sources, index, entry.words, 0)) entry = entry.next;
    return entry;
  }

  #add(sources: Uint32Array, index: number): Entry | undefined {
    if (this.#all.size >= MAX_ENTRIES) return undefined;
    const at = index * ADDRESS_WORDS;
    const entry: Entry = {
      words: sources.slice(at, at + ADDRESS_WORDS),
      until: 0 as Instant,
      socket: 0,
      holds: 0,
      seen: new Uint32Array(MAX_NEW),
      seenAt: new Float64Array(MAX_NEW).fill(Number.NEGATIVE_INFINITY),
      next: this.#entries.get(high(sources, index), low(sources, index)),
    };
    this.#all.add(entry);
    this.#entries.set(high(sources, index), low(sources, index), entry);
    return entry;
  }

  #sweep(now: Instant): void {
    this.#nextSweep = later(now, SWEEP_INTERVAL);
    for (const entry of this.#all) if (entry.holds === 0 && entry.until <= now) this.#remove(entry);
  }

  #remove(entry: Entry): void {
    this.#all.delete(entry);
    if (this.#last === entry) this.#last = undefined;
    const [hi, lo] = [high(entry.words, 0), low(entry.words, 0)];
    let before = this.#entries.get(hi, lo);
    if (before === entry) {
      if (entry.next === undefined) this.#entries.delete(hi, lo);
      else this.#entries.set(hi, lo, entry.next);
      return;
    }
    while (before !== undefined && before.next !== entry) before = before.next;
    if (before !== undefined) before.next = entry.next;
  }
}

function packed(address: SocketAddress): Uint32Array {
  const words = new Uint32Array(ADDRESS_WORDS);
  address.write(words, 0);
  return words;
}

/** Two words that tell IPv4 addresses apart, and IPv6 addresses mostly. */
function high(words: Uint32Array, index: number): number {
  const at = index * ADDRESS_WORDS;
  return (words[at]! ^ Math.imul(words[at + 1]!, 0x9e3779b1) ^ words[at + 3]!) >>> 0;
}

function low(words: Uint32Array, index: number): number {
  const at = index * ADDRESS_WORDS;
  return (Math.imul(words[at + 2]!, 0x85ebca6b) ^ words[at + 4]!) >>> 0;
}

/** A hash, not 0, of the source connection id behind a long header (RFC 9000 §17.2); 0 when there is none. */
function sourceIdHash(bytes: Uint8Array, offset: number, length: number): number {
  const end = offset + length;
  const destination = offset + 6 > end ? MAX_CID + 1 : bytes[offset + 5]!;
  const at = offset + 6 + destination;
  if (destination > MAX_CID || at >= end) return 0;
  const size = bytes[at]!;
  if (size > MAX_CID || at + 1 + size > end) return 0;
  let hash = 0x811c9dc5 ^ wordAt(bytes, offset + 1);
  for (let i = 0; i <= size; i++) hash = Math.imul(hash ^ bytes[at + i]!, 0x01000193);
  return hash >>> 0 || 1;
}
