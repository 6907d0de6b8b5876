/**
 * What a sender has outstanding, as records of what was sent when: the scoreboard of SACK and the clock of RACK.
 *
 *   una = starts[head]      starts[head+1]      …                end = nxt         contiguous, sorted by sequence
 *   │ time, marks            │ time, marks       │ …             │
 *   marks: SACKED (arrived beyond a gap) · LOST (waits to be sent again) · RESENT (was sent more than once) ·
 *          LIMITED (sent while the application had no more)      and what had been delivered at its sending (delivery-rate.ts)
 *
 * One flush makes one record however many segments it holds; records are split where acknowledgements or losses divide
 * them. Bytes in flight = end − una − sacked − lost. RFC 8985 §5.1, RFC 6675 §3–4.
 */
import type { Instant } from '../../base/time.js';
import type { DeliveryRate } from './delivery-rate.js';
import { seqAfter } from './sequence.js';

export const SACKED = 1;
export const LOST = 2;
export const RESENT = 4;
export const LIMITED = 8;

/** A power of two. V8 keeps arrays of up to 64 bytes in its own heap; larger ones cost a connection a microsecond and a finalizer each. */
const FIRST_ROOM = 8;
/** More than 4 MiB in full segments; a split on top fails, and what it would have told is forgotten (SACK is advice). */
const MAX_RECORDS = 4096;

const NO_SEQUENCES = new Int32Array(0);
const NO_TIMES = new Float64Array(0);
const NO_MARKS = new Uint8Array(0);

export class SendLog {
  /** First record and one past the last, in the arrays. */
  head = 0;
  tail = 0;
  starts: Int32Array = NO_SEQUENCES;
  times: Float64Array = NO_TIMES;
  marks: Uint8Array = NO_MARKS;
  delivered: Float64Array = NO_TIMES;
  deliveredAt: Float64Array = NO_TIMES;
  firstSentAt: Float64Array = NO_TIMES;
  /** One past the last number sent. */
  end = 0;
  /** Bytes marked SACKED, and LOST. */
  sacked = 0;
  lost = 0;
  /** Records marked RESENT. */
  resent = 0;
  /** No record before this index is marked LOST. */
  #firstLost = 0;

  /** Nothing is outstanding; the next number is `seq`. */
  reset(seq: number): void {
    this.head = 0;
    this.tail = 0;
    this.end = seq;
    this.sacked = 0;
    this.lost = 0;
    this.resent = 0;
    if (this.starts.length > FIRST_ROOM) {
      this.starts = NO_SEQUENCES;
      this.times = NO_TIMES;
      this.marks = NO_MARKS;
      this.delivered = NO_TIMES;
      this.deliveredAt = NO_TIMES;
      this.firstSentAt = NO_TIMES;
    }
  }

  /** The end of record `i`. */
  endOf(i: number): number {
    return i + 1 < this.tail ? this.starts[i + 1] : this.end;
  }

  lengthOf(i: number): number {
    return (this.endOf(i) - this.starts[i]) | 0;
  }

  /** `length` numbers from `end` on were sent for the first time. */
  sent(now: Instant, length: number): void {
    const last = this.tail - 1;
    const joins = last >= this.head && this.times[last] === now && (this.marks[last] & ~LIMITED) === 0;
    if (!joins && this.#room()) {
      this.starts[this.tail] = this.end;
      this.times[this.tail] = now;
      this.marks[this.tail] = 0;
      this.tail++;
    } else if (!joins) this.times[last] = now;
    this.end = (this.end + length) | 0;
  }

  /** Record `i` was sent with `rate` as it is now. */
  remember(i: number, rate: DeliveryRate): void {
    this.delivered[i] = rate.delivered;
    this.deliveredAt[i] = rate.deliveredAt;
    this.firstSentAt[i] = rate.firstSentAt;
    if (rate.limitedUntil > 0) this.marks[i] |= LIMITED;
    else this.marks[i] &= ~LIMITED;
  }

  /** Forgets record `head`, which is acknowledged. */
  dropHead(): void {
    const i = this.head;
    const length = this.lengthOf(i);
    const mark = this.marks[i];
    if ((mark & SACKED) !== 0) this.sacked -= length;
    if ((mark & LOST) !== 0) this.lost -= length;
    if ((mark & RESENT) !== 0) this.resent--;
    this.head++;
    if (this.head === this.tail) this.reset(this.end);
  }

