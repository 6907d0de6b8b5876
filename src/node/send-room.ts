/**
 * How many bytes the kernel may hold for one socket before it says "later". What waits there waits behind everything else, so
 * it should be what the network device sends in a few milliseconds; nobody says how much that is, but the socket does:
 *
 *   full (EAGAIN) ──── time T ────► half empty (writable: below half of SO_SNDBUF)
 *
 *   T > 5 ms           the room shrinks to what would have emptied by half in 2.5 ms, at most to a quarter: it may be we who were late
 *   T < 1 ms           it doubles: the device is much faster than the room is large
 *   between            it grows by an eighth: a device that only reports late what it has sent gets the room it needs
 *   not full for 1 s   it halves, down to where it began: what stands in it was never seen
 *
 * The idea is that of byte queue limits in drivers, from outside.
 */
import { type Duration, elapsed, type Instant, Millis, Seconds } from '../base/time.js';

/** 3.3 ms at 10 Gbit/s. */
export const MOST_ROOM = 4 * 1024 * 1024;
/** Where it begins, and what is always granted where it never fills: 10 ms at 13 Mbit/s. A fast device is known after a few milliseconds. */
export const FIRST_ROOM = 16 * 1024;
/** Two or three packets as the kernel counts them (2,304 bytes for one of 1,500): with fewer a slow device falls idle between two turns. */
export const LEAST_ROOM = 6 * 1024;

const SLOW: Duration = Millis(5);
const FAST: Duration = Millis(1);
const HALF_TIME: Duration = Millis(2.5);
const GROWTH = 9 / 8;
const SHRINKAGE = 1 / 4;
const QUIET: Duration = Seconds(1);

export class SendRoom {
  /** Bytes, between `LEAST_ROOM` and `MOST_ROOM`. */
  bytes = FIRST_ROOM;
  #full: Instant | undefined;
  #lastFull: Instant | undefined;

  /** The socket has taken all it can hold. */
  onFull(now: Instant): void {
    this.#full ??= now;
    this.#lastFull = now;
  }

  /** The socket had no room but soon did, or has room again after `onFull`. Returns whether `bytes` has changed. */
  onRoom(now: Instant): boolean {
    const took = this.#full === undefined ? 0 : elapsed(this.#full, now);
    this.#full = undefined;
    this.#lastFull = now;
    const factor = took > SLOW ? Math.max(SHRINKAGE, HALF_TIME / took) : took < FAST ? 2 : GROWTH;
    return this.#set(this.bytes * factor);
  }

  /** The socket has taken everything. Returns whether `bytes` has changed. */
  onSent(now: Instant): boolean {
    if (this.bytes <= FIRST_ROOM) return false;
    this.#lastFull ??= now;
    if (elapsed(this.#lastFull, now) < QUIET) return false;
    this.#lastFull = now;
    return this.#set(Math.max(FIRST_ROOM, this.bytes / 2));
  }

  #set(bytes: number): boolean {
    const before = this.bytes;
    this.bytes = Math.round(Math.min(MOST_ROOM, Math.max(LEAST_ROOM, bytes)));
    return this.bytes !== before;
  }
}
