/**
 * How many bytes the kernel may hold for one socket before it says "later". What waits there waits behind everything else, so
 * it should be what the network device sends in a few milliseconds; nobody says how much that is, but the socket does:
 *
 *   full (EAGAIN) ──── time T ────► half empty (writable, udp(7): below half of SO_SNDBUF)
 *
 *   T > 5 ms     the room shrinks to what would have emptied by half in 2.5 ms
 *   T < 1 ms     it doubles: the device is faster than the room is large
 *
 * The idea is that of byte queue limits in drivers, from outside.
 */
import { type Duration, elapsed, type Instant, Millis } from '../base/time.js';

/** 3.3 ms at 10 Gbit/s. */
export const MOST_ROOM = 4 * 1024 * 1024;
/** Where it begins: about the kernel's own default (net.core.wmem_default, 212,992), 2 ms at 1 Gbit/s. */
export const FIRST_ROOM = 256 * 1024;
/** Two or three packets as the kernel counts them (2,304 bytes for one of 1,500): fewer and a slow device falls idle between two turns. */
export const LEAST_ROOM = 6 * 1024;

const SLOW: Duration = Millis(5);
const FAST: Duration = Millis(1);
const HALF_TIME: Duration = Millis(2.5);

export class SendRoom {
  /** Bytes, between `LEAST_ROOM` and `MOST_ROOM`. */
  bytes = FIRST_ROOM;
  #full: Instant | undefined;

  /** The socket has taken all it can hold. */
  onFull(now: Instant): void {
    this.#full ??= now;
  }

  /** The socket had no room but soon did, or has room again after `onFull`. Returns whether `bytes` has changed. */
  onRoom(now: Instant): boolean {
    const took = this.#full === undefined ? 0 : elapsed(this.#full, now);
    this.#full = undefined;
    const before = this.bytes;
    if (took > SLOW) this.bytes = Math.max(LEAST_ROOM, Math.round((before * HALF_TIME) / took));
    else if (took < FAST) this.bytes = Math.min(MOST_ROOM, before * 2);
    return this.bytes !== before;
  }
}
