/**
 * The way of IP packets into a link: whoever makes packets writes them into the outbound arena of the links' endpoint, one
 * after another, and they cross to the native side in one call per batch, which is lent them (`OutboundMemory`).
 *
 *   arena   │packet│packet│packet│…        table  [offset, length] per packet
 *            └───────── one link ────────┘  another link, or a full arena: what is there goes first
 *
 * A packet that does not fit one DATAGRAM of its link goes as fragments while the rules of `mayFragment` allow it; otherwise it
 * is dropped. Its sender is told the size that fits (RFC 1191, RFC 8201) once that is known. While the link is suspect, packets go
 * out as copies on a second one too. Packets leave in the order in which they came, whatever becomes of each (`Staging`).
 *
 * While the sockets take nothing, or a relay is reached over TCP, what would go into links waits in a `SendQueue` instead, so that QUIC's own buffer never becomes
 * a queue; `drain` lets it go.
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { COPY_HEADER } from '../tunnel/links/frames.js';
import { Arena, align } from '../wire/arena.js';
import { closeChecksum, isOpen } from '../wire/open-checksum.js';
import type { Link } from './link.js';
import { OutboundMemory } from './outbound-memory.js';
import { SendQueue } from './send-queue.js';
import { Staging } from './staging.js';

/** Packets of at most this size may always be fragmented: IPv6 asks every path for it (RFC 8200 §5). */
export const ALWAYS_CARRIED = 1280;

export interface OutboundOwner {
  /** A packet larger than its link carries was dropped; its sender is to be told. */
  onTooBig(now: Instant, packet: Arena, offset: number, length: number, mtu: number): void;
}

/** The sockets below. */
export interface OutboundGate {
  /** They take nothing at present. */
  readonly isBlocked: boolean;
  /** What goes into links goes through the queue even while they take something. */
  readonly isMetered: boolean;
  /** Bytes that may go into links at once while packets wait: small beside what the sockets hold. */
  readonly batchBytes: number;
  /** Sends what the links have to send. */
  flushLinks(now: Instant, isPatient: boolean): void;
}

export class Outbound {
  /** What waits for the sockets. */
  readonly queue: SendQueue;
  readonly table: Uint32Array;
  /** Packets that have been written. */
  count = 0;
  #link: Link | undefined;
  #isHeld = false;
  readonly #drops: Counters<DropName>;
  readonly #owner: OutboundOwner;
  readonly #endpoint: QuicEndpoint;
  readonly #scratch = new Arena(65_536);
  readonly #scratchTable = new Uint32Array(64);
  readonly #gate: OutboundGate;
  #staging: Staging | undefined;
  /** Places of the packets that are being staged. */
  readonly #packets: Uint32Array;
  readonly #memory: OutboundMemory;
  /** The turn that `#flushLinks` is called in. */
  #now: Instant = 0 as Instant;
  readonly #flushLinks = (): void => this.#gate.flushLinks(this.#now, true);

  /** @param seed unknown to whoever sends packets. */
  constructor(
    endpoint: QuicEndpoint,
    gate: OutboundGate,
    drops: Counters<DropName>,
    seed: number,
    owner: OutboundOwner,
  ) {
    const memory = new OutboundMemory(endpoint);
    this.#memory = memory;
    this.table = endpoint.outbound.table;
    this.#packets = new Uint32Array(this.table.length);
    this.#gate = gate;
    this.#drops = drops;
    this.#owner = owner;
    const write = (now: Instant, link: Link, count: number): void => {
      this.#taken(now, link, count, memory.feedSpare(now, link, count));
    };
    this.queue = new SendQueue({ memory, table: this.table, write }, drops, seed);
    this.#endpoint = endpoint;
  }

  get arena(): Arena {
    return this.#memory.arena;
  }

  /** Where the next packet may be written. */
  get offset(): number {
    return this.#memory.offset;
  }

