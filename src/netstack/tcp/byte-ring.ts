/**
 * A growing ring of bytes: unacknowledged and unsent data of a sender, or unread and out-of-order data of a receiver.
 *
 *   head                    head+length                 head+capacity          (indices modulo the capacity, a power of two)
 *    │ used: a contiguous run │ free; `place` may fill parts ahead of `commit`   │
 *
 * It holds no memory until the first byte and gives it back when `release`d empty.
 */
import { Arena } from '../../wire/arena.js';
import { type BufferPool, SMALLEST_BUFFER } from '../buffer-pool.js';

/** A run of bytes inside somebody's array; reused, valid until the ring changes. */
export interface Span {
  bytes: Uint8Array;
  offset: number;
  length: number;
}

const NOTHING = new Arena(0);
/** Below this a loop beats the view that `set` needs. */
const COPY_LOOP_MAX = 48;

export class ByteRing {
  arena: Arena = NOTHING;
  head = 0;
  /** Contiguous bytes from the head. */
  length = 0;

  constructor(readonly pool: BufferPool) {}

  get bytes(): Uint8Array {
    return this.arena.bytes;
  }

  get capacity(): number {
    return this.bytes.length;
  }

  get free(): number {
    return this.bytes.length - this.length;
  }

  /** Makes room for `wanted` bytes in all; `kept` bytes from the head on (≥ length) keep their content. */
  ensure(wanted: number, kept: number): void {
    if (wanted <= this.bytes.length) return;
    const old = this.bytes;
    const lent = this.pool.take(Math.max(wanted, SMALLEST_BUFFER));
    const grown = lent.bytes;
    if (kept > 0) {
      const first = Math.min(kept, old.length - this.head);
      grown.set(old.subarray(this.head, this.head + first), 0);
      if (kept > first) grown.set(old.subarray(0, kept - first), first);
    }
    if (old.length > 0) this.pool.give(this.arena);
    this.arena = lent;
    this.head = 0;
  }

  /** Index in `bytes` of the byte `distance` after the head. */
  index(distance: number): number {
    return (this.head + distance) & (this.bytes.length - 1);
  }

  /** How many of `length` bytes at `distance` lie before the wrap. */
  contiguous(distance: number, length: number): number {
    const left = this.bytes.length - this.index(distance);
    return Math.min(length, left);
  }

  /** Copies bytes to `distance` after the head, without counting them as used. There must be room. */
  place(distance: number, from: Uint8Array, offset: number, length: number): void {
    const at = this.index(distance);
    const left = this.bytes.length - at;
    if (length <= left) copy(from, offset, this.bytes, at, length);
    else {
      copy(from, offset, this.bytes, at, left);
      copy(from, offset + left, this.bytes, 0, length - left);
    }
  }

  /** Counts `n` more bytes after the used run as used. */
  commit(n: number): void {
    this.length += n;
  }

  /** Forgets `n` bytes at the head. */
  drop(n: number): void {
    this.length -= n;
    this.head = (this.head + n) & (this.bytes.length - 1);
  }

  /** Gives the memory back; whatever was in it is gone. */
  release(): void {
    if (this.arena !== NOTHING) this.pool.give(this.arena);
    this.arena = NOTHING;
    this.head = 0;
    this.length = 0;
  }
}

/** Copies `length` bytes between arrays that may not overlap. */
export function copy(from: Uint8Array, offset: number, to: Uint8Array, at: number, length: number): void {
  if (length > COPY_LOOP_MAX) to.set(from.subarray(offset, offset + length), at);
  else for (let i = 0; i < length; i++) to[at + i] = from[offset + i];
}
