/**
 * What flows are held to, and the bucket that keeps the rate: one per direction of a key (a rule, a host, a flow).
 *
 *   paid   when everything taken so far will have been paid for; a full bucket is a debt of −burst
 */
import { type Duration, type Instant, instantAt, Micros, Seconds } from '../../base/time.js';

/** How a flow is held back, each direction by itself. */
export interface FlowShape {
  /** Bytes a second from and to the program; Infinity = no limit. */
  readonly up: number;
  readonly down: number;
  /** Everything arrives that much later; a TCP connection is dialled that much later too. */
  readonly latency: Duration;
  /** Added at random, 0 to this much; never reorders a flow. */
  readonly jitter: Duration;
  /** Share of datagrams lost at random, 0 … 1; none when absent. TCP loses nothing: here it is a stream of bytes. */
  readonly loss?: number;
  /** Flows with the same key share the rates; undefined: a flow has its own. */
  readonly key: string | undefined;
}

/** Not held back at all. */
export const UNSHAPED: FlowShape = {
  up: Number.POSITIVE_INFINITY,
  down: Number.POSITIVE_INFINITY,
  latency: Micros(0),
  jitter: Micros(0),
  key: undefined,
};

export function sameShape(a: FlowShape, b: FlowShape): boolean {
  const isSame = a.up === b.up && a.down === b.down && a.key === b.key;
  return isSame && a.latency === b.latency && a.jitter === b.jitter && (a.loss ?? 0) === (b.loss ?? 0);
}

/** What may leave at once after a pause: so long at the rate, and two segments at least. */
const BURST: Duration = Seconds(0.05);
const BURST_MIN = 3000;

export class Bucket {
  readonly bytesPerSecond: number;
  readonly #burst: Duration;
  #paid = Number.NEGATIVE_INFINITY;

  /** @param bytesPerSecond more than 0 */
  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond;
    const least = Seconds(BURST_MIN / bytesPerSecond);
    this.#burst = least > BURST ? least : BURST;
  }

  /** When `length` more bytes would be paid for. */
  quote(now: Instant, length: number): Instant {
    const from = Math.max(this.#paid, now - this.#burst);
    return instantAt(from + (length / this.bytesPerSecond) * 1_000_000);
  }

  /** Takes them. */
  pay(now: Instant, length: number): Instant {
    const paid = this.quote(now, length);
    this.#paid = paid;
    return paid;
  }
}
