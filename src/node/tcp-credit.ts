/**
 * How a way over TCP says "later" to the packet thread: memory that the bridge in the main thread and the packet thread share.
 *
 *   word   0 GRANTED   written by the bridge: bytes, in all, that may have been sent to it by now (modulo 2³²)
 *          1 SENT      written by the packet thread: bytes it has sent
 *          2 WAITS     1: the packet thread waits for more; the bridge clears it and sends an empty datagram, which wakes the thread
 *          3 CLOSED    1: the bridge is gone, nothing is waited for
 *          4 GONE      bytes that the stream has taken: whether it moves
 */
import { type Duration, elapsed, type Instant, Seconds } from '../base/time.js';

const GRANTED = 0;
const SENT = 1;
const WAITS = 2;
const CLOSED = 3;
const GONE = 4;
const WORDS = 5;

/** A stream that takes nothing for so long is not slow but stuck: it must not hold up what goes elsewhere. */
const MOST_FULL: Duration = Seconds(1);

/** The bridge's end. */
export class TcpCredit {
  readonly memory = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
  readonly #words = new Int32Array(this.memory);
  /** What the packet thread has sent and never arrived, less what has arrived and it did not count. */
  #missing = 0;
  #sentBefore = 0;
  #takenBefore = 0;

  /**
   * @param taken bytes that have arrived so far. @param room bytes that may come besides. @param gone bytes that have left.
   * @returns whether the packet thread waits for this: it is to be woken.
   */
  grant(taken: number, room: number, gone: number): boolean {
    Atomics.store(this.#words, GONE, gone | 0);
    Atomics.store(this.#words, GRANTED, (taken + this.#missing + room) | 0);
    return room > 0 && Atomics.exchange(this.#words, WAITS, 0) === 1;
  }

  /** At intervals long enough for what was sent to arrive: what has not by the second is lost. */
  settle(taken: number): void {
    const sent = Atomics.load(this.#words, SENT);
    if (sent === this.#sentBefore && taken === this.#takenBefore) this.#missing = (sent - taken) | 0;
    this.#sentBefore = sent;
    this.#takenBefore = taken;
  }

  /** The way ends. Returns whether the packet thread waits. */
  close(): boolean {
    Atomics.store(this.#words, CLOSED, 1);
    return Atomics.exchange(this.#words, WAITS, 0) === 1;
  }
}

/** The packet thread's end. */
export class TcpCreditUser {
  readonly #words: Int32Array;
  #fullSince: Instant | undefined;
  #goneThen = 0;

  /** @param memory of the bridge's end. */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** Bytes that may be sent; negative: so many too many have been. */
  get left(): number {
    return (Atomics.load(this.#words, GRANTED) - this.#words[SENT]!) | 0;
  }

  sent(bytes: number): void {
    Atomics.store(this.#words, SENT, (this.#words[SENT]! + bytes) | 0);
  }

  /** Whether packets are to wait; if so the bridge will wake this thread when they need not. */
  isFull(now: Instant): boolean {
    if (this.left > 0 || Atomics.load(this.#words, CLOSED) === 1) {
      this.#fullSince = undefined;
      return false;
    }
    Atomics.store(this.#words, WAITS, 1);
    if (this.left > 0) return false;
    const gone = this.#words[GONE]!;
    if (this.#fullSince === undefined || gone !== this.#goneThen) this.#fullSince = now;
    this.#goneThen = gone;
    return elapsed(this.#fullSince, now) < MOST_FULL;
  }
}
