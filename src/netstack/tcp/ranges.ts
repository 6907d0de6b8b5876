/**
 * A bounded, sorted set of disjoint sequence ranges: what a receiver holds beyond a gap, and what a sender knows to have
 * arrived beyond a gap (the scoreboard).
 *
 *   starts[0] ─ ends[0]   gap   starts[1] ─ ends[1]   gap   …        all within 2^31 of each other, ends exclusive
 *
 * RFC 2018 §3–5, RFC 6675 §3.
 */
import { seqAfter, seqAtOrAfter, seqAtOrBefore, seqBefore } from './sequence.js';

const NONE = new Int32Array(0);
const FIRST_ROOM = 8;

export class SequenceRanges {
  /** Made with the first range: most connections never need them. */
  starts: Int32Array = NONE;
  ends: Int32Array = NONE;
  count = 0;
  /** Bytes in all ranges. */
  bytes = 0;

  /** @param limit most ranges held at once. */
  constructor(readonly limit: number) {}

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }

  /**
   * Adds [start, end), joining what touches or overlaps. Returns how many bytes are new (0 = all known), or −1 when the
   * range would be one too many.
   */
  add(start: number, end: number): number {
    // First range whose end is at or after start: nothing before it touches the new one.
    let first = this.count;
    while (first > 0 && seqAtOrAfter(this.ends[first - 1], start)) first--;
    let last = first;
    let covered = 0;
    let from = start;
    let to = end;
    while (last < this.count && seqAtOrBefore(this.starts[last], end)) {
      covered += (this.ends[last] - this.starts[last]) | 0;
      if (seqBefore(this.starts[last], from)) from = this.starts[last];
      if (seqAfter(this.ends[last], to)) to = this.ends[last];
      last++;
    }
    if (first === last) {
      if (this.count === this.starts.length && !this.#grow()) return -1;
      this.starts.copyWithin(first + 1, first, this.count);
      this.ends.copyWithin(first + 1, first, this.count);
      this.count++;
    } else if (last - first > 1) {
      this.starts.copyWithin(first + 1, last, this.count);
      this.ends.copyWithin(first + 1, last, this.count);
      this.count -= last - first - 1;
    }
    this.starts[first] = from;
    this.ends[first] = to;
    const gained = ((to - from) | 0) - covered;
    this.bytes += gained;
    return gained;
  }

  /** Doubles the room, up to the limit. False when the limit is reached. */
  #grow(): boolean {
    const room = Math.min(Math.max(this.starts.length * 2, FIRST_ROOM), this.limit);
    if (room === this.starts.length) return false;
    const [starts, ends] = [new Int32Array(room), new Int32Array(room)];
    starts.set(this.starts);
    ends.set(this.ends);
    this.starts = starts;
    this.ends = ends;
    return true;
  }

  /** Forgets everything before `seq`. */
  trimBelow(seq: number): void {
    let gone = 0;
    while (gone < this.count && seqAtOrBefore(this.ends[gone], seq)) {
      this.bytes -= (this.ends[gone] - this.starts[gone]) | 0;
      gone++;
    }
    if (gone > 0) {
      this.starts.copyWithin(0, gone, this.count);
      this.ends.copyWithin(0, gone, this.count);
      this.count -= gone;
    }
    if (this.count > 0 && seqBefore(this.starts[0], seq)) {
      this.bytes -= (seq - this.starts[0]) | 0;
      this.starts[0] = seq;
    }
  }

  /** The index of the range that holds `seq`, or −1. */
  indexOf(seq: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (seqAtOrBefore(this.ends[middle], seq)) low = middle + 1;
      else high = middle;
    }
    return low < this.count && seqAtOrBefore(this.starts[low], seq) ? low : -1;
  }
}
