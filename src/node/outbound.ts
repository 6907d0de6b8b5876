/**
 * The way of IP packets into a link: whoever makes packets writes them into the outbound arena of the links' endpoint, one
 * after another, and they cross to the native side in one call per batch.
 *
 *   arena   │packet│packet│packet│…        table  [offset, length] per packet
 *            └───────── one link ────────┘  another link, or a full arena: what is there goes first
 *
 * A packet that does not fit one DATAGRAM of its link goes as fragments while the rules of `mayFragment` allow it; otherwise it
 * is dropped and its sender is told the size that fits (RFC 1191, RFC 8201).
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import type { Fragmenter } from '../tunnel/fragments.js';
import { type Arena, align } from '../wire/arena.js';
import type { Link } from './link.js';

/** Packets of at most this size may always be fragmented: IPv6 asks every path for it (RFC 8200 §5). */
export const ALWAYS_CARRIED = 1280;

export interface OutboundOwner {
  /** A packet larger than its link carries was dropped; its sender is to be told. */
  onTooBig(now: Instant, packet: Arena, offset: number, length: number, mtu: number): void;
}

export class Outbound {
  readonly arena: Arena;
  readonly table: Uint32Array;
  /** Where the next packet may be written, and how many there are. */
  offset = 0;
  count = 0;
  #link: Link | undefined;
  readonly #drops: Counters<DropName>;
  readonly #owner: OutboundOwner;
  readonly #scratch: Uint8Array;
  readonly #scratchTable = new Uint32Array(64);

  constructor(endpoint: QuicEndpoint, drops: Counters<DropName>, owner: OutboundOwner) {
    this.arena = endpoint.outbound.arena;
    this.table = endpoint.outbound.table;
    this.#drops = drops;
    this.#owner = owner;
    this.#scratch = new Uint8Array(65_536);
  }

  /**
   * Makes sure that `packets` packets of `bytes` bytes in total (alignment included) can be written for `link` at `offset`,
   * sending what is there first if need be. False when they can never fit.
   */
  begin(now: Instant, link: Link, packets: number, bytes: number): boolean {
    if (bytes > this.arena.size || packets * 2 > this.table.length) return false;
    const full = this.offset + bytes > this.arena.size || (this.count + packets) * 2 > this.table.length;
    if (this.#link !== link || full) this.flush(now);
    this.#link = link;
    return true;
  }

  /** `packets` entries were written to the table from `count` on; the last ends the used part of the arena. */
  commit(packets: number): void {
    this.count += packets;
    const last = (this.count - 1) * 2;
    if (packets > 0) this.offset = align(this.table[last]! + this.table[last + 1]!);
  }

  /** Copies one complete packet in. */
  add(now: Instant, link: Link, bytes: Uint8Array, offset: number, length: number): void {
    if (!this.begin(now, link, 1, align(length))) {
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
    this.offset = 0;
    this.count = 0;
    if (link === undefined || count === 0) return;
    const most = link.maxDatagram;
    for (let i = 0; i < count; i++) {
      if (this.table[i * 2 + 1]! > most) {
        this.#flushMixed(now, link, count, most);
        return;
      }
    }
    this.#write(now, link, count);
  }

  #write(now: Instant, link: Link, count: number): void {
    const sent = link.connection.writeDatagrams(now, count);
    if (sent < count) this.#drops.values[Drop.link_blocked]! += count - sent;
    link.sent(now, sent);
  }

  /** The slow way: some packets do not fit. Compacts the table to those that do, then sends the fragments of the others. */
  #flushMixed(now: Instant, link: Link, count: number, most: number): void {
    const { table } = this;
    const fragments: Uint8Array[] = [];
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      const length = table[i * 2 + 1]!;
      if (length <= most) {
        table[kept * 2] = offset;
        table[kept * 2 + 1] = length;
        kept++;
        continue;
      }
      if (!link.mayFragment(now, length)) {
        this.#drops.values[Drop.too_big]!++;
        this.#owner.onTooBig(now, this.arena, offset, length, Math.max(ALWAYS_CARRIED, most));
        continue;
      }
      this.#cut(link.fragmenter, offset, length, most, fragments);
    }
    if (kept > 0) this.#write(now, link, kept);
    for (const fragment of fragments) {
      this.arena.bytes.set(fragment, 0);
      table[0] = 0;
      table[1] = fragment.length;
      this.#write(now, link, 1);
    }
  }

  #cut(fragmenter: Fragmenter, offset: number, length: number, most: number, into: Uint8Array[]): void {
    const table = this.#scratchTable;
    const parts = fragmenter.cut(this.arena.bytes, offset, length, most, this.#scratch, 0, table, 0);
    if (parts < 0) {
      this.#drops.values[-parts]!++;
      return;
    }
    for (let i = 0; i < parts; i++) {
      into.push(this.#scratch.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!));
    }
  }
}
