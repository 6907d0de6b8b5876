/**
 * What became of the last 32 heartbeats of one direction, one bit each, the newest lowest: 1 came, 0 was lost.
 *
 *   push(lost 2, came 1)      …1111 ──► …1111001
 */

/** Heartbeats over which loss is compared. */
export const LOSS_WINDOW = 16;
const CAPACITY = 32;

export class BeatHistory {
  #bits = 0;
  #length = 0;

  /** Heartbeats known, 32 at most. */
  get length(): number {
    return this.#length;
  }

  /** `lost` heartbeats, and then `came` that arrived. */
  push(lost: number, came: number): void {
    this.#shift(lost, 0);
    this.#shift(came, 1);
  }

  /** The heartbeat `age` before the newest came after all. False: it is out of sight, or was known to have come. */
  cameLate(age: number): boolean {
    if (age >= this.#length || (this.#bits & (1 << age)) !== 0) return false;
    this.#bits |= 1 << age;
    return true;
  }

  /**
   * Share that was lost among the newest `window`, taking `overdue` younger ones for lost as well; 0 when none are known.
   * @param window 1 … 32
   */
  loss(window: number, overdue = 0): number {
    const late = Math.min(overdue, window);
    const known = Math.min(this.#length, window - late);
    if (known + late === 0) return 0;
    let lost = late;
    for (let i = 0; i < known; i++) if ((this.#bits & (1 << i)) === 0) lost++;
    return lost / (known + late);
  }

  clear(): void {
    this.#length = 0;
  }

  #shift(count: number, bit: 0 | 1): void {
    const n = Math.min(count, CAPACITY);
    for (let i = 0; i < n; i++) this.#bits = (this.#bits << 1) | bit;
    this.#length = Math.min(CAPACITY, this.#length + n);
  }
}
