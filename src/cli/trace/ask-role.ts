/**
 * `sallyport trace --path PATH | --service ID | --history`: has the agent, connector or relay on a state folder trace its own
 * paths, and prints what it answers: tables on a terminal, JSON in a pipe or with `--json`.
 */
import { SallyportError } from '../../base/error.js';
import { askLocal } from '../../os/local-control.js';
import type { CompatibleHop } from '../../trace/compatible.js';
import { milliseconds, percent, printable } from '../../trace/format/text.js';
import type { PathEntry } from '../../trace/paths/history.js';
import type { PathTrace } from '../../trace/paths/path-tracer.js';
import type { ParsedFlags } from '../flags.js';
import { stateFolder } from '../state-folder.js';
import { table } from '../table.js';
import type { TraceMachine } from './program.js';
import type { RoleTraceAnswer, RoleTraceHistory } from './role-traces.js';

/** Longer than a role takes at the most. */
const PATIENCE_MS = 70_000;
/** Hops of a path that one line shows. */
const HOPS_SHOWN = 4;

const CHOICES = ['path', 'service', 'history'] as const;
/** What a role's trace can be told, by flag. */
const WISHES: Readonly<Record<string, string>> = {
  proto: 'protocol',
  'traceroute-queries': 'queries',
  'e2e-queries': 'endToEndQueries',
  'max-ttl': 'maxTtl',
  timeout: 'timeoutMilliseconds',
  'reverse-dns': 'reverseDns',
};
const OTHERS = ['dir', 'json'];

/** Resolves with the exit status. @throws SallyportError FLAG_SYNTAX, NOT_RUNNING, or what the role answered. */
export async function askRole({ values, args }: ParsedFlags, machine: TraceMachine): Promise<number> {
  const { context, terminal } = machine;
  const chosen = CHOICES.filter((flag) => values.has(flag));
  if (chosen.length !== 1) throw wrong('one of --path, --service and --history');
  if (args.length > 0) throw wrong(`--${chosen[0]} goes without a target`);
  const allowed = [...OTHERS, chosen[0]!, ...(chosen[0] === 'history' ? [] : Object.keys(WISHES))];
  const odd = [...values.keys()].find((flag) => !allowed.includes(flag));
  if (odd !== undefined) throw wrong(`--${odd} does not go with --${chosen[0]}`);
  const given = values.get('dir');
  const dir = stateFolder(given === undefined ? undefined : String(given), context.environment);
  const isJson = values.get('json') === true || terminal === undefined;
  const width = terminal?.columns ?? 80;
  if (chosen[0] === 'history') {
    const history = (await askLocal(dir, { command: 'traces' })) as RoleTraceHistory;
    context.out(isJson ? JSON.stringify(history, undefined, 2) : describeHistory(history, width));
    return 0;
  }
  const wishes = Object.entries(WISHES).flatMap(([flag, key]) => (values.has(flag) ? [[key, values.get(flag)]] : []));
  const request = { command: 'trace', [chosen[0]!]: values.get(chosen[0]!), ...Object.fromEntries(wishes) };
  const answer = (await askLocal(dir, request, PATIENCE_MS)) as RoleTraceAnswer;
  context.out(isJson ? JSON.stringify(answer, undefined, 2) : describeAnswer(answer, width));
  return 0;
}

function describeAnswer({ notes, traces }: RoleTraceAnswer, width: number): string {
  return [...traces.map((trace) => describeTrace(trace, width)), ...notes.map((note) => `note: ${note}`)].join('\n\n');
}

function describeTrace(trace: PathTrace, width: number): string {
  const { result } = trace;
  const port = trace.protocol === 'icmp' ? '' : ` port ${trace.port}`;
  const series = result.e2e_probe;
  const end = trace.reached ? 'the destination answered' : 'the destination did not answer';
  const loss = `${series.packets_received} of ${series.packets_sent} answered`;
  const rtt =
    series.packets_received === 0
      ? ''
      : `, ${milliseconds(series.rtt.avg)} ms, jitter ${milliseconds(series.jitter)} ms`;
  return [
    `${trace.path}: ${trace.target}, ${trace.protocol}${port}; path ${trace.path_id}${trace.changed ? ', changed' : ''}`,
    table(['HOP', 'ADDRESS', 'LOSS', 'RTT', 'NAME'], hopRows(result.traceroute.runs?.[0]?.hops ?? []), width),
    `${end}; end to end: ${loss}${rtt}`,
  ].join('\n');
}

function hopRows(hops: readonly CompatibleHop[]): string[][] {
  return hops.map((hop) => {
    const rtts = (hop['rtts'] as readonly number[] | undefined) ?? [];
    const sent = Number(hop['sent'] ?? 0);
    const names = (hop.reverse_dns ?? []).map(printable).join(' ');
    if (!hop.reachable) return [String(hop.ttl), '*', '', '', ''];
    const mean = rtts.reduce((sum, rtt) => sum + rtt, 0) / Math.max(1, rtts.length);
    const loss = sent === 0 ? 0 : 1 - rtts.length / sent;
    return [String(hop.ttl), hop.ip_address, percent(loss), `${milliseconds(mean)} ms`, names];
  });
}

function describeHistory({ paths }: RoleTraceHistory, width: number): string {
  if (paths.length === 0) return 'nothing was traced since the start';
  return paths
    .map(({ path, entries }) =>
      [path, table(['AT', 'PATH', 'CHANGED', 'RTT', 'LOSS', 'WAY'], entries.map(historyRow), width)].join('\n'),
    )
    .join('\n\n');
}

function historyRow(entry: PathEntry): string[] {
  const rtt = entry.rtt === 0 ? '' : `${milliseconds(entry.rtt)} ms`;
  return [entry.at.slice(0, 19), entry.path_id, entry.changed ? 'yes' : '', rtt, percent(entry.loss), way(entry)];
}

/** The hops that are left where a line ends: the last ones tell the most. */
function way({ hops, reached }: PathEntry): string {
  const shown = hops.slice(-HOPS_SHOWN).map((hop) => hop || '*');
  return `${hops.length > HOPS_SHOWN ? '… ' : ''}${shown.join(' ')}${reached ? '' : ' (no answer)'}`;
}

function wrong(message: string): SallyportError {
  return new SallyportError('caller', 'FLAG_SYNTAX', message);
}
