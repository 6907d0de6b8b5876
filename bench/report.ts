/** The outcome of a benchmark: one table of 80 columns for people, one JSON document for the record. */
import type { Machine } from './machine.js';
import type { Row } from './plan.js';
import type { RunRecord } from './run.js';
import { compare, RUNS_FOR_VERDICT, type Summary, spreadPercent, summarize, type Verdict } from './statistics.js';

export const TABLE_WIDTH = 80;
const LABEL_WIDTH = 28;
const CELL_WIDTH = 13;
const RATIO_WIDTH = TABLE_WIDTH - LABEL_WIDTH - 3 * CELL_WIDTH;

export interface SubjectInfo {
  readonly name: string;
  readonly version: string;
  /** Why it was left out. */
  readonly unavailable?: string;
}

export interface Report {
  readonly format: 1;
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  readonly plan: object;
  readonly tunnelMtu: number;
  readonly subjects: readonly SubjectInfo[];
  readonly rows: readonly ReportRow[];
  readonly runs: readonly RunRecord[];
}

export interface ReportRow extends Row {
  readonly subjects: Readonly<Record<string, Summary>>;
  /** Median of the first name over median of the second. */
  readonly ratio?: number;
  readonly verdict: Verdict;
}

/** `ours` and `peer` name the two subjects that the last column compares. */
export function summarizeRows(
  rows: readonly Row[],
  runs: readonly RunRecord[],
  ours: string,
  peer: string,
): ReportRow[] {
  return rows.map((row) => {
    const subjects: Record<string, Summary> = {};
    for (const name of new Set(runs.map((run) => run.subject))) {
      const values = runs.filter((run) => run.subject === name).flatMap((run) => run.values[row.id] ?? []);
      const summary = summarize(values);
      if (summary !== undefined) subjects[name] = summary;
    }
    const [mine, theirs] = [subjects[ours], subjects[peer]];
    const verdict = compare(mine, theirs, row.better);
    if (mine === undefined || theirs === undefined || theirs.median === 0) return { ...row, subjects, verdict };
    return { ...row, subjects, verdict, ratio: mine.median / theirs.median };
  });
}

/** The table: medians, half the range in percent, ratio of the last subject to the peer. At most 80 columns wide. */
export function renderTable(report: Report, ours: string, peer: string): string {
  const names = report.subjects.map((subject) => subject.name);
  const lines = [
    ...heading(report),
    '',
    cells('median ± half range', names, `${ours}/${peer === 'wireguard-go' ? 'wg' : peer}`),
    '-'.repeat(TABLE_WIDTH),
    ...report.rows.map((row) =>
      cells(
        `${row.label} (${row.unit})`,
        names.map((name) => cell(row.subjects[name])),
        ratioText(row),
      ),
    ),
    '-'.repeat(TABLE_WIDTH),
    ...notes(report),
  ];
  return lines.map((line) => line.trimEnd()).join('\n');
}

function heading(report: Report): string[] {
  const { machine } = report;
  const busy = summarize(report.runs.map((run) => run.otherLoad));
  const stolen = summarize(report.runs.map((run) => run.steal));
  return [
    `Sallyport benchmark, commit ${machine.commit}${machine.modified ? ' (modified)' : ''}, ${report.date}`,
    `${machine.cpu}, ${machine.cores} cores, kernel ${machine.kernel}, Node ${machine.node}`,
    `network namespaces on one machine; tunnel MTU ${report.tunnelMtu}; ${machine.iperf3}`,
    `cores busy with other things: median ${(busy?.median ?? 0).toFixed(2)}, most ${(busy?.max ?? 0).toFixed(2)}; stolen: most ${(stolen?.max ?? 0).toFixed(2)}`,
    ...report.subjects.map((subject) => `  ${subject.name}: ${subject.unavailable ?? subject.version}`),
  ].flatMap((line) => wrap(line, '    '));
}

function notes(report: Report): string[] {
  const errors = report.runs.flatMap((run) =>
    Object.entries(run.errors).map(([what, error]) => `${run.subject}, round ${run.round + 1}, ${what}: ${error}`),
  );
  return [
    'up = user to service. CPU over the TCP rows; its processes: user and system time.',
    `better/worse: the ranges of the runs do not touch; same: they do (from ${RUNS_FOR_VERDICT} runs on).`,
    ...errors.map((error) => `! ${error.split('\n')[0]}`),
  ].flatMap((line) => wrap(line, '  '));
}

function cells(label: string, values: readonly string[], last: string): string {
  const middle = values.map((value) => value.slice(0, CELL_WIDTH - 1).padStart(CELL_WIDTH));
  return `${label.slice(0, LABEL_WIDTH).padEnd(LABEL_WIDTH)}${middle.join('')}${last.slice(0, RATIO_WIDTH - 1).padStart(RATIO_WIDTH)}`;
}

function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '-';
  const spread =
    summary.runs > 1 && summary.median !== 0 ? ` ±${Math.min(999, Math.round(spreadPercent(summary)))}%` : '';
  return significant(summary.median) + spread;
}

function ratioText(row: ReportRow): string {
  const verdict = row.verdict === 'unknown' ? '' : row.verdict;
  return row.ratio === undefined ? verdict : `${row.ratio.toFixed(2)} ${verdict}`.trim();
}

/** Three significant digits, never in exponent form. */
export function significant(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size === 0 || size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

function wrap(line: string, indent: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > TABLE_WIDTH) {
    const space = rest.lastIndexOf(' ', TABLE_WIDTH);
    const cut = space > indent.length ? space : TABLE_WIDTH;
    lines.push(rest.slice(0, cut));
    rest = indent + rest.slice(cut).trimStart();
  }
  return [...lines, rest];
}
