/**
 * How often values fell between fixed bounds, so that noting one costs no memory:
 *
 *   bucket 0: ≤ bounds[0] │ 1: ≤ bounds[1] │ … │ the last: anything above
 */

export class Histogram {
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  /** The largest value; 0 before the first. */
  largest = 0;
  /** Of all values. */
  sum = 0;

  /** @param bounds upper ends of the buckets, rising, in the unit of the values */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** @param value 0 or more */
  add(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    this.#counts[bucket]!++;
    this.sum += value;
    if (value > this.largest) this.largest = value;
  }

  /** How many values were no greater than each bound; behind the last one: how many there were. */
  cumulative(): number[] {
    let below = 0;
    return Array.from(this.#counts, (count) => {
      below += count;
      return below;
    });
  }
}
