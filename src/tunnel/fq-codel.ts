/**
 * FQ-CoDel: a bounded queue of packets that shares what leaves fairly between flows, lets sparse flows pass first, and keeps
 * the delay of the others near a target. For where something says "later": EAGAIN, a rate limit.
 *
 *   enqueue ─ hash of the flow ─► queue ─┐      first packet of an idle flow
 *                                        ├─► new flows ──┐ one quantum used, or empty
 *                                        │               ▼
 *                                        └─► old flows ──┴─► round robin by deficit ─► CoDel ─► dequeue
 *                                              empty: the flow is idle again
 *
 * Packets lie in slots of one arena, all made at construction; queues are lists of slot numbers. When no slot is free the flow
 * with most bytes loses packets from its head. RFC 8290 §4, §5.2; RFC 8289 (CoDel); RFC 3168 (marks instead of drops).
 *
 * Order of calls: `enqueue` at any time; `dequeue`, use the bytes of the slot, `release` it. A slot that could not be sent
 * may be kept and tried again.
 */
import { Counters } from '../base/counters.js';
import { Drop, type DropName, type DropReason } from '../base/drop.js';
import { type Duration, type Instant, instantAt, Millis } from '../base/time.js';
import { Arena, align, copyBytes } from '../wire/arena.js';
import { markCongestion } from '../wire/ecn.js';
import type { ParsedPacket } from '../wire/inner.js';
import { CoDel, SIGNAL } from './codel.js';

export interface FqCodelOptions {
  /** Packets held at most. */
  readonly slots: number;
  /** Largest packet in bytes; also CoDel's notion of "one packet". */
  readonly mtu: number;
  /** Queues that flows are hashed into. Default 1024 (RFC 8290 §5.2.1). */
  readonly queues?: number;
  /** Bytes a flow may send in one round. Default: the MTU (RFC 8290 §5.2.2). */
  readonly quantum?: number;
  /** Default 5 ms (RFC 8289 §4.4). */
  readonly target?: Duration;
  /** Default 100 ms (RFC 8289 §4.3). */
  readonly interval?: Duration;
  /** Default true: packets of senders that understand it are marked where others are dropped. */
  readonly ecn?: boolean;
  /** Where packets that were taken in and then dropped are counted too, by reason. */
  readonly drops?: Counters<DropName>;
}

export const FQ_CODEL_COUNTERS = [
  'enqueued',
  'dequeued',
  'dropped_too_big',
  'dropped_queue_full',
  'dropped_queue_delay',
  'ecn_marked',
  'new_flows',
] as const;
export type FqCodelCounter = (typeof FQ_CODEL_COUNTERS)[number];

/** RFC 8290 §5.2.1. */
const QUEUES = 1024;
/** RFC 8289 §4.4: 5 % of the interval. */
const TARGET = Millis(5);
/** RFC 8289 §4.3: covers round trips of 10 ms to 300 ms. */
const INTERVAL = Millis(100);
/** RFC 8290 §4.1: half of the fattest flow, at most this many, so that the search for it is paid by many packets. */
const OVERFLOW_BATCH = 64;
const NONE = -1;

const IDLE = 0;
const NEW = 1;
const OLD = 2;

/** `dequeue`: nothing waits. */
export const EMPTY = -1;

/** First-in first-out lists of numbers, each number in at most one list; `next` is shared by the lists of one kind. */
class Lists {
  readonly head: Int32Array;
  readonly #tail: Int32Array;
  readonly #next: Int32Array;

  constructor(lists: number, next: Int32Array) {
    this.head = new Int32Array(lists).fill(NONE);
    this.#tail = new Int32Array(lists).fill(NONE);
    this.#next = next;
  }

  push(list: number, entry: number): void {
    this.#next[entry] = NONE;
    if (this.head[list] === NONE) this.head[list] = entry;
    else this.#next[this.#tail[list]!] = entry;
    this.#tail[list] = entry;
  }

