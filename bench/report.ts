/** The outcome of a benchmark: one JSON document for the record, and a table for people. */
import { SallyportError } from '../src/base/error.js';
import type { Machine } from './machine.js';
import { type Link, type Plan, rowsOf } from './plan.js';
import { isDisturbed, type RunRecord } from './run.js';
import { RUNS_FOR_VERDICT, type Summary, spreadPercent, summarize } from './statistics.js';
import { MAIN_PEER, OURS, type ReportRow, summarizeRows } from './summary.js';

export const TABLE_WIDTH = 80;
const LABEL_WIDTH = 28;
const CELL_WIDTH = 13;
/** Two ratios and the verdict. */
const RATIO_WIDTH = 24;
/** Subjects beside each other in one block of the table: none, a peer, ours. */
const SUBJECTS_PER_BLOCK = Math.floor((TABLE_WIDTH - LABEL_WIDTH) / CELL_WIDTH);

export interface SubjectInfo {
  readonly name: string;
  readonly version: string;
  /** Why it was left out. */
  readonly unavailable?: string;
}

export interface Report {
  readonly format: 2;
  readonly date: string;
  /** Every command that added runs, oldest first. */
  readonly commands: readonly string[];
  readonly machine: Machine;
  readonly tunnelMtu: number;
  readonly plan: Plan;
  readonly subjects: readonly SubjectInfo[];
  readonly rows: readonly ReportRow[];
  readonly runs: readonly RunRecord[];
}

/** `earlier` and what was measured now, as one. Throws BENCH_USAGE unless every measurement took the same time in both. */
export function mergeReports(earlier: Report, now: Report): Report {
  const times = (report: Report): string => JSON.stringify([report.plan.clean, report.plan.lossy, report.tunnelMtu]);
  if (times(earlier) !== times(now)) {
    throw new SallyportError('caller', 'BENCH_USAGE', 'the earlier benchmark measured for other times');
  }
  const links = [...earlier.plan.links, ...now.plan.links].filter(
    (link, index, all) => all.findIndex((one) => one.id === link.id) === index,
  );
  const plan = { ...now.plan, links };
  const runs = [...earlier.runs, ...now.runs];
  const subjects = [...new Map([...earlier.subjects, ...now.subjects].map((one) => [one.name, one])).values()];
  return {
    ...now,
    commands: [...new Set([...earlier.commands, ...now.commands])],
    plan,
    subjects,
    rows: summarizeRows(rowsOf(plan), runs),
    runs,
  };
}

/** The table: medians, half the range in percent, ratios to the peers. At most 80 columns wide. */
export function renderTable(report: Report): string {
  const lines = [...heading(report)];
  for (const link of report.plan.links) lines.push('', ...linkTable(report, link));
  lines.push('', ...notes(report));
  return lines.map((line) => line.trimEnd()).join('\n');
}

function linkTable(report: Report, link: Link): string[] {
  const rows = report.rows.filter((row) => row.link === link.id);
  const names = report.subjects.filter((one) => one.unavailable === undefined).map((one) => one.name);
  const lines: string[] = [];
  for (let from = 0; from < names.length; from += SUBJECTS_PER_BLOCK) {
    const block = names.slice(from, from + SUBJECTS_PER_BLOCK);
    lines.push(
      cells(`${link.label}: median ± half range`, block),
      '-'.repeat(TABLE_WIDTH),
      ...rows.map((row) =>
        cells(
          rowLabel(row),
          block.map((name) => cell(row.subjects[name])),
        ),
      ),
      '',
    );
  }
  if (!names.includes(OURS) || names.length < 2) return lines;
  lines.push(
    `${`${link.label}: ${OURS} over`.padEnd(LABEL_WIDTH)}${MAIN_PEER.padStart(CELL_WIDTH)}  the best peer`,
    '-'.repeat(TABLE_WIDTH),
    ...rows.map((row) => `${rowLabel(row).slice(0, LABEL_WIDTH).padEnd(LABEL_WIDTH)}${ratios(row)}`),
  );
  return lines;
}

function rowLabel(row: ReportRow): string {
  return row.unit === '' ? row.label : `${row.label} (${row.unit})`;
}

function ratios(row: ReportRow): string {
  const verdict = row.verdict === 'unknown' ? '' : row.verdict;
  const best = `${(row.bestRatio?.toFixed(2) ?? '').padStart(7)} ${row.best ?? ''} ${verdict}`.trimEnd();
  return `${(row.ratio?.toFixed(2) ?? '').padStart(CELL_WIDTH)}  ${best}`.slice(0, CELL_WIDTH + RATIO_WIDTH + 12);
}

function heading(report: Report): string[] {
  const { machine } = report;
  const busy = summarize(report.runs.map((run) => run.loadDuring));
  const disturbed = report.runs.filter(isDisturbed).length;
  const stolen = summarize(report.runs.map((run) => run.steal));
  return [
    `Sallyport benchmark, commit ${machine.commit}${machine.modified ? ' (modified)' : ''}, ${report.date}`,
    `${machine.cpu}, ${machine.cores} cores, kernel ${machine.kernel}, Node ${machine.node}`,
    `network namespaces on one machine; tunnel MTU ${report.tunnelMtu}; ${machine.iperf3}; kernel's TCP: ${machine.congestion}`,
    `cores busy with other things: median ${(busy?.median ?? 0).toFixed(2)}, most ${(busy?.max ?? 0).toFixed(2)}; stolen: most ${(stolen?.max ?? 0).toFixed(2)}; ${disturbed} of ${report.runs.length} runs on a busy machine, left out of the medians where there are others`,
    ...report.subjects.map((subject) => `  ${subject.name}: ${subject.unavailable ?? subject.version}`),
  ].flatMap((line) => wrap(line, '    '));
}

function notes(report: Report): string[] {
  const errors = report.runs.flatMap((run) =>
    Object.entries(run.errors).map(([what, error]) => `${run.subject}, round ${run.round + 1}, ${what}: ${error}`),
  );
  return [
    'up = user to service. CPU over the TCP rows; its processes: user and system time.',
    `better/worse: than the best peer, the ranges of the runs do not touch; same: they do (from ${RUNS_FOR_VERDICT} runs on).`,
    ...errors.map((error) => `! ${error.split('\n')[0]}`),
  ].flatMap((line) => wrap(line, '  '));
}

function cells(label: string, values: readonly string[]): string {
  const middle = values.map((value) => value.slice(0, CELL_WIDTH - 1).padStart(CELL_WIDTH));
  return `${label.slice(0, LABEL_WIDTH).padEnd(LABEL_WIDTH)}${middle.join('')}`;
}

function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '-';
  const spread =
    summary.runs > 1 && summary.median !== 0 ? ` ±${Math.min(999, Math.round(spreadPercent(summary)))}%` : '';
  return significant(summary.median) + spread;
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
