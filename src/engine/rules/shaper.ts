/**
 * Packets held back: a rate, a latency and a jitter per key (a rule, a host, a flow), each key a line of its own.
 *
 *   leaves = max(when the one before it leaves, when the bucket has its bytes, came + latency + jitter · random)
 *
 * Nothing overtakes within a key, so jitter never reorders a flow. Packets lie in slots made at construction; a packet that finds none, or
 * too many of its key before it, is dropped and counted. New parameters hold for packets that come after them; those that wait stay.
 *
 * Order of calls: `enqueue` at any time; at `nextDue`, `dequeue` until EMPTY, with `release` after each.
 */
import type { DropReason } from '../../base/drop.js';
import { Drop } from '../../base/drop.js';
import type { Entropy } from '../../base/entropy.js';
import { type HeapEntry, IndexedHeap } from '../../base/heap.js';
import { type Duration, type Instant, instantAt, Seconds } from '../../base/time.js';
import { Arena, align, copyBytes } from '../../wire/arena.js';

/** What one key is held to. */
export interface ShapeRate {
  /** Bytes a second; Infinity = no limit. */
  readonly bytesPerSecond: number;
  /** Bytes that may leave at once after a pause. */
  readonly burstBytes: number;
  readonly latency: Duration;
  /** Added at random, 0 to this much. */
  readonly jitter: Duration;
}

export interface ShaperOptions {
  /** Packets held at most, of all keys, and of one. */
  readonly slots: number;
  readonly slotsPerKey: number;
  /** Largest packet, bytes. */
  readonly mtu: number;
  readonly entropy: Entropy;
}

/** `dequeue`: nothing is due. */
export const NOT_DUE = -1;

/** One packet's place; leaves at its key in the heap. */
class Slot implements HeapEntry {
  heapSlot = -1;
  length = 0;
  tag = 0;
  line: Line | undefined;

  constructor(readonly index: number) {}
}

/** One key: what it is held to and when its last packet leaves. */
class Line {
  held = 0;
  lastLeaves = Number.NEGATIVE_INFINITY;
  /** The bucket as a time: when the bytes taken so far will have been paid for. */
  paid = Number.NEGATIVE_INFINITY;

  constructor(public rate: ShapeRate) {}
}

export class Shaper {
  readonly arena: Arena;
  /** Packets dropped because of no slot, and because of too many before them of the same key. */
  dropped = 0;
  readonly #options: ShaperOptions;
  readonly #room: number;
  readonly #slots: Slot[];
  readonly #free: Slot[];
  readonly #due = new IndexedHeap<Slot>();
  readonly #lines = new Map<string, Line>();

  constructor(options: ShaperOptions) {
    this.#options = options;
    this.#room = align(options.mtu);
    this.arena = new Arena(options.slots * this.#room);
    this.#slots = Array.from({ length: options.slots }, (_, i) => new Slot(i));
    this.#free = [...this.#slots];
  }

  /** Packets held. */
  get size(): number {
    return this.#due.size;
  }

  /** Sets what a key is held to, from now on. */
  shape(key: string, rate: ShapeRate): void {
    const line = this.#lines.get(key);
    if (line === undefined) this.#lines.set(key, new Line(rate));
    else line.rate = rate;
  }

  /** Forgets a key; packets of it that wait still leave. */
  forget(key: string): void {
    this.#lines.delete(key);
  }

  /** Copies a packet in. `no_handler`: the key is not shaped; `queue_full`, `too_big`: dropped. */
  enqueue(now: Instant, key: string, source: Arena, offset: number, length: number, tag = 0): DropReason {
    const line = this.#lines.get(key);
    if (line === undefined) return Drop.no_handler;
    const slot = line.held < this.#options.slotsPerKey && length <= this.#options.mtu ? this.#free.pop() : undefined;
    if (slot === undefined) {
      this.dropped++;
      return length > this.#options.mtu ? Drop.too_big : Drop.queue_full;
    }
    copyBytes(source, offset, this.arena, slot.index * this.#room, length);
    slot.length = length;
    slot.tag = tag;
    slot.line = line;
    line.held++;
    this.#due.set(slot, this.#leaves(now, line, length));
    return Drop.none;
  }

  /** When the next packet leaves; undefined when none is held. */
  nextDue(): Instant | undefined {
    return this.#due.size === 0 ? undefined : instantAt(this.#due.smallestKey);
  }

  /** The slot of a packet that is due, the caller's until `release`; NOT_DUE when there is none. */
  dequeue(now: Instant): number {
    if (this.#due.smallestKey > now) return NOT_DUE;
    const slot = this.#due.pop()!;
    slot.line!.held--;
    return slot.index;
  }

  release(index: number): void {
    const slot = this.#slots[index]!;
    slot.line = undefined;
    this.#free.push(slot);
  }

  offsetOf(index: number): number {
    return index * this.#room;
  }

  lengthOf(index: number): number {
    return this.#slots[index]!.length;
  }

  tagOf(index: number): number {
    return this.#slots[index]!.tag;
  }

  #leaves(now: Instant, line: Line, length: number): number {
    const { bytesPerSecond, burstBytes, latency, jitter } = line.rate;
    const cost = Seconds(length / bytesPerSecond);
    const burst = bytesPerSecond === Number.POSITIVE_INFINITY ? 0 : Seconds(burstBytes / bytesPerSecond);
    // A full bucket is a debt of −burst; a packet leaves when what it costs is paid.
    line.paid = Math.max(line.paid, now - burst) + cost;
    const delayed = now + latency + (jitter * this.#options.entropy.uint32()) / 2 ** 32;
    line.lastLeaves = Math.max(line.lastLeaves, line.paid, delayed);
    return line.lastLeaves;
  }
}