  /** Removes and returns the first entry of a list that is not empty. */
  shift(list: number): number {
    const entry = this.head[list]!;
    this.head[list] = this.#next[entry]!;
    return entry;
  }
}

export class FqCodel {
  readonly arena: Arena;
  readonly counters = new Counters<FqCodelCounter>(FQ_CODEL_COUNTERS);
  /** How long the packet waited that `dequeue` returned last, in microseconds. */
  lastDelay = 0;
  /** Whatever the caller gave with a packet, by slot. */
  readonly tags: Float64Array;
  /** Bytes of the packet in a slot. */
  readonly lengths: Int32Array;
  readonly #room: number;
  readonly #mtu: number;
  readonly #quantum: number;
  readonly #ecn: boolean;
  readonly #queueMask: number;
  readonly #codel: CoDel;
  readonly #drops: Counters<DropName> | undefined;
  readonly #queued: Float64Array;
  /** List 0: the free slots. Lists 1 …: the packets of queue 0 …. */
  readonly #packets: Lists;
  /** List NEW and list OLD. */
  readonly #rounds: Lists;
  readonly #state: Uint8Array;
  readonly #credits: Int32Array;
  readonly #bytes: Int32Array;
  readonly #counts: Int32Array;
  #size = 0;
  #backlog = 0;

  constructor(options: FqCodelOptions) {
    const { slots, mtu } = options;
    const queues = 2 ** Math.ceil(Math.log2(options.queues ?? QUEUES));
    this.#drops = options.drops;
    this.#mtu = mtu;
    this.#room = align(mtu);
    this.#quantum = options.quantum ?? mtu;
    this.#ecn = options.ecn ?? true;
    this.#queueMask = queues - 1;
    this.#codel = new CoDel(queues, options.target ?? TARGET, options.interval ?? INTERVAL, mtu);
    this.arena = new Arena(slots * this.#room);
    this.tags = new Float64Array(slots);
    this.lengths = new Int32Array(slots);
    this.#queued = new Float64Array(slots);
    this.#packets = new Lists(queues + 1, new Int32Array(slots));
    this.#rounds = new Lists(3, new Int32Array(queues));
    this.#state = new Uint8Array(queues);
    this.#credits = new Int32Array(queues);
    this.#bytes = new Int32Array(queues);
    this.#counts = new Int32Array(queues);
    for (let slot = 0; slot < slots; slot++) this.#packets.push(0, slot);
  }

  /** Packets that wait. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that wait. */
  get backlog(): number {
    return this.#backlog;
  }

  /** Where the packet in `slot` begins in `arena`. */
  offsetOf(slot: number): number {
    return slot * this.#room;
  }

  /**
   * Copies a packet in. When there is no room, packets of the fattest flow are dropped for it (counted there).
   * @param hash of the packet's flow, 32 bits, unknown to whoever sends: `flowHash`
   * @param tag a number kept with the packet
   * @returns `too_big` above the MTU; `queue_full` when every slot is held by the caller.
   */
  enqueue(now: Instant, source: Arena, offset: number, length: number, hash: number, tag = 0): DropReason {
    if (length > this.#mtu || length <= 0) {
      this.counters.add('dropped_too_big');
      return Drop.too_big;
    }
    if (this.#packets.head[0] === NONE && !this.#makeRoom()) {
      this.counters.add('dropped_queue_full');
      return Drop.queue_full;
    }
    const slot = this.#packets.shift(0);
    const queue = hash & this.#queueMask;
    copyBytes(source, offset, this.arena, slot * this.#room, length);
    this.lengths[slot] = length;
    this.tags[slot] = tag;
    this.#queued[slot] = now;
    this.#packets.push(queue + 1, slot);
    this.#bytes[queue]! += length;
    this.#counts[queue]!++;
    this.#size++;
    this.#backlog += length;
    if (this.#state[queue] === IDLE) {
      this.#state[queue] = NEW;
      this.#credits[queue] = this.#quantum;
      this.#rounds.push(NEW, queue);
      this.counters.add('new_flows');
    }
    this.counters.add('enqueued');
    return Drop.none;
  }

  /** The slot of the packet to send now, the caller's until it calls `release`; EMPTY when nothing waits. */
  dequeue(now: Instant): number {
    for (;;) {
      const list = this.#rounds.head[NEW] !== NONE ? NEW : OLD;
      const queue = this.#rounds.head[list]!;
      if (queue === NONE) return EMPTY;
      if (this.#credits[queue]! <= 0) {
        this.#credits[queue]! += this.#quantum;
        this.#moveToOld(list);
        continue;
      }
      const slot = this.#next(queue, now);
      if (slot !== EMPTY) {
        this.#credits[queue]! -= this.lengths[slot]!;
        this.lastDelay = now - this.#queued[slot]!;
        this.counters.add('dequeued');
        return slot;
      }
      // A flow that has just run empty takes a turn among the old ones before it may count as new again: RFC 8290 §4.2.
      if (list === NEW) this.#moveToOld(NEW);
      else {
        this.#rounds.shift(OLD);
        this.#state[queue] = IDLE;
      }
    }
  }

  /** Gives a slot back that `dequeue` returned. */
  release(slot: number): void {
    this.#packets.push(0, slot);
  }

  #moveToOld(list: number): void {
    const queue = this.#rounds.shift(list);
    this.#state[queue] = OLD;
    this.#rounds.push(OLD, queue);
  }

  /** The first packet of a queue that CoDel lets pass. */
  #next(queue: number, now: Instant): number {
    while (this.#counts[queue]! > 0) {
      const slot = this.#take(queue);
      if (this.#codel.judge(queue, now, instantAt(this.#queued[slot]!), this.#bytes[queue]!) !== SIGNAL) return slot;
      if (this.#ecn && markCongestion(this.arena.bytes, slot * this.#room)) {
        this.counters.add('ecn_marked');
        return slot;
      }
      this.counters.add('dropped_queue_delay');
      this.#drops?.add('queue_delay');
      this.#packets.push(0, slot);
    }
    this.#codel.onEmpty(queue);
    return EMPTY;
  }

  #take(queue: number): number {
    const slot = this.#packets.shift(queue + 1);
    const length = this.lengths[slot]!;
    this.#bytes[queue]! -= length;
    this.#counts[queue]!--;
    this.#size--;
    this.#backlog -= length;
    return slot;
  }

