/**
 * The system's random generator as `Entropy`. Small requests are cut from a pool that is refilled in one go, so that a
 * number costs nanoseconds; bytes handed out are wiped from the pool, so that they cannot be handed out or read twice.
 */
import { randomFillSync } from 'node:crypto';
import type { Entropy } from '../base/entropy.js';

/** Bytes fetched at once: 1024 numbers; one refill takes a few microseconds. */
const POOL_BYTES = 4096;
/** Requests larger than this go to the system directly: the pool would be emptied by a few of them. */
const LARGEST_POOLED = 256;

/** Cryptographically strong; one object per thread. */
export class SystemEntropy implements Entropy {
  readonly #pool = new Uint8Array(POOL_BYTES);
  #used = POOL_BYTES;

  fill(target: Uint8Array): void {
    if (target.length > LARGEST_POOLED) {
      randomFillSync(target);
      return;
    }
    const start = this.#take(target.length);
    for (let i = 0; i < target.length; i++) target[i] = this.#pool[start + i]!;
    this.#pool.fill(0, start, start + target.length);
  }

  uint32(): number {
    const start = this.#take(4);
    const pool = this.#pool;
    const value = ((pool[start]! << 24) | (pool[start + 1]! << 16) | (pool[start + 2]! << 8) | pool[start + 3]!) >>> 0;
    pool.fill(0, start, start + 4);
    return value;
  }

  /** Reserves `length` fresh bytes; returns where they start. */
  #take(length: number): number {
    if (this.#used + length > POOL_BYTES) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += length;
    return start;
  }
}
