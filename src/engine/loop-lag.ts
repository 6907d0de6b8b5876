/** How late turns of a loop begin: shares of them, and how many were later than what a user would notice. */
import { Histogram } from './histogram.js';

/** Upper ends of the buckets, microseconds: three or four a decade where a loop's lag is looked for. */
export const LAG_BOUNDS = [
  20, 50, 100, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000, 20_000, 50_000, 100_000,
] as const;

export class LoopLag {
  readonly #lags = new Histogram(LAG_BOUNDS);

  /** Of all turns, microseconds. */
  get longest(): number {
    return this.#lags.largest;
  }

  /** @param micros how long after it was due a turn began, from 0 on */
  add(micros: number): void {
    this.#lags.add(micros);
  }

  /** Turns that began more than so many milliseconds late, by each bound. */
  over(): Record<string, number> {
    const within = this.#lags.cumulative();
    const turns = within.at(-1)!;
    return Object.fromEntries(LAG_BOUNDS.map((bound, i) => [bound / 1_000, turns - within[i]!]));
  }

  /** A lag in microseconds that the share `q` (0 … 1) of the turns did not exceed. 0 before the first turn. */
  quantile(q: number): number {
    const within = this.#lags.cumulative();
    const bucket = within.findIndex((count) => count >= q * within.at(-1)!);
    return Math.min(LAG_BOUNDS[bucket] ?? this.longest, this.longest);
  }
}