  /** Drops from the head of the queue with most bytes. False when no packet waits. */
  #makeRoom(): boolean {
    if (this.#size === 0) return false;
    let fattest = 0;
    for (let queue = 1; queue < this.#bytes.length; queue++) {
      if (this.#bytes[queue]! > this.#bytes[fattest]!) fattest = queue;
    }
    const drops = Math.min(OVERFLOW_BATCH, (this.#counts[fattest]! + 1) >>> 1);
    for (let i = 0; i < drops; i++) this.#packets.push(0, this.#take(fattest));
    this.counters.add('dropped_queue_full', drops);
    this.#drops?.add('queue_full', drops);
    return true;
  }
}

/** A 32-bit hash of addresses, protocol and ports. @param seed unknown to senders, so that they cannot choose collisions. */
export function flowHash(packet: ParsedPacket, seed: number): number {
  let h = seed | 0;
  h = mix(h, packet.source3);
  h = mix(h, packet.destination3);
  if (packet.family === 6) {
    h = mix(h, packet.source0);
    h = mix(h, packet.source1);
    h = mix(h, packet.source2);
    h = mix(h, packet.destination0);
    h = mix(h, packet.destination1);
    h = mix(h, packet.destination2);
  }
  h = mix(h, (packet.sourcePort << 16) | packet.destinationPort);
  h = mix(h, packet.protocol);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

function mix(hash: number, word: number): number {
  const h = Math.imul(hash ^ word, 0x9e3779b1);
  return h ^ (h >>> 15);
}
