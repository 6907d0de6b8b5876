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

  /** @param retainBytes most bytes kept for reuse. */
  constructor(readonly retainBytes: number) {
    for (let k = 0; k <= LARGEST_CLASS; k++) this.#free.push([]);
  }

  /** Bytes lent and not yet returned. */
  get lentBytes(): number {
    return this.#lent;
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
