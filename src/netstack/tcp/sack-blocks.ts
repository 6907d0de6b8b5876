/**
 * Which ranges held beyond a gap an acknowledgement names, and how many acknowledgements a batch of segments is worth.
 *
 *   arrivals   1 2 · 4 · 6 · · 9        first the range of the newest segment, then those named last, and so on back
 *   ack 1   4                           each range is in three acknowledgements while more come, so that two may be lost;
 *   ack 2   6 4                         one that is named late looks to its sender as if segments had overtaken each other
 *   ack 3   9 6 4                       (RFC 8985 §6.2.3), one that is never named as if it were lost
 *
 * RFC 2018 §4, RFC 5681 §4.2.
 */
import type { SequenceRanges } from './ranges.js';

/** Blocks that fit beside a timestamp (RFC 7323 appendix A, RFC 2018 §3). */
export const SACK_BLOCKS = 3;
/** Acknowledgements of one batch at most; a sender has learnt enough by then. */
export const MAX_DUPLICATES = 64;
/** Segments remembered: as many as these acknowledgements can name. */
const ROOM = SACK_BLOCKS * MAX_DUPLICATES;

const NONE = new Int32Array(0);

export class SackBlocks {
  /** A number in each range, in the order in which they were last added to; made with the first. */
  #seqs = NONE;
  #count = 0;
  /** How many of them have been named first, or are left out because a newer one speaks for them. */
  #told = 0;
  /** The range that comes next where there is a block to spare. */
  #spare = 0;

  clear(): void {
    this.#count = 0;
    this.#told = 0;
  }

  /** A segment at `seq` is in `ranges` now. */
  note(ranges: SequenceRanges, seq: number): void {
    if (this.#seqs.length === 0) this.#seqs = new Int32Array(ROOM);
    const seqs = this.#seqs;
    const range = ranges.indexOf(seq);
    // What has grown moves to the front instead of standing there twice.
    for (let i = this.#count - 1; i >= 0 && i >= this.#count - SACK_BLOCKS; i--) {
      if (ranges.indexOf(seqs[i]!) === range) {
        this.#remove(i);
        break;
      }
    }
    if (this.#count === ROOM) this.#remove(0);
    seqs[this.#count++] = seq;
  }

  /** Acknowledgements that what came since the last ones is worth, at least one. */
  get due(): number {
    const untold = this.#count - this.#told;
    return Math.max(untold <= MAX_DUPLICATES ? untold : Math.ceil(untold / SACK_BLOCKS), 1);
  }

  /**
   * Writes the blocks of the next of `left` acknowledgements that are still to be sent, this one included. Returns how many
   * blocks there are.
   */
  write(ranges: SequenceRanges, edges: Uint32Array, left: number): number {
    const untold = this.#count - this.#told;
    this.#told = left <= 1 ? this.#count : Math.min(this.#told + Math.ceil(untold / left), this.#count);
    let blocks = 0;
    for (let i = this.#told - 1; i >= 0 && blocks < SACK_BLOCKS; i--) {
      blocks = this.#add(ranges, ranges.indexOf(this.#seqs[i]!), edges, blocks);
    }
    if (this.#told < this.#count) return blocks;
    // Only when the newest has been named: one named before those below it looks as if it had overtaken them.
    for (let tried = 0; tried < ranges.count && blocks < SACK_BLOCKS; tried++) {
      if (this.#spare >= ranges.count) this.#spare = 0;
      blocks = this.#add(ranges, this.#spare++, edges, blocks);
    }
    this.#keepLast();
    return blocks;
  }

  /** Adds a range unless it is there already or gone (−1). */
  #add(ranges: SequenceRanges, range: number, edges: Uint32Array, blocks: number): number {
    if (range < 0) return blocks;
    const start = ranges.starts[range]! >>> 0;
    for (let i = 0; i < blocks; i++) if (edges[2 * i] === start) return blocks;
    edges[2 * blocks] = start;
    edges[2 * blocks + 1] = ranges.ends[range]!;
    return blocks + 1;
  }

  #keepLast(): void {
    const extra = this.#count - SACK_BLOCKS;
    if (extra <= 0) return;
    this.#seqs.copyWithin(0, extra, this.#count);
    this.#count = SACK_BLOCKS;
    this.#told = SACK_BLOCKS;
  }

  #remove(i: number): void {
    this.#seqs.copyWithin(i, i + 1, this.#count);
    this.#count--;
    if (i < this.#told) this.#told--;
  }
}
