/** The few statistics a benchmark of few runs can honestly give. */

export interface Summary {
  readonly runs: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The value below which the share `q` (0 … 1) of the values lies, between neighbours by proportion. NaN without values. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low);
}

/** Undefined without values. */
export function summarize(values: readonly number[]): Summary | undefined {
  if (values.length === 0) return undefined;
  return { runs: values.length, median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values) };
}

/** Half the range in percent of the median: how far apart the runs are. */
export function spreadPercent(summary: Summary): number {
  if (summary.median === 0) return summary.max === summary.min ? 0 : 100;
  return ((summary.max - summary.min) / 2 / summary.median) * 100;
}

/** Jain's index of fairness: 1 when all shares are equal, 1/n when one has everything; 1 when nothing was shared out. */
export function jainIndex(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0);
  const squares = shares.reduce((total, share) => total + share * share, 0);
  return squares === 0 ? 1 : (sum * sum) / (shares.length * squares);
}

export type Verdict = 'better' | 'worse' | 'same' | 'unknown';

/** Fewest runs of each side that a verdict needs: with three, ranges that do not touch happen by chance once in ten times. */
export const RUNS_FOR_VERDICT = 3;

/**
 * Whether `ours` beats `theirs`. The ranges of the runs must not touch; where they do the verdict is `same`: a few runs can
 * show no more. `unknown` with fewer than RUNS_FOR_VERDICT runs of either.
 */
export function compare(ours: Summary | undefined, theirs: Summary | undefined, better: 'higher' | 'lower'): Verdict {
  if (ours === undefined || theirs === undefined) return 'unknown';
  if (Math.min(ours.runs, theirs.runs) < RUNS_FOR_VERDICT) return 'unknown';
  if (ours.max < theirs.min) return better === 'lower' ? 'better' : 'worse';
  if (ours.min > theirs.max) return better === 'higher' ? 'better' : 'worse';
  return 'same';
}
