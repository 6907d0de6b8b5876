/**
 * Timers of a pure core: a queue of deadlines that a driver polls. A `Timer` is made once by its owner and re-armed any
 * number of times without allocation.
 *
 *   idle ──arm(at)──► armed ──expire(now ≥ at)──► idle, handler called
 *                      │  ▲
 *            cancel ◄──┘  └── arm(at) again moves the deadline
 */
import { type HeapEntry, IndexedHeap } from './heap.js';
import { type Instant, instantAt } from './time.js';

/** One timer. The handler runs inside `TimerQueue.expire`, after the timer has become idle, so it may re-arm itself. */
export class Timer implements HeapEntry {
  /** Written by the heap; −1 = idle. */
  heapSlot = -1;
  readonly handler: (now: Instant) => void;

  constructor(handler: (now: Instant) => void) {
    this.handler = handler;
  }

  get isArmed(): boolean {
    return this.heapSlot >= 0;
  }
}

/** O(log n) for everything but `next`, which is O(1). A timer belongs to one queue. */
export class TimerQueue {
  readonly #heap = new IndexedHeap<Timer>();

  /** Armed timers. */
  get size(): number {
    return this.#heap.size;
  }

  /** Arms `timer` for `at`, whether or not it was armed. */
  arm(timer: Timer, at: Instant): void {
    this.#heap.set(timer, at);
  }

  /** Arms `timer` for `at` unless it is already armed for that instant or an earlier one. */
  armNoLater(timer: Timer, at: Instant): void {
    if (timer.heapSlot < 0 || this.#heap.keyOf(timer) > at) this.#heap.set(timer, at);
  }

  cancel(timer: Timer): void {
    this.#heap.remove(timer);
  }

  /** When `timer` is due; undefined when idle. */
  deadline(timer: Timer): Instant | undefined {
    return timer.heapSlot < 0 ? undefined : instantAt(this.#heap.keyOf(timer));
  }

  /** The earliest deadline; undefined when nothing is armed. */
  next(): Instant | undefined {
    return this.#heap.size === 0 ? undefined : instantAt(this.#heap.smallestKey);
  }

  /** Whether `expire(now)` would call a handler. */
  isDue(now: Instant): boolean {
    return this.#heap.smallestKey <= now;
  }

  /**
   * Calls the handlers of the timers due at `now`, earliest deadline first (equal deadlines: armed first, called first),
   * and returns how many. At most as many as were armed on entry, so a handler that re-arms itself for a past instant
   * cannot hold the loop; what is left shows in `next()`.
   */
  expire(now: Instant): number {
    let count = 0;
    for (let left = this.#heap.size; left > 0 && this.#heap.smallestKey <= now; left--) {
      const timer = this.#heap.pop()!;
      timer.handler(now);
      count++;
    }
    return count;
  }

  /** Makes every timer idle. */
  clear(): void {
    this.#heap.clear();
  }
}
