/**
 * The queue of a node for the time in which its sockets take nothing: what would have gone into links waits here, shared fairly
 * between the inner flows of all sessions (FQ-CoDel), and leaves in that order once there is room.
 *
 *   put: what would have been a DATAGRAM's payload, and its link ─► FQ-CoDel ─► drain: into that link
 *
 * Flows are told apart by the addresses and ports of the packet, also of one behind the header of a copy; a packet's fragments, which come
 * one after another, stay in its flow, so that order is kept within one. A link that has died meanwhile takes its packets with it.
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import { EMPTY, FqCodel, flowHash } from '../tunnel/fq-codel.js';
import { FRAGMENT_HEADER, fragmentId, isFirstFragment } from '../tunnel/fragments.js';
import { COPY_HEADER, LinkFrame } from '../tunnel/links/frames.js';
import { type Arena, align, copyBytes } from '../wire/arena.js';
import { readU16 } from '../wire/bytes.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { IPV6_HEADER } from '../wire/ip.js';
import type { Link } from './link.js';

/** Bytes of a slot: no DATAGRAM of a link is larger, as its packets are at most 1,452 bytes. */
const QUEUE_MTU = 1440;
/** 2 MB of packets: 17 ms at 1 Gbit/s, and a second's worth at 16 Mbit/s, far more than what CoDel lets stand. */
export const QUEUE_SLOTS = 1456;

/** No fragment has this id. */
const NO_ID = -1;

/** Where packets are put on their way. */
export interface SendQueueExit {
  readonly memory: { readonly spare: Arena };
  readonly table: Uint32Array;
  /** The first `count` entries of the table go into `link`, now. */
  write(now: Instant, link: Link, count: number): void;
}

export class SendQueue {
  readonly #exit: SendQueueExit;
  readonly #drops: Counters<DropName>;
  readonly #seed: number;
  readonly #packet = new ParsedPacket();
  /** The packet whose fragments are coming, and its flow. */
  #cutId = NO_ID;
  #cutFlow = 0;
  /** Made when first needed: 2 MB. */
  #queue: FqCodel | undefined;
  /** By number of connection, which is a packet's tag; those that have packets here. */
  readonly #links = new Map<number, Link>();

  /** @param seed unknown to whoever sends packets. */
  constructor(exit: SendQueueExit, drops: Counters<DropName>, seed: number) {
    this.#exit = exit;
    this.#drops = drops;
    this.#seed = seed;
  }

  /** Packets that wait. */
  get size(): number {
    return this.#queue === undefined ? 0 : this.#queue.size;
  }

  /** For `status`: what is in it now, how long the packet waited that left last, and what has been counted. */
  counters(): Record<string, number> {
    const queue = this.#queue;
    if (queue === undefined) return {};
    const { size, backlog, lastDelay } = queue;
    const counted = Object.entries(queue.counters.snapshot()).map(([name, value]) => [`queue.${name}`, value]);
    const now = { 'queue.packets': size, 'queue.bytes': backlog, 'queue.delayMicroseconds': lastDelay };
    return { ...now, ...Object.fromEntries(counted) };
  }

  /** Takes in the first `count` entries of `table`, which are for `link`. */
  put(now: Instant, link: Link, arena: Arena, table: Uint32Array, count: number): void {
    this.#queue ??= new FqCodel({ slots: QUEUE_SLOTS, mtu: QUEUE_MTU, drops: this.#drops });
    const tag = link.connection.id;
    this.#links.set(tag, link);
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      const length = table[i * 2 + 1]!;
      const drop = this.#queue.enqueue(now, arena, offset, length, this.#hash(arena, offset, length, tag), tag);
      if (drop !== Drop.none) this.#drops.values[drop]!++;
    }
  }

  /** Lets packets go until `bytes` bytes have gone (at least one packet) or none waits. */
  drain(now: Instant, bytes: number): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    const { table } = this.#exit;
    const arena = this.#exit.memory.spare;
    let link: Link | undefined;
    let count = 0;
    let offset = 0;
    for (let gone = 0; gone < bytes; ) {
      const slot = queue.dequeue(now);
      if (slot === EMPTY) break;
      const length = queue.lengths[slot]!;
      const next = this.#links.get(queue.tags[slot]!);
      if (next?.isLive !== true) this.#drops.values[Drop.no_link]!++;
      else {
        if ((link !== undefined && link !== next) || offset + length > arena.size || count * 2 === table.length) {
          this.#exit.write(now, link!, count);
          count = 0;
          offset = 0;
        }
        link = next;
        copyBytes(queue.arena, queue.offsetOf(slot), arena, offset, length);
        table[count * 2] = offset;
        table[count * 2 + 1] = length;
        offset += align(length);
        gone += length;
        count++;
      }
      queue.release(slot);
    }
    if (count > 0) this.#exit.write(now, link!, count);
    if (queue.size === 0) this.#links.clear();
  }

  #hash(arena: Arena, offset: number, length: number, tag: number): number {
    const { bytes } = arena;
    const start = bytes[offset]! >>> 4 === LinkFrame.copy >>> 4 ? offset + COPY_HEADER : offset;
    const end = offset + length;
    if (bytes[start]! >>> 4 !== 0) return this.#flowOf(bytes, start, end - start, tag);
    const id = fragmentId(bytes, start);
    if (isFirstFragment(bytes, start)) {
      const packet = start + FRAGMENT_HEADER;
      this.#cutId = id;
      this.#cutFlow = this.#flowOf(bytes, packet, ipLength(bytes, packet), tag);
    }
    return id === this.#cutId ? this.#cutFlow : tag ^ this.#seed;
  }

  #flowOf(bytes: Uint8Array, offset: number, length: number, tag: number): number {
    if (parsePacket(bytes, offset, length, this.#packet) !== Drop.none) return tag ^ this.#seed;
    return flowHash(this.#packet, this.#seed);
  }
}

/** What the IP header at `offset` says of its packet's length, of which only the beginning may be there. */
function ipLength(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! >>> 4 === 6 ? IPV6_HEADER + readU16(bytes, offset + 4) : readU16(bytes, offset + 2);
}
