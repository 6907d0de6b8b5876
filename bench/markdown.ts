/** Results as Markdown tables for docs/benchmarks.md: every row, those that lose too. */
import { barText, type FiguresReport, reaches } from './figures.js';
import type { HeapReport } from './heap-report.js';
import type { Link } from './plan.js';
import { type Report, significant } from './report.js';
import { isDisturbed, type RunRecord } from './run.js';
import type { SoakReport } from './soak/report.js';
import { megabytes, ROLE_NAMES, type SoakSample } from './soak/verdict.js';
import { type Summary, spreadPercent } from './statistics.js';
import { MAIN_PEER, type ReportRow } from './summary.js';

/** Without runs enough for a verdict, a row is said to be lost when it is this much behind. */
const MARGIN = 0.1;
/** Allocating functions named per row. */
const MOST_FUNCTIONS = 3;

/** All subjects over the clean link. */
export function cleanMarkdown(report: Report): string {
  const { machine } = report;
  const measured = report.subjects.filter((subject) => subject.unavailable === undefined).map(({ name }) => name);
  const rows = report.rows.filter((row) => row.link === 'clean');
  return [
    `${machine.cpu}, ${machine.cores} cores, kernel ${machine.kernel} (its TCP: ${machine.congestion}), Node ${machine.node}, ${machine.iperf3}. ${commits(report, rows)} ` +
      `Medians ± half the range of all runs. ${busy(report, rows)}`,
    '',
    ...report.subjects.map(({ name, version, unavailable }) => `- ${name}: ${unavailable ?? version}`),
    '',
    ...header(['', ...measured, `× ${MAIN_PEER}`, '× best peer']),
    ...rows.map((row) =>
      line([label(row), ...measured.map((name) => cell(row.subjects[name])), ratio(row.ratio), best(row)]),
    ),
    ...errors(report, rows),
  ].join('\n');
}

/** The lossy links that were measured, one table for each congestion control. */
export function lossyMarkdown(report: Report): string {
  const lossy = report.plan.links.filter((link) => link.profile !== undefined);
  const controls = [...new Set(lossy.map((link) => link.congestion))];
  return controls
    .map((control) => {
      const links = lossy.filter((link) => link.congestion === control);
      const rows = report.rows.filter((row) => links.some((link) => link.id === row.link));
      const names = report.subjects.map(({ name }) => name).filter((name) => rows.some((row) => row.subjects[name]));
      return [
        `Kernel sockets of the measuring programs: ${control ?? 'the default'}. ${commits(report, rows)} ${busy(report, rows)}`,
        '',
        ...header(['link', '', ...names, `× ${MAIN_PEER}`]),
        ...links.flatMap((link) => linkLines(link, rows, names)),
        ...errors(report, rows),
      ].join('\n');
    })
    .join('\n\n');
}

export function figuresMarkdown(report: FiguresReport): string {
  if (report.rows.some(({ bar }) => bar !== undefined)) return judgedFigures(report);
  return [
    `Commit ${report.machine.commit}, ${report.date.slice(0, 10)}, \`${report.command}\`.`,
    '',
    ...header(['', 'figure']),
    ...report.rows.map((row) => line([row.label, `${significant(row.value)} ${row.unit}`])),
  ].join('\n');
}

/** The same, with what is asked of each figure. */
function judgedFigures({ machine, date, command, rows }: FiguresReport): string {
  const state = machine.modified ? ' (modified)' : '';
  return [
    `Commit ${machine.commit}${state}, ${date.slice(0, 10)}, \`${command}\`.`,
    '',
    ...header(['', 'figure', 'asked']),
    ...rows.map(({ label, value, unit, bar }) => {
      const asked = bar === undefined ? '' : `${barText(bar)}${reaches(value, bar) ? '' : ' **missed**'}`;
      return line([label, `${significant(value)} ${unit}`, asked]);
    }),
  ].join('\n');
}

export function soakMarkdown(report: SoakReport): string {
  const { result } = report;
  const phases = [...new Set(result.samples.map((sample) => sample.phase))];
  return [
    `Commit ${report.machine.commit}, ${report.date.slice(0, 10)}, \`${report.command}\`: ${result.packets} inner packets, ${result.shortFlows.done} short flows ` +
      `(${result.shortFlows.failed} failed), ${result.relayRestarts} restarts of the relay, ${result.agentRestarts} of the agent${reconnectsText(result.reconnects)}. ` +
      `${result.problems.length === 0 ? 'Memory and descriptors are flat.' : result.problems.join('; ')}`,
    '',
    ...header(['', ...ROLE_NAMES]),
    ...phases.flatMap((phase) => phaseLines(phase, result.samples)),
    line(['wake-ups/s in silence', ...ROLE_NAMES.map((role) => result.idle[role].wakeUpsPerSecond.toFixed(1))]),
    line(['memory in silence', ...ROLE_NAMES.map((role) => megabytes(result.idle[role].rssBytes))]),
    line([
      'garbage collection, share of its CPU under load',
      ...ROLE_NAMES.map((role) => `${(result.gcShare[role] * 100).toFixed(2)} %`),
    ]),
  ].join('\n');
}

const reconnectsText = (reconnects: SoakReport['result']['reconnects']): string =>
  reconnects === undefined ? '' : `, ${reconnects.done} reconnects of other agents (${reconnects.failed} failed)`;

export function heapMarkdown(report: HeapReport): string {
  return [
    `Commit ${report.machine.commit}, ${report.date.slice(0, 10)}, \`${report.command}\`:`,
    '',
    ...header(['', 'bytes per inner packet', 'of them', 'collection, share of CPU']),
    ...report.rows.map((row) =>
      line([
        `${row.role}, TCP ${row.direction}`,
        row.bytesPerPacket.toFixed(1),
        row.functions
          .slice(0, MOST_FUNCTIONS)
          .map((one) => `${one.bytesPerPacket.toFixed(1)} ${one.name}`)
          .join('; '),
        `${row.collection.toFixed(2)} %`,
      ]),
    ),
  ].join('\n');
}

