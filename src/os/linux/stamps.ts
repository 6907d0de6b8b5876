/**
 * The kernel's receive time (SO_TIMESTAMPNS, wall clock) as an `Instant` of the monotonic clock. What counts is how long ago it
 * was: both clocks are read when packets are fetched, so that a step of the wall clock spoils no round-trip time but those it
 * falls into.
 *
 *   struct timespec   seconds i64 · nanoseconds i64
 */
import { type Instant, instantAt } from '../../base/time.js';
import { SystemClock } from '../clock.js';
import { CLOCK_REALTIME, SO_TIMESTAMPNS, SOL_SOCKET } from './constants.js';
import { clockGettime } from './libc.js';
import { NativeMemory } from './memory.js';
import type { MessageTable } from './msghdr.js';

export class StampReader {
  readonly #clock = new SystemClock();
  readonly #memory = NativeMemory.allocate(16);
  readonly #words = this.#memory.words();
  #now: Instant = instantAt(0);

  /** To be called after each receive. */
  refresh(): void {
    clockGettime(CLOCK_REALTIME, this.#memory.address);
    this.#now = this.#clock.now();
  }

  /** The time of the last `refresh`. */
  get now(): Instant {
    return this.#now;
  }

  /** When entry `i` was received; the time of the last `refresh` when the kernel did not say. */
  read(table: MessageTable, i: number): Instant {
    const word = table.findControl(i, SOL_SOCKET, SO_TIMESTAMPNS);
    if (word < 0) return this.#now;
    const seconds = this.#words[0]! - table.words[word]!;
    const age = seconds * 1_000_000 + (this.#words[2]! - table.words[word + 2]!) / 1_000;
    return instantAt(this.#now - Math.max(0, age));
  }
}
