/** The runs of a benchmark, summed up row by row: medians of all subjects, and Sallyport beside its peers. */
import type { Row } from './plan.js';
import { isDisturbed, type RunRecord } from './run.js';
import { compare, type Summary, summarize, type Verdict } from './statistics.js';

export const OURS = 'sallyport';
/** The same by another path or in another mode: no peers of itself. */
const ALSO_OURS: ReadonlySet<string> = new Set(['sallyport-direct', 'sallyport-kernel']);
/** The peer that has a column of its own; the other column has whichever is best in the row. */
export const MAIN_PEER = 'wireguard-go';
/** No tunnel: not a peer. */
const BASELINE = 'none';

export interface ReportRow extends Row {
  readonly subjects: Readonly<Record<string, Summary>>;
  /** Our median over the main peer's. */
  readonly ratio?: number;
  /** The peer with the best median, and our median over its. */
  readonly best?: string;
  readonly bestRatio?: number;
  /** Against the best peer. */
  readonly verdict: Verdict;
}

export function summarizeRows(rows: readonly Row[], runs: readonly RunRecord[]): ReportRow[] {
  const names = [...new Set(runs.map((run) => run.subject))];
  return rows.map((row) => {
    const subjects: Record<string, Summary> = {};
    for (const name of names) {
      const measured = runs.filter((run) => run.subject === name && run.values[row.id] !== undefined);
      const calm = measured.filter((run) => !isDisturbed(run));
      // A figure from a busy machine is better than none; the heading of the table tells how busy it was.
      const values = (calm.length > 0 ? calm : measured).map((run) => run.values[row.id]!);
      const summary = summarize(values);
      if (summary !== undefined) subjects[name] = summary;
    }
    const best = bestPeer(row, subjects);
    return {
      ...row,
      subjects,
      ...ratioTo(subjects[OURS], subjects[MAIN_PEER], (ratio) => ({ ratio })),
      ...(best === undefined ? {} : { best }),
      ...ratioTo(subjects[OURS], best === undefined ? undefined : subjects[best], (bestRatio) => ({ bestRatio })),
      verdict: compare(subjects[OURS], best === undefined ? undefined : subjects[best], row.better),
    };
  });
}

function bestPeer(row: Row, subjects: Readonly<Record<string, Summary>>): string | undefined {
  const sign = row.better === 'higher' ? -1 : 1;
  return Object.entries(subjects)
    .filter(([name]) => name !== OURS && !ALSO_OURS.has(name) && name !== BASELINE)
    .sort(([, one], [, other]) => sign * (one.median - other.median))[0]?.[0];
}

function ratioTo<T extends object>(
  ours: Summary | undefined,
  theirs: Summary | undefined,
  make: (ratio: number) => T,
): T | object {
  return ours === undefined || theirs === undefined || theirs.median === 0 ? {} : make(ours.median / theirs.median);
}
