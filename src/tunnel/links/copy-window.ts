/**
 * Which copies of a session have been taken: of two that carry the same number the first wins (cf. RFC 4303 §3.4.3).
 *
 *   … │ too old: dropped │◄──────── 4096 numbers, one bit each ────────►│ newer: the window moves on
 *                                                               newest ─┘
 */

/** Numbers the window holds: what two links whose delays differ by 0.5 s may have between them at 8,000 packets a second. */
export const COPY_WINDOW = 4096;
const WORDS = COPY_WINDOW / 32;

export class CopyWindow {
  readonly #bits = new Int32Array(WORDS);
  #newest = 0;
  #isEmpty = true;

  /** Whether the copy numbered `seq` (unsigned, 32 bits) is the first of its number; it is noted. */
  accept(seq: number): boolean {
    const ahead = (seq - this.#newest) | 0;
    if (this.#isEmpty || ahead > 0) {
      this.#advance(this.#isEmpty ? COPY_WINDOW : ahead);
      this.#newest = seq;
      this.#isEmpty = false;
    } else if (ahead <= -COPY_WINDOW) return false;
    const word = (seq >>> 5) & (WORDS - 1);
    const bit = 1 << (seq & 31);
    if ((this.#bits[word]! & bit) !== 0) return false;
    this.#bits[word]! |= bit;
    return true;
  }

  /** Clears the bits of the numbers that come into the window when it moves on by `count`. */
  #advance(count: number): void {
    if (count >= COPY_WINDOW) {
      this.#bits.fill(0);
      return;
    }
    for (let i = 1; i <= count; i++) {
      const seq = this.#newest + i;
      this.#bits[(seq >>> 5) & (WORDS - 1)]! &= ~(1 << (seq & 31));
    }
  }
}
