/**
 * A network device in virtual time that sends at a rate, with the kernel's buffer before it: what the buffer does not take is
 * refused, and it counts as writable again once it is half empty.
 *
 *   send ─► buffer (`room` bytes) ─► one packet after another at `rate` ─► network
 */
import { type Duration, elapsed, type Instant, later, Micros } from '../../src/base/time.js';

interface Held {
  readonly bytes: number;
  readonly leave: () => void;
}

export class SimDevice {
  /** Bytes the buffer holds; a message is taken while it holds less. */
  room = 256 * 1024;
  /** Most bytes it ever held. */
  mostHeld = 0;
  held = 0;
  readonly #queue: Held[] = [];
  #rate: number;
  /** When the first packet began to leave, or the rate changed, and bytes of it that had left by then. */
  #since: Instant;
  #left = 0;

  /** @param rate Mbit/s; 0: nothing leaves. */
  constructor(now: Instant, rate: number) {
    this.#rate = rate;
    this.#since = now;
  }

  get hasRoom(): boolean {
    return this.held < this.room;
  }

  get isWritable(): boolean {
    return this.held < this.room / 2;
  }

  setRate(now: Instant, rate: number): void {
    this.advance(now);
    this.#left += (elapsed(this.#since, now) * this.#rate) / 8;
    this.#since = now;
    this.#rate = rate;
  }

  push(now: Instant, bytes: number, leave: () => void): void {
    if (this.#queue.length === 0) {
      this.#since = now;
      this.#left = 0;
    }
    this.#queue.push({ bytes, leave });
    this.held += bytes;
    this.mostHeld = Math.max(this.mostHeld, this.held);
  }

  /** When the first packet has left. */
  next(): Instant | undefined {
    const first = this.#queue[0];
    if (first === undefined || this.#rate === 0) return undefined;
    return later(this.#since, this.#time(first.bytes - this.#left));
  }

  advance(now: Instant): void {
    for (;;) {
      const at = this.next();
      if (at === undefined || at > now) return;
      const { bytes, leave } = this.#queue.shift()!;
      this.held -= bytes;
      this.#since = at;
      this.#left = 0;
      leave();
    }
  }

  #time(bytes: number): Duration {
    return Micros(Math.max(0, (bytes * 8) / this.#rate));
  }
}
