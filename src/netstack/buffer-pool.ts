/**
 * Byte buffers in power-of-two sizes for the rings of TCP connections: lent when a ring first needs room, taken back when
 * it is empty, so that an idle connection holds none.
 *
 *   class k = 2^k bytes, 4 KiB (2^12) … 64 MiB (2^26); at most `retainBytes` wait in the pool, the rest is left to the collector
 */

import { Arena } from '../wire/arena.js';

const SMALLEST_CLASS = 12;
const LARGEST_CLASS = 26;

/** The smallest buffer the pool lends, in bytes. */
export const SMALLEST_BUFFER = 1 << SMALLEST_CLASS;

export class BufferPool {
  readonly #free: Arena[][] = [];
  #retained = 0;
  #lent = 0;
  #promised = 0;

  /**
   * @param retainBytes most bytes kept for reuse.
   * @param budget bytes lent and promised beyond which no buffer and no window grows; each connection's first ones are lent
   * all the same, so that a limit on connections has to go with it.
   */
  constructor(
    readonly retainBytes: number,
    readonly budget = Number.POSITIVE_INFINITY,
  ) {
    for (let k = 0; k <= LARGEST_CLASS; k++) this.#free.push([]);
  }

  /** Bytes lent and not yet returned. */
  get lentBytes(): number {
    return this.#lent;
  }

  /** Bytes kept for reuse. */
  get retainedBytes(): number {
    return this.#retained;
  }

  /** Whether a buffer may grow by `bytes`. */
  mayGrow(bytes: number): boolean {
    return this.#lent + this.#promised + bytes <= this.budget;
  }

  /** Sets `bytes` aside for a window that is about to be advertised. False: there are none left. */
  promise(bytes: number): boolean {
    if (!this.mayGrow(bytes)) return false;
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
    const reused = this.#free[k].pop();
    if (reused !== undefined) {
      this.#retained -= size;
      return reused;
    }
    return new Arena(size);
  }

  /** Returns a buffer that `take` lent; the caller forgets it. */
  give(buffer: Arena): void {
    const size = buffer.size;
    this.#lent -= size;
    if (this.#retained + size > this.retainBytes) return;
    this.#retained += size;
    this.#free[31 - Math.clz32(size)].push(buffer);
  }
}
