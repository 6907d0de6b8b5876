/**
 * Holds flows back: a rate, a latency and a jitter per key, each direction of a flow a lane of its own.
 *
 *   leaves = max(when the one before it leaves, when its key's bucket is paid, came + latency + jitter · random)
 *
 * Nothing overtakes within a lane, so jitter never reorders a flow. Lanes wait in one heap; `expire` runs those that are due, and the
 * driver's next turn is at `nextDue` at the latest.
 */
import type { Entropy } from '../../base/entropy.js';
import { type HeapEntry, IndexedHeap } from '../../base/heap.js';
import { type Duration, type Instant, instantAt, later, Micros, Millis } from '../../base/time.js';
import { DelayRing, SharedMemory } from './delay-ring.js';
import { Bucket, type FlowShape } from './rate.js';

/** Keys whose buckets are remembered; the oldest is forgotten first (flows that have it keep it). */
const KEYS_MAX = 4096;
/** A piece of a stream is what a rate carries in this time: longer ones would arrive in lumps. */
const PIECE: Duration = Millis(10);
const PIECE_MIN = 1400;
const PIECE_MAX = 65_536;
/** What may wait for its rate: of a stream before the window closes, and of datagrams before they are dropped. */
const STREAM_WAIT: Duration = Millis(100);
const DATAGRAM_WAIT: Duration = Millis(500);
const STREAM_MIN = 16 * 1024;
/** Bytes a lane of a stream begins with, without asking. */
const STREAM_FIRST = 4096;

export interface ShaperLimits {
  /** Bytes one direction of a flow may hold. */
  readonly shapedFlowBytes: number;
  /** Bytes all may hold beyond the first 4 KiB of each direction of a TCP flow. */
  readonly shapedBytes: number;
}

/** One direction of one flow. */
export class Lane implements HeapEntry {
  heapSlot = -1;
  readonly ring: DelayRing;
  /** Bytes of one record of a stream at most. */
  piece = 0;
  /** Bytes of a stream that may wait here. */
  limit = 0;
  readonly #shaper: Shaper;
  #bucket: Bucket;
  #shape: FlowShape;
  readonly #onDue: (now: Instant) => void;
  #lastLeaves = Number.NEGATIVE_INFINITY;

  constructor(shaper: Shaper, ring: DelayRing, bucket: Bucket, shape: FlowShape, onDue: (now: Instant) => void) {
    this.ring = ring;
    this.#shaper = shaper;
    this.#bucket = bucket;
    this.#shape = shape;
    this.#onDue = onDue;
    this.change(bucket, shape);
  }

  /** Held back otherwise from now on; what waits leaves when it would have, and nothing before it. */
  change(bucket: Bucket, shape: FlowShape): void {
    this.#bucket = bucket;
    this.#shape = shape;
    const { bytesPerSecond } = bucket;
    const during = (span: number): number => (bytesPerSecond * span) / 1_000_000;
    this.piece = Math.floor(Math.min(Math.max(during(PIECE), PIECE_MIN), PIECE_MAX));
    this.limit = Math.max(during(shape.latency + shape.jitter + STREAM_WAIT), STREAM_MIN);
  }

  /** When `length` bytes that come now leave; they are paid for. */
  leaves(now: Instant, length: number): Instant {
    const { latency, jitter } = this.#shape;
    const delayed = later(now, Micros(latency + (jitter === 0 ? 0 : this.#shaper.upTo(jitter))));
    this.#lastLeaves = Math.max(this.#lastLeaves, this.#bucket.pay(now, length), delayed);
    return instantAt(this.#lastLeaves);
  }

  /** Whether the next datagram is lost, at random. */
  loses(): boolean {
    const { loss = 0 } = this.#shape;
    return loss > 0 && this.#shaper.chance() < loss;
  }

  /** A datagram waits; false: dropped, because the rate or the memory has no room for it. */
  hold(now: Instant, bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.#bucket.quote(now, length) - now > DATAGRAM_WAIT) return false;
    // An empty datagram takes a byte, or it would take no room.
    const room = Math.max(length, 1);
    if (this.ring.room(room, true) < room) return false;
    this.ring.bytes.set(bytes.subarray(offset, offset + length), this.ring.tail);
    this.ring.commit(length, this.leaves(now, length));
    this.ring.tail += room - length;
    this.arm();
    return true;
  }

  /** Has `onDue` called when the first record is due. */
  arm(): void {
    const due = this.ring.firstDue();
    if (due === undefined) this.disarm();
    else this.armAt(due);
  }

  armAt(at: Instant): void {
    this.#shaper.heap.set(this, at);
  }

  disarm(): void {
    this.#shaper.heap.remove(this);
  }

  run(now: Instant): void {
    this.#onDue(now);
  }

  close(): void {
    this.disarm();
    this.ring.close();
  }
}

export class Shaper {
  readonly heap = new IndexedHeap<Lane>();
  readonly memory: SharedMemory;
  readonly #entropy: Entropy;
  readonly #limits: ShaperLimits;
  readonly #keys = new Map<string, { readonly up: Bucket; readonly down: Bucket }>();

  constructor(limits: ShaperLimits, entropy: Entropy) {
    this.#limits = limits;
    this.#entropy = entropy;
    this.memory = new SharedMemory(limits.shapedBytes);
  }

  /** The two directions of a flow. @param isStream it is TCP: what it may hold at first needs no asking for */
  lanes(
    shape: FlowShape,
    isStream: boolean,
    onUp: (now: Instant) => void,
    onDown: (now: Instant) => void,
  ): { readonly up: Lane; readonly down: Lane } {
    const { up, down } = this.#bucketsOf(shape);
    const lane = (bucket: Bucket, onDue: (now: Instant) => void): Lane => {
      const ring = new DelayRing(this.memory, isStream ? STREAM_FIRST : 0, this.#limits.shapedFlowBytes);
      return new Lane(this, ring, bucket, shape, onDue);
    };
    return { up: lane(up, onUp), down: lane(down, onDown) };
  }

  /** Other terms for the two directions of a live flow. */
  change({ up, down }: { readonly up: Lane; readonly down: Lane }, shape: FlowShape): void {
    const buckets = this.#bucketsOf(shape);
    up.change(buckets.up, shape);
    down.change(buckets.down, shape);
  }

  /** A random part of `span`, microseconds. */
  upTo(span: Duration): number {
    return span * this.chance();
  }

  /** A random number from 0 to below 1. */
  chance(): number {
    return this.#entropy.uint32() / 2 ** 32;
  }

  nextDue(): Instant | undefined {
    return this.heap.size === 0 ? undefined : instantAt(this.heap.smallestKey);
  }

  /** Runs every lane that is due. */
  expire(now: Instant): void {
    while (this.heap.smallestKey <= now) this.heap.pop()!.run(now);
  }

  #bucketsOf(shape: FlowShape): { readonly up: Bucket; readonly down: Bucket } {
    const { key } = shape;
    const known = key === undefined ? undefined : this.#keys.get(key);
    const isSame = known?.up.bytesPerSecond === shape.up && known.down.bytesPerSecond === shape.down;
    if (isSame) return known;
    const made = { up: new Bucket(shape.up), down: new Bucket(shape.down) };
    if (key !== undefined) {
      this.#keys.delete(key);
      this.#keys.set(key, made);
      if (this.#keys.size > KEYS_MAX) this.#keys.delete(this.#keys.keys().next().value!);
    }
    return made;
  }
}