/** First and last sample of a phase. */
function phaseLines(phase: string, samples: readonly SoakSample[]): string[] {
  const of = samples.filter((sample) => sample.phase === phase);
  const [first, last] = [of[0]!, of.at(-1)!];
  const latencies = of.map((sample) => sample.flowP50).sort((a, b) => a - b);
  return [
    line([
      `${phase}: a short flow from connect to answer, p50: least, median, most of all samples`,
      [latencies[0]!, latencies[latencies.length >> 1]!, latencies.at(-1)!]
        .map((micros) => `${(micros / 1000).toFixed(1)} ms`)
        .join(', '),
      ...ROLE_NAMES.slice(1).map(() => ''),
    ]),
    line([
      `${phase}: memory, first → last sample`,
      ...ROLE_NAMES.map((role) => `${megabytes(first.roles[role].rssBytes)} → ${megabytes(last.roles[role].rssBytes)}`),
    ]),
    line([
      `${phase}: descriptors, first → last`,
      ...ROLE_NAMES.map((role) => `${first.roles[role].descriptors} → ${last.roles[role].descriptors}`),
    ]),
  ];
}

function linkLines(link: Link, rows: readonly ReportRow[], names: readonly string[]): string[] {
  const where = link.label.split(', ').slice(0, 2).join(', ');
  return rows
    .filter((row) => row.link === link.id)
    .map((row) =>
      line([where, label(row), ...names.map((name) => cell(row.subjects[name])), judged(row, row.ratio, row.verdict)]),
    );
}

/** The runs that brought a figure of these rows. */
function runsOf(report: Report, rows: readonly ReportRow[]): Report['runs'] {
  return report.runs.filter((run) => rows.some((row) => run.values[row.id] !== undefined));
}

/** The commits these rows were measured at, with the subjects of each. */
function commits(report: Report, rows: readonly ReportRow[]): string {
  const found = new Map<string, Set<string>>();
  for (const { commit, subject, startedAt } of runsOf(report, rows)) {
    const when = `${commit}, ${startedAt.slice(0, 10)}`;
    found.set(when, (found.get(when) ?? new Set()).add(subject));
  }
  if (found.size === 1) return `Commit ${[...found.keys()].join()}.`;
  return `Commits ${[...found].map(([when, subjects]) => `${when} (${[...subjects].join(', ')})`).join('; ')}.`;
}

/** How many of the runs with these rows met a machine with other things to do. */
function busy(report: Report, rows: readonly ReportRow[]): string {
  const runs = runsOf(report, rows);
  const count = runs.filter(isDisturbed).length;
  return `Of ${runs.length} runs ${count} met a busy machine; they count only where there is no other.`;
}

/** What was not measured of these rows, or befell their runs, and how often with whom; the whole messages are in the results. */
function errors(report: Report, rows: readonly ReportRow[]): string[] {
  const found = new Map<string, Map<string, number>>();
  for (const run of report.runs) {
    for (const [id, message] of Object.entries(run.errors)) {
      const row = report.rows.find((one) => one.id === id);
      if (!(row === undefined ? befalls(run, id, rows) : rows.includes(row))) continue;
      const what = `${row === undefined ? id : label(row)}${row === undefined || row.link === 'clean' ? '' : ` (${row.link})`}: ${message.split('\n')[0]!.split(': ').at(-1)}`;
      const whom = found.get(what) ?? new Map<string, number>();
      found.set(what, whom.set(run.subject, (whom.get(run.subject) ?? 0) + 1));
    }
  }
  if (found.size === 0) return [];
  const lines = [...found].map(
    ([what, whom]) => `- ${what}: ${[...whom].map(([subject, runs]) => `${subject} ${runs} ×`).join(', ')}`,
  );
  return ['', 'What could not be measured in some run:', '', ...lines];
}

/** Whether an error that is of no row (a start that failed, a program that ended, `LINK/carried`) belongs to the table of these rows. */
function befalls(run: RunRecord, id: string, rows: readonly ReportRow[]): boolean {
  const links = new Set(rows.map((row) => row.link));
  if (id.includes('/')) return links.has(id.split('/')[0]!);
  return Object.keys(run.values).length === 0 || rows.some((row) => run.values[row.id] !== undefined);
}

function best(row: ReportRow): string {
  if (row.best === undefined || row.bestRatio === undefined) return '';
  return `${judged(row, row.bestRatio, row.verdict)} (${row.best})`;
}

/** The ratio, in bold where it is a loss. */
function judged(row: ReportRow, value: number | undefined, verdict: ReportRow['verdict']): string {
  if (value === undefined) return '';
  const behind = row.better === 'higher' ? 1 - value : value - 1;
  const lost = verdict === 'worse' || (verdict === 'unknown' && behind > MARGIN);
  return lost && behind > 0 ? `**${ratio(value)} loses**` : ratio(value);
}

function ratio(value: number | undefined): string {
  return value === undefined ? '' : value.toFixed(2);
}

function label(row: ReportRow): string {
  return row.unit === '' ? row.label : `${row.label}, ${row.unit}`;
}

function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '–';
  const spread = summary.runs > 1 && summary.median !== 0 ? ` ± ${Math.round(spreadPercent(summary))} %` : '';
  return significant(summary.median) + spread;
}

function header(names: readonly string[]): string[] {
  return [line(names), `|${names.map(() => '---|').join('')}`];
}

function line(values: readonly string[]): string {
  return `| ${values.join(' | ')} |`.replaceAll('|  |', '| |');
}