  /**
   * Makes sure that `packets` packets of `bytes` bytes in total (alignment included) can be written for `link` at `offset`,
   * sending what is there first if need be. False when they can never fit.
   * @param isHeld whether these packets are held to links of this one's kind: no copies of them go out on others.
   */
  begin(now: Instant, link: Link, packets: number, bytes: number, isHeld: boolean): boolean {
    const memory = this.#memory;
    if (bytes > memory.arena.size || packets * 2 > this.table.length) return false;
    const full = memory.offset + bytes > memory.arena.size || (this.count + packets) * 2 > this.table.length;
    if (this.#link !== link || this.#isHeld !== isHeld || full) this.flush(now);
    if (this.count === 0 && memory.offset > 0) {
      this.#now = now;
      memory.reserve(bytes, this.#flushLinks);
    }
    this.#link = link;
    this.#isHeld = isHeld;
    return true;
  }

  /** `packets` entries were written to the table from `count` on; the last ends the used part of the arena. */
  commit(packets: number): void {
    this.count += packets;
    const last = (this.count - 1) * 2;
    if (packets > 0) this.#memory.offset = align(this.table[last]! + this.table[last + 1]!);
  }

  /** Copies one complete packet in. @param isHeld as for `begin`. */
  add(now: Instant, link: Link, bytes: Uint8Array, offset: number, length: number, isHeld: boolean): void {
    if (!this.begin(now, link, 1, align(length), isHeld)) {
      this.#drops.values[Drop.no_room]!++;
      return;
    }
    this.arena.bytes.set(bytes.subarray(offset, offset + length), this.offset);
    this.table[this.count * 2] = this.offset;
    this.table[this.count * 2 + 1] = length;
    this.commit(1);
  }

  /** Hands what has been written to the link. */
  flush(now: Instant): void {
    const link = this.#link;
    const count = this.count;
    this.count = 0;
    if (link === undefined || count === 0) return;
    const second = link.set?.secondOf(now, link, this.#isHeld);
    const isWhole = second === undefined && this.#isWhole(link.maxDatagram, count);
    if (!isWhole || this.#mustWait()) this.#complete(count);
    if (!isWhole) this.#stage(now, link, second, count);
    else if (this.#mustWait()) this.queue.put(now, link, this.arena, this.table, count);
    else this.#taken(now, link, count, this.#memory.feed(now, link, count));
    this.#memory.done();
  }

  /** What is cut, copied or waits is complete: whoever looks into it finds a packet like any other. */
  #complete(count: number): void {
    const { arena, table } = this;
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      if (isOpen(arena.bytes, offset)) closeChecksum(arena, offset, table[i * 2 + 1]!);
    }
  }

  #mustWait(): boolean {
    return this.#gate.isBlocked || this.#gate.isMetered || this.queue.size > 0;
  }

  /** Whether every packet fits a DATAGRAM of this size. */
  #isWhole(most: number, count: number): boolean {
    for (let i = 0; i < count; i++) if (this.table[i * 2 + 1]! > most) return false;
    return true;
  }

  /** What waits goes into its links in the queue's order, as far as the sockets take it. After `flush`, at the end of a turn. */
  drain(now: Instant): void {
    while (this.queue.size > 0 && !this.#gate.isBlocked) {
      this.queue.drain(now, this.#gate.batchBytes);
      this.#gate.flushLinks(now, false);
    }
  }

  /** The first `count` entries of the table, which have been staged, go into the link, or wait. */
  #writeStagedTo(now: Instant, link: Link, count: number): void {
    const { arena, memory } = this.#staging!;
    if (this.#mustWait()) this.queue.put(now, link, arena, this.table, count);
    else this.#taken(now, link, count, link.connection.writeDatagrams(now, count, memory));
  }

  /** The link has taken `sent` of `count` packets. */
  #taken(now: Instant, link: Link, count: number, sent: number): void {
    if (sent < count) this.#drops.values[Drop.link_blocked]! += count - sent;
    link.sent(now, sent);
  }

  /** The slow way: some packets do not fit, or are to go out on two links. */
  #stage(now: Instant, link: Link, second: Link | undefined, count: number): void {
    this.#staging ??= new Staging(this.#endpoint);
    const packets = this.#packets;
    for (let i = 0; i < count * 2; i++) packets[i] = this.table[i]!;
    const most = link.maxDatagram;
    const mostCopied = second === undefined ? 0 : Math.min(most, second.maxDatagram) - COPY_HEADER;
    for (let i = 0; i < count; i++) {
      const offset = packets[i * 2]!;
      const length = packets[i * 2 + 1]!;
      if (second !== undefined && this.#copy(now, link, second, offset, length, mostCopied)) continue;
      this.#once(now, link, second, offset, length, most);
    }
    this.#writeStaged(now, link, second);
  }

  /** One packet that goes out on the link alone, whole or cut, or is dropped. */
  #once(now: Instant, link: Link, second: Link | undefined, offset: number, length: number, most: number): void {
    if (length <= most) {
      this.#put(now, link, second, this.arena, offset, length);
      return;
    }
    const isCut = link.mayFragment(now, length);
    if (!isCut) this.#drops.values[Drop.too_big]!++;
    if (length > ALWAYS_CARRIED && !link.isProving(now)) {
      this.#owner.onTooBig(now, this.arena, offset, length, Math.max(ALWAYS_CARRIED, most));
    }
    if (!isCut) return;
    const parts = this.#cut(link, offset, length, most);
    const table = this.#scratchTable;
    for (let i = 0; i < parts; i++) this.#put(now, link, second, this.#scratch, table[i * 2]!, table[i * 2 + 1]!);
  }

