/**
 * The byte buffers of one stack's TCP connections, in power-of-two sizes: lent when a ring first needs room, taken back when it is
 * empty, so that an idle connection holds none. What is taken back goes to a store, which may be shared.
 *
 *   class k = 2^k bytes, 4 KiB (2^12) … 64 MiB (2^26)
 */

import { Arena } from '../wire/arena.js';
import { type BufferStore, LARGEST_CLASS } from './buffer-store.js';

const SMALLEST_CLASS = 12;

/** The smallest buffer the pool lends, in bytes. */
export const SMALLEST_BUFFER = 1 << SMALLEST_CLASS;

export class BufferPool {
  #lent = 0;
  #promised = 0;

  /**
   * @param store where buffers come from and go to.
   * @param budget bytes by which all windows and send buffers together may be larger than they begin. What they begin with is outside it, so that
   * all that is lent is bounded by the budget and a limit on connections.
   */
  constructor(
    readonly store: BufferStore,
    readonly budget = Number.POSITIVE_INFINITY,
  ) {}

  /** Bytes lent and not yet returned. */
  get lentBytes(): number {
    return this.#lent;
  }

  /** Sets `bytes` aside for a window or buffer that is about to grow by as much. False: there are none left. */
  promise(bytes: number): boolean {
    if (this.#promised + bytes > this.budget) return false;
    this.#promised += bytes;
    return true;
  }

  /** Takes a promise back. */
  release(bytes: number): void {
    this.#promised -= bytes;
  }

  /** A buffer of at least `bytes` (a power of two); its content is arbitrary. */
  take(bytes: number): Arena {
    let k = SMALLEST_CLASS;
    while (k < LARGEST_CLASS && 1 << k < bytes) k++;
    const size = 1 << k;
    this.#lent += size;
    return this.store.take(k) ?? new Arena(size);
  }

  /** Returns a buffer that `take` lent; the caller forgets it. */
  give(buffer: Arena): void {
    this.#lent -= buffer.size;
    this.store.give(buffer);
  }
}