  /** The index of the record that holds `seq`, which lies in [una, end). */
  indexOf(seq: number): number {
    let low = this.head;
    let high = this.tail - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (seqAfter(this.starts[middle], seq)) high = middle - 1;
      else low = middle;
    }
    return low;
  }

  /**
   * Makes a record begin at `seq`, which lies in [una, end]. Returns its index (`tail` for `end`), or −1 when there is no
   * room for one more. Indices of records from there on move up by one when it was in the middle of one.
   */
  split(seq: number): number {
    if (seq === this.end) return this.tail;
    const at = this.indexOf(seq);
    if (this.starts[at] === seq) return at;
    const before = this.head;
    if (!this.#room()) return -1;
    const i = at - before + this.head + 1;
    this.#move(i, i + 1);
    this.starts[i] = seq;
    this.times[i] = this.times[i - 1];
    this.marks[i] = this.marks[i - 1];
    this.delivered[i] = this.delivered[i - 1];
    this.deliveredAt[i] = this.deliveredAt[i - 1];
    this.firstSentAt[i] = this.firstSentAt[i - 1];
    this.tail++;
    if ((this.marks[i] & RESENT) !== 0) this.resent++;
    if (i <= this.#firstLost) this.#firstLost++;
    return i;
  }

  /** Record `i` arrived beyond a gap. */
  markSacked(i: number): void {
    const length = this.lengthOf(i);
    if ((this.marks[i] & LOST) !== 0) this.lost -= length;
    this.marks[i] = (this.marks[i] & RESENT) | SACKED;
    this.sacked += length;
  }

  /** Record `i` is lost: it waits to be sent again. */
  markLost(i: number): void {
    if ((this.marks[i] & (LOST | SACKED)) !== 0) return;
    this.marks[i] |= LOST;
    if (this.lost === 0 || i < this.#firstLost) this.#firstLost = i;
    this.lost += this.lengthOf(i);
  }

  /** Record `i` was sent again. */
  markResent(i: number, now: Instant): void {
    if ((this.marks[i] & LOST) !== 0) this.lost -= this.lengthOf(i);
    if ((this.marks[i] & RESENT) === 0) this.resent++;
    this.marks[i] = RESENT;
    this.times[i] = now;
  }

  /** Joins the records SACKED next to each other around [first, last]; what a joined one was is of no interest any more. */
  joinSacked(first: number, last: number): void {
    let from = first;
    let to = last;
    while (from > this.head && (this.marks[from - 1] & SACKED) !== 0) from--;
    while (to + 1 < this.tail && (this.marks[to + 1] & SACKED) !== 0) to++;
    if (to === from) return;
    for (let i = from; i <= to; i++) if ((this.marks[i] & RESENT) !== 0) this.resent--;
    this.marks[from] = SACKED;
    const gone = to - from;
    this.#move(to + 1, from + 1);
    this.tail -= gone;
    if (this.#firstLost > to) this.#firstLost -= gone;
    else if (this.#firstLost > from) this.#firstLost = from;
  }

  /** The first record that waits to be sent again; call only while `lost` > 0. */
  firstLost(): number {
    let i = Math.max(this.#firstLost, this.head);
    while ((this.marks[i] & LOST) === 0) i++;
    this.#firstLost = i;
    return i;
  }

  /** Whether `length` numbers in a row have arrived beyond a gap. */
  hasSacked(length: number): boolean {
    if (this.sacked < length) return false;
    for (let i = this.head; i < this.tail; i++) {
      if ((this.marks[i] & SACKED) !== 0 && this.lengthOf(i) >= length) return true;
    }
    return false;
  }

  /** Forgets every SACKED mark (the receiver took its word back, RFC 2018 §8). */
  forgetSacked(): void {
    for (let i = this.head; i < this.tail; i++) this.marks[i] &= ~SACKED;
    this.sacked = 0;
  }

  /** Forgets every LOST mark: nothing was lost. */
  forgetLost(): void {
    for (let i = this.head; i < this.tail; i++) this.marks[i] &= ~LOST;
    this.lost = 0;
  }

  /** The head record begins at `una` from now on (part of it is acknowledged). */
  trimHead(una: number): void {
    const i = this.head;
    const gone = (una - this.starts[i]) | 0;
    if ((this.marks[i] & SACKED) !== 0) this.sacked -= gone;
    if ((this.marks[i] & LOST) !== 0) this.lost -= gone;
    this.starts[i] = una;
  }

  /** Makes room for one more record behind the last; false when there are as many as may be. */
  #room(): boolean {
    if (this.tail < this.starts.length) return true;
    const count = this.tail - this.head;
    if (this.head > 0 && this.head >= this.starts.length >> 2) {
      this.#move(this.head, 0);
      this.#firstLost = Math.max(this.#firstLost - this.head, 0);
      this.head = 0;
      this.tail = count;
      return true;
    }
    if (this.starts.length >= MAX_RECORDS) return false;
    const room = Math.max(this.starts.length * 2, FIRST_ROOM);
    const [starts, marks] = [new Int32Array(room), new Uint8Array(room)];
    starts.set(this.starts);
    marks.set(this.marks);
    this.starts = starts;
    this.marks = marks;
    this.times = grown(this.times, room);
    this.delivered = grown(this.delivered, room);
    this.deliveredAt = grown(this.deliveredAt, room);
    this.firstSentAt = grown(this.firstSentAt, room);
    return true;
  }

  /** Moves the records from `from` to the last one to index `to`. */
  #move(from: number, to: number): void {
    this.starts.copyWithin(to, from, this.tail);
    this.times.copyWithin(to, from, this.tail);
    this.marks.copyWithin(to, from, this.tail);
    this.delivered.copyWithin(to, from, this.tail);
    this.deliveredAt.copyWithin(to, from, this.tail);
    this.firstSentAt.copyWithin(to, from, this.tail);
  }
}

function grown(values: Float64Array, room: number): Float64Array {
  const larger = new Float64Array(room);
  larger.set(values);
  return larger;
}
