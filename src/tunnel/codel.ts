/**
 * CoDel's control for a number of queues: when a packet that has come to the head of its queue is to be dropped or marked.
 *
 *              delay ≥ target for an interval
 *   quiet ──────────────────────────────────► dropping: now, then after interval/√1, interval/√2, interval/√3 …
 *     ▲                                          │
 *     └──────── delay < target, or ≤ one packet left
 *
 * A queue that starts to drop again within 16 intervals goes on at the rate it had found. RFC 8289 §4.3, §5 (pseudo-code).
 */
import type { Duration, Instant } from '../base/time.js';

/** A drop state left less than this many intervals ago still says something about the path (RFC 8289 §5.6). */
const MEMORY_INTERVALS = 16;
const NEVER = Number.POSITIVE_INFINITY;

/** What is to be done with the packet at the head. */
export const PASS = 0;
/** Drop it (or mark it) and ask about the next one. */
export const SIGNAL = 1;

export class CoDel {
  readonly #target: number;
  readonly #interval: number;
  readonly #mtu: number;
  /** When the delay will have been above the target for an interval; NEVER = it is not above. */
  readonly #firstAbove: Float64Array;
  readonly #dropNext: Float64Array;
  readonly #count: Float64Array;
  readonly #lastCount: Float64Array;
  readonly #dropping: Uint8Array;
  /** A signal was given and the next one's time is not computed yet: only a head that is late too makes it matter. */
  readonly #owed: Uint8Array;

  /**
   * @param queues how many queues; each is named by its number
   * @param target delay that is acceptable for good
   * @param interval how long it may be exceeded: about a round trip
   * @param mtu bytes; with no more than this behind the head there is no standing queue
   */
  constructor(queues: number, target: Duration, interval: Duration, mtu: number) {
    this.#target = target;
    this.#interval = interval;
    this.#mtu = mtu;
    this.#firstAbove = new Float64Array(queues).fill(NEVER);
    this.#dropNext = new Float64Array(queues);
    this.#count = new Float64Array(queues);
    this.#lastCount = new Float64Array(queues);
    this.#dropping = new Uint8Array(queues);
    this.#owed = new Uint8Array(queues);
  }

  /** The queue has run empty: what delay it had says nothing any more. */
  onEmpty(queue: number): void {
    this.#firstAbove[queue] = NEVER;
    this.#leave(queue);
  }

  /**
   * The packet at the head of `queue`, there since `queued`.
   * @param backlog bytes in the queue without this packet
   * @returns SIGNAL: drop it and call again for the next head, if there is one; a packet that was marked instead goes
   * out. PASS: it goes out.
   */
  judge(queue: number, now: Instant, queued: Instant, backlog: number): typeof PASS | typeof SIGNAL {
    const isLate = this.#isLate(queue, now, now - queued, backlog);
    if (this.#dropping[queue] === 1) {
      if (!isLate) {
        this.#leave(queue);
        return PASS;
      }
      if (this.#owed[queue] === 1) {
        this.#owed[queue] = 0;
        this.#dropNext[queue] = this.#control(this.#dropNext[queue]!, this.#count[queue]!);
      }
      if (now < this.#dropNext[queue]!) return PASS;
      this.#count[queue]!++;
      this.#owed[queue] = 1;
      return SIGNAL;
    }
    if (!isLate) return PASS;
    this.#dropping[queue] = 1;
    const found = this.#count[queue]! - this.#lastCount[queue]!;
    const isRecent = now - this.#dropNext[queue]! < MEMORY_INTERVALS * this.#interval;
    const count = found > 1 && isRecent ? found : 1;
    this.#count[queue] = count;
    this.#lastCount[queue] = count;
    this.#dropNext[queue] = this.#control(now, count);
    return SIGNAL;
  }

  #leave(queue: number): void {
    this.#dropping[queue] = 0;
    this.#owed[queue] = 0;
  }

  /** Whether the delay has been above the target for a whole interval. */
  #isLate(queue: number, now: number, delay: number, backlog: number): boolean {
    if (delay < this.#target || backlog <= this.#mtu) {
      this.#firstAbove[queue] = NEVER;
      return false;
    }
    const above = this.#firstAbove[queue]!;
    if (above === NEVER) {
      this.#firstAbove[queue] = now + this.#interval;
      return false;
    }
    return now >= above;
  }

  #control(at: number, count: number): number {
    return at + this.#interval / Math.sqrt(count);
  }
}
