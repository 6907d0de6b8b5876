/**
 * The system's clocks as `Clock`: CLOCK_MONOTONIC in microseconds since the machine started, and the wall clock. All
 * threads and processes of one machine agree on the monotonic origin, so instants may be sent between them.
 */
import { type Clock, type Instant, instantAt, type WallTime, wallAt } from '../base/time.js';

/** Reads afresh at every call. */
export class SystemClock implements Clock {
  /** Taken once. Not `performance.now`, which checks its receiver by name at every call and takes half as long again. */
  readonly #read = process.hrtime;

  now(): Instant {
    const read = this.#read();
    return instantAt(read[0]! * 1_000_000 + read[1]! / 1_000);
  }

  wall(): WallTime {
    return wallAt(Date.now());
  }
}
