/**
 * The system's clocks as `Clock`: CLOCK_MONOTONIC in microseconds since the machine started, and the wall clock. All
 * threads and processes of one machine agree on the monotonic origin, so instants may be sent between them.
 */
import { type Clock, type Instant, instantAt, type WallTime, wallAt } from '../base/time.js';

/** Reads afresh at every call (about 50 ns each). */
export class SystemClock implements Clock {
  /** Taken once: the global of this name is a getter. */
  readonly #performance = performance;

  now(): Instant {
    return instantAt(this.#performance.now() * 1_000 + ORIGIN);
  }

  wall(): WallTime {
    return wallAt(Date.now());
  }
}

/**
 * What `performance.now` counts from, in microseconds on the monotonic clock: no number is allocated per reading. The
 * thread may be interrupted between the two clocks, so the closest of a few attempts counts.
 */
const ORIGIN = measureOrigin();

function measureOrigin(): number {
  let best = Number.POSITIVE_INFINITY;
  let origin = 0;
  for (let attempt = 0; attempt < 8; attempt++) {
    const before = performance.now();
    const monotonic = Number(process.hrtime.bigint()) / 1_000;
    const after = performance.now();
    if (after - before >= best) continue;
    best = after - before;
    origin = monotonic - ((before + after) / 2) * 1_000;
  }
  return origin;
}