  /** One packet that goes out on both links. False: it has to go out once. */
  #copy(now: Instant, link: Link, second: Link, offset: number, length: number, most: number): boolean {
    const { manager } = link.set!;
    const isWhole = length <= most;
    if (!isWhole && !link.mayFragment(now, length)) return false;
    if (!manager.mayCopy(now, length)) return false;
    if (isWhole) {
      this.#putCopy(now, link, second, this.arena, offset, length);
      return true;
    }
    const parts = this.#cut(link, offset, length, most);
    const table = this.#scratchTable;
    for (let i = 0; i < parts; i++) this.#putCopy(now, link, second, this.#scratch, table[i * 2]!, table[i * 2 + 1]!);
    return true;
  }

  #put(now: Instant, link: Link, second: Link | undefined, source: Arena, offset: number, length: number): void {
    const staging = this.#staging!;
    if (staging.add(source, offset, length)) return;
    this.#writeStaged(now, link, second);
    staging.add(source, offset, length);
  }

  #putCopy(now: Instant, link: Link, second: Link, source: Arena, offset: number, length: number): void {
    const staging = this.#staging!;
    const set = link.set!;
    const seq = set.nextCopy();
    const isMirroring = set.manager.isMirroring(now);
    if (staging.addCopy(source, offset, length, seq, isMirroring)) return;
    this.#writeStaged(now, link, second);
    staging.addCopy(source, offset, length, seq, isMirroring);
  }

  #writeStaged(now: Instant, link: Link, second: Link | undefined): void {
    const staging = this.#staging!;
    const { count, copyCount } = staging;
    if (count > 0) {
      for (let i = 0; i < count * 2; i++) this.table[i] = staging.table[i]!;
      this.#writeStagedTo(now, link, count);
    }
    if (second !== undefined && copyCount > 0) {
      for (let i = 0; i < copyCount * 2; i++) this.table[i] = staging.copies[i]!;
      this.#writeStagedTo(now, second, copyCount);
    }
    staging.clear();
  }

  /** Puts the fragments of a packet of the arena into the scratch memory and its table; returns how many, 0 when it was dropped. */
  #cut(link: Link, offset: number, length: number, most: number): number {
    const table = this.#scratchTable;
    const parts = link.fragmenter.cut(this.arena.bytes, offset, length, most, this.#scratch.bytes, 0, table, 0);
    if (parts < 0) this.#drops.values[-parts]!++;
    return Math.max(0, parts);
  }
}
