/**
 * Byte buffers that nobody uses at the moment, kept by power-of-two size for the next who needs one. What is not kept is left to
 * the collector, which sees no reason to hurry: a thread whose heap is small collects its old space once in a minute, and until
 * then tens of megabytes of dead buffers stay resident. So enough is kept for a busy time, and all of it let go of at rest.
 *
 *   give ──► kept, at most `limit` bytes ──► take          clear: nothing is kept
 *
 * Stacks of one thread may share a store.
 */
import type { Arena } from '../wire/arena.js';

/** Log2 of the largest size, bytes. */
export const LARGEST_CLASS = 26;

/** What eight flows need that fill their send buffers, and the sizes these grew through. */
export const RETAINED_BYTES = 64 * 1024 * 1024;

export class BufferStore {
  readonly #free: Arena[][] = [];
  #bytes = 0;

  /** @param limit most bytes kept. */
  constructor(readonly limit: number) {
    for (let k = 0; k <= LARGEST_CLASS; k++) this.#free.push([]);
  }

  /** Bytes kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A kept buffer of 2^k bytes, if there is one; its content is arbitrary. */
  take(k: number): Arena | undefined {
    const buffer = this.#free[k]!.pop();
    if (buffer !== undefined) this.#bytes -= buffer.size;
    return buffer;
  }

  /** Keeps a buffer, whose size is a power of two, if there is room for it. */
  give(buffer: Arena): void {
    const { size } = buffer;
    if (this.#bytes + size > this.limit) return;
    this.#bytes += size;
    this.#free[31 - Math.clz32(size)]!.push(buffer);
  }

  /** Leaves everything to the collector. */
  clear(): void {
    for (const buffers of this.#free) buffers.length = 0;
    this.#bytes = 0;
  }
}
