/**
 * The receiving half of a connection: what the peer sent, in order to the application, and the window that tells the
 * peer how much more may come.
 *
 *   ring head            nxt                       advertised
 *   │ unread, in order    │ gaps and out-of-order    │        unread + window ≤ limit
 *
 * Acknowledged bytes are never dropped: they wait in the ring until the application takes them.
 * RFC 9293 §3.8.6, RFC 7323 §2, RFC 2018 §4, RFC 1122 §4.2.3.3 (silly window).
 */
import type { Instant } from '../../base/time.js';
import type { BufferPool } from '../buffer-pool.js';
import type { TcpHandlers } from '../types.js';
import { ByteRing } from './byte-ring.js';
import { SequenceRanges } from './ranges.js';
import { SackBlocks } from './sack-blocks.js';

/**
 * Out-of-order ranges kept; a segment that would make one more is not taken (nor acknowledged), which to its sender looks like
 * the path's death. A full window of 1348-byte segments at 5 % loss has 160 gaps at once, with the repairs on their way too.
 */
const OUT_OF_ORDER_RANGES = 1024;
const MAX_UNSCALED = 65_535;

export class Receiver {
  irs = 0;
  /** RCV.NXT. */
  nxt = 0;
  /** The highest right edge ever advertised. */
  advertised = 0;
  /** Receive buffer in bytes now; grows to `max`. */
  limit: number;
  /** Our window scale shift; 0 unless both ends offered it. */
  shift = 0;
  readonly ring: ByteRing;
  readonly ranges = new SequenceRanges(OUT_OF_ORDER_RANGES);
  readonly blocks = new SackBlocks();
  /** The application took less than offered and has not asked again. */
  blocked = false;
  finReceived = false;
  /** Payload of the largest segment received, bytes. */
  segment = 1;
  /** A FIN came ahead of bytes still missing: it stands at `finAt`. */
  finWaits = false;
  finAt = 0;
  #delivering = false;
  #released = false;
  /** Bytes taken by the application since `#since`. */
  #taken = 0;
  #since = -1;
  /** Bytes of the window that the pool has set aside beyond the first. */
  #promised = 0;
  total = 0;

  constructor(
    readonly pool: BufferPool,
    initial: number,
    public max: number,
  ) {
    this.ring = new ByteRing(pool);
    this.limit = initial;
  }

  /** The peer's SYN is known. `shift` is our window scale, 0 when it was not agreed. */
  start(irs: number, shift: number): void {
    this.irs = irs;
    this.nxt = (irs + 1) | 0;
    this.advertised = (this.nxt + this.synWindow) | 0;
    this.shift = shift;
    if (shift === 0) {
      this.max = Math.min(this.max, MAX_UNSCALED);
      this.limit = Math.min(this.limit, this.max);
    }
  }

  /** The window field of a SYN, which is never scaled. */
  get synWindow(): number {
    return Math.min(this.limit, MAX_UNSCALED);
  }

  /** Bytes the peer may still send beyond `nxt`, as last promised. */
  get window(): number {
    const w = (this.advertised - this.nxt) | 0;
    return Math.max(w, 0);
  }

  /** How far the right edge could be moved beyond what was promised. */
  get gain(): number {
    return (this.nxt + Math.max(this.limit - this.ring.length, 0) - this.advertised) | 0;
  }

  /** Whether the right edge can move far enough to be worth a packet of its own. */
  canOpen(mss: number): boolean {
    const gain = this.gain;
    return gain > 0 && gain >= Math.min(2 * mss, this.limit >> 1);
  }

  /**
   * The window field to send now; moves the promise forward by no less than a segment as the peer sends them, or half the
   * buffer (RFC 1122 §4.2.3.3).
   */
  advertise(): number {
    const { gain } = this;
    if (gain > 0 && gain >= Math.min(this.segment, this.limit >> 1)) this.advertised = (this.advertised + gain) | 0;
    const field = this.window >> this.shift;
    return Math.min(field, MAX_UNSCALED);
  }

