/**
 * How late turns of a loop begin: a histogram with fixed buckets, so that noting a turn costs no memory.
 *
 *   bucket 0: ≤ LAG_BOUNDS[0] │ 1: ≤ LAG_BOUNDS[1] │ … │ the last: anything above
 */

/** Upper ends of the buckets, microseconds: three or four a decade where a loop's lag is looked for. */
export const LAG_BOUNDS = [
  20, 50, 100, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 20_000, 50_000, 100_000,
] as const;

export class LoopLag {
  readonly #counts = new Float64Array(LAG_BOUNDS.length + 1);
  /** Of all turns, microseconds. */
  longest = 0;

  /** @param micros how long after it was due a turn began, from 0 on */
  add(micros: number): void {
    let bucket = 0;
    while (bucket < LAG_BOUNDS.length && micros > LAG_BOUNDS[bucket]!) bucket++;
    this.#counts[bucket]!++;
    if (micros > this.longest) this.longest = micros;
  }

  /** Turns that began more than so many milliseconds late, by each bound. */
  over(): Record<string, number> {
    const result: Record<string, number> = {};
    let above = 0;
    for (let i = LAG_BOUNDS.length - 1; i >= 0; i--) {
      above += this.#counts[i + 1]!;
      result[LAG_BOUNDS[i]! / 1_000] = above;
    }
    return result;
  }

  /** A lag in microseconds that the share `q` (0 … 1) of the turns did not exceed. 0 before the first turn. */
  quantile(q: number): number {
    let turns = 0;
    for (let i = 0; i < this.#counts.length; i++) turns += this.#counts[i]!;
    let below = 0;
    for (let i = 0; i < LAG_BOUNDS.length; i++) {
      below += this.#counts[i]!;
      if (below >= q * turns) return Math.min(LAG_BOUNDS[i]!, this.longest);
    }
    return this.longest;
  }
}