  /** Takes in-order bytes (the segment starts at `nxt`, trimmed to the window). */
  inOrder(bytes: Uint8Array, offset: number, length: number, handlers: TcpHandlers): void {
    this.total += length;
    if (this.ring.length === 0 && this.ranges.count === 0 && !this.blocked) {
      this.nxt = (this.nxt + length) | 0;
      this.#delivering = true;
      const taken = handlers.onData(bytes, offset, length);
      this.#delivering = false;
      this.#taken += taken;
      if (taken === length || this.#released) return;
      this.blocked = true;
      this.#append(0, bytes, offset + taken, length - taken);
      this.ring.commit(length - taken);
      return;
    }
    this.#append(this.ring.length, bytes, offset, length);
    this.ring.commit(length);
    this.nxt = (this.nxt + length) | 0;
    if (this.ranges.count > 0) this.#join();
    if (this.blocked) handlers.onMore?.();
    else this.deliver(handlers);
  }

  /** Keeps a segment that lies beyond a gap. Returns how many of its bytes are new, −1 when it was not kept. */
  outOfOrder(seq: number, bytes: Uint8Array, offset: number, length: number): number {
    const gained = this.ranges.add(seq, (seq + length) | 0);
    if (gained < 0) return gained;
    this.#append(this.ring.length + ((seq - this.nxt) | 0), bytes, offset, length);
    this.blocks.note(this.ranges, seq);
    return gained;
  }

  /** Offers the application what is in the ring until it takes less than offered. Returns the bytes taken. */
  deliver(handlers: TcpHandlers): number {
    if (this.#delivering) return 0;
    this.#delivering = true;
    this.blocked = false;
    let total = 0;
    while (this.ring.length > 0) {
      const piece = this.ring.contiguous(0, this.ring.length);
      const taken = handlers.onData(this.ring.bytes, this.ring.head, piece);
      if (this.#released) return 0; // aborted inside the call
      this.ring.drop(taken);
      total += taken;
      if (taken < piece) {
        this.blocked = true;
        break;
      }
    }
    this.#delivering = false;
    this.#taken += total;
    if (this.ring.length === 0 && this.ranges.count === 0) this.ring.release();
    return total;
  }

  /**
   * Lets the buffer grow: as soon as the application has taken more than a quarter of it within one round trip, twice as
   * much may be under way. A sender in slow start, or BBR's start-up, nearly triples from one round trip to the next, and
   * what we promise reaches it half a round trip late: with less room it is held back by us and takes that for the path's
   * bandwidth.
   */
  tune(now: Instant, rtt: number): void {
    if (this.#since >= 0 && this.#taken > this.limit >> 2 && this.limit < this.max) {
      this.#grow(Math.min(this.limit * 2, this.max));
    } else if (this.#since >= 0 && now - this.#since < rtt) return;
    this.#since = now;
    this.#taken = 0;
  }

  /** The connection is over: nothing more is taken or delivered. */
  release(): void {
    this.#released = true;
    this.pool.release(this.#promised);
    this.#promised = 0;
    this.ring.release();
    this.ranges.clear();
    this.blocks.clear();
  }

  #grow(limit: number): void {
    const more = limit - this.limit;
    if (!this.pool.promise(more)) return;
    this.#promised += more;
    this.limit = limit;
  }

  /** What was held beyond the gap and now follows without one becomes part of the stream. */
  #join(): void {
    this.ranges.trimBelow(this.nxt);
    if (this.ranges.count === 0 || this.ranges.starts[0] !== this.nxt) return;
    const end = this.ranges.ends[0];
    const more = (end - this.nxt) | 0;
    this.ranges.trimBelow(end);
    this.nxt = end;
    this.total += more;
    this.ring.commit(more);
  }

  #append(distance: number, bytes: Uint8Array, offset: number, length: number): void {
    const held = this.ranges.count > 0 ? this.ring.length + this.#reach() : this.ring.length;
    this.ring.ensure(distance + length, Math.min(held, this.ring.capacity));
    this.ring.place(distance, bytes, offset, length);
  }

  /** Bytes from `nxt` to the end of what is held out of order. */
  #reach(): number {
    const reach = (this.ranges.ends[this.ranges.count - 1] - this.nxt) | 0;
    return Math.max(reach, 0);
  }
}
