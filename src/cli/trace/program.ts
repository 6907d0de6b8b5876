/**
 * `sallyport trace TARGET`: a live table on a terminal; JSON of datadog-traceroute's form in a pipe; other forms when asked for.
 * Exit status: 0 traced (also when the destination did not answer), 1 failed, 2 wrong usage.
 */
import { describeError, SallyportError } from '../../base/error.js';
import { encodeJson, toCompatible } from '../../trace/compatible.js';
import { toDot } from '../../trace/format/dot.js';
import { toCsv, toMarkdown } from '../../trace/format/rows.js';
import { toSvg } from '../../trace/format/svg.js';
import { runTrace, type TraceEnvironment, type TraceStep } from '../../trace/orchestration.js';
import { checkRequest, type TraceRequest } from '../../trace/request.js';
import type { TraceResult } from '../../trace/result.js';
import type { CommandContext } from '../context.js';
import { flagUsages, type ParsedFlags, parseFlags } from '../flags.js';
import { requestOf, TRACE_FLAGS } from './flags.js';
import { LiveTable, type Terminal } from './live.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const FORMATS = ['json', 'csv', 'markdown', 'dot', 'svg'] as const;
type Format = (typeof FORMATS)[number] | 'live';

/** Rounds of --watch that follow each other faster would be a load on every router of the path. */
const SHORTEST_INTERVAL_MS = 100;
const DEFAULT_INTERVAL_MS = 1_000;
/** Names that nobody asked for are not worth a longer wait: name servers that do not answer would cost five seconds. */
const UNASKED_PATIENCE_MS = 500;
/** Flags of the second form. */
const ABOUT_ROLES = ['path', 'service', 'history', 'dir'];
const LOOKUPS = ['reverse-dns', 'asn', 'location'];

export interface TraceMachine {
  readonly context: CommandContext;
  /** Where standard output is a terminal. */
  readonly terminal: Terminal | undefined;
  /** The user wants it to end. */
  readonly signal: AbortSignal;
  /** Opened when something is to be traced; its engine is closed by who opened it. */
  environment(): TraceEnvironment;
}

export const TRACE_USAGE = `Usage: sallyport trace [flags] TARGET
       sallyport trace --path PATH | --service ID | --history [--dir DIR] [--json]

Traces the path to TARGET (name, address, host:port or [v6]:port): a live table
on a terminal, JSON in the form of datadog-traceroute in a pipe. The second form
has the agent, connector or relay on a state folder trace its own paths.

Flags:
${flagUsages(TRACE_FLAGS)}`;

/** Resolves with the exit status. */
export async function traceProgram(argv: readonly string[], machine: TraceMachine): Promise<number> {
  const { context } = machine;
  try {
    const parsed = parseFlags(TRACE_FLAGS, argv);
    if (parsed.values.get('help') === true) {
      context.out(TRACE_USAGE);
      return 0;
    }
    return await runParsed(parsed, machine);
  } catch (error) {
    if (machine.signal.aborted) return EXIT_FAILED;
    context.note(`sallyport: ${describeError(error)}`);
    const usage = error instanceof SallyportError && error.kind === 'caller';
    if (usage) context.note('(sallyport trace --help tells more)');
    return usage ? EXIT_USAGE : EXIT_FAILED;
  }
}

async function runParsed(parsed: ParsedFlags, machine: TraceMachine): Promise<number> {
  const { values, args } = parsed;
  // What asks a role reads the configuration's defaults: their modules would delay every other trace.
  if (ABOUT_ROLES.some((flag) => values.has(flag))) {
    return await (await import('./ask-role.js')).askRole(parsed, machine);
  }
  if (args.length !== 1) throw wrong(`accepts 1 arg(s), received ${args.length}`);
  const target = args[0]!;
  const format = formatOf(parsed, machine.terminal !== undefined);
  const watch = values.get('watch') === true;
  if (watch && !(format === 'live' || format === 'json')) throw wrong(`--watch does not go with --${format}`);
  const interval = Number(values.get('interval') ?? DEFAULT_INTERVAL_MS);
  if (interval < SHORTEST_INTERVAL_MS) throw wrong(`--interval is at least ${SHORTEST_INTERVAL_MS}`);
  const request: TraceRequest = {
    ...(format === 'live' && { reverseDns: true, networks: true }),
    ...(!LOOKUPS.some((flag) => values.get(flag) === true) && { lookupPatienceMilliseconds: UNASKED_PATIENCE_MS }),
    ...(watch && { queries: 1, endToEndQueries: 1 }),
    ...requestOf(parsed),
  };
  const checked = checkRequest(target, request);
  const show: Show = {
    format,
    skipPrivate: values.get('skip-private-hops') === true,
    extended: values.get('extended') === true,
    location: values.get('location') === true,
  };
  const live =
    format !== 'live'
      ? undefined
      : new LiveTable(
          {
            hostname: target,
            protocol: checked.options.protocol,
            skipPrivate: show.skipPrivate,
            location: show.location,
          },
          machine.terminal!,
        );
  const verbose =
    values.get('verbose') === true ? (step: TraceStep) => machine.context.note(describeStep(step)) : undefined;
  const onStep = (step: TraceStep): void => {
    live?.step(step);
    verbose?.(step);
  };
  const environment = machine.environment();
  const round: Round = (maxTtl) =>
    runTrace(target, { ...request, ...(maxTtl !== undefined && { maxTtl }) }, environment, machine.signal, onStep);
  if (watch) return await watchRounds(round, live, interval, show, machine);
  try {
    const result = await round();
    if (live === undefined) machine.context.out(render(result, show, 2));
    else live.finish();
    return 0;
  } catch (error) {
    live?.finish(describeError(error).split('\n', 1)[0]!);
    throw error;
  }
}

/** @param maxTtl instead of the asked one. */
type Round = (maxTtl?: number) => Promise<TraceResult>;

interface Show {
  readonly format: Format;
  readonly skipPrivate: boolean;
  readonly extended: boolean;
  readonly location: boolean;
}

/** Until the user ends it, which is success. A round that fails is told, and the next one tried. */
async function watchRounds(
  round: Round,
  live: LiveTable | undefined,
  interval: number,
  show: Show,
  { signal, context }: TraceMachine,
): Promise<number> {
  let maxTtl: number | undefined;
  while (!signal.aborted) {
    const started = performance.now();
    try {
      const result = await round(maxTtl);
      maxTtl = distance(result);
      if (live === undefined) context.out(render(result, show, 0));
    } catch (error) {
      maxTtl = undefined;
      if (!signal.aborted) context.note(`sallyport: ${describeError(error)}`);
    }
    await pause(interval - (performance.now() - started), signal);
    live?.again();
  }
  live?.finish();
  return 0;
}

/**
 * TTL of the destination, where every run found it: probes beyond it would use up the few errors a second that it sends. Undefined
 * otherwise, so that the next round looks everywhere again.
 */
function distance(result: TraceResult): number | undefined {
  const ends = result.runs.map(({ run }) => (run.reached ? run.hops.at(-1)?.ttl : undefined));
  return ends.length === 0 || ends.includes(undefined) ? undefined : Math.max(...(ends as number[]));
}

function render(result: TraceResult, show: Show, indent: number): string {
  switch (show.format) {
    case 'csv':
      return toCsv(result, show.skipPrivate);
    case 'markdown':
      return toMarkdown(result, show.skipPrivate);
    case 'dot':
      return toDot(result, show.skipPrivate);
    case 'svg':
      return toSvg(result, show.skipPrivate);
    default:
      return encodeJson(toCompatible(result, { skipPrivateHops: show.skipPrivate, extended: show.extended }), indent);
  }
}

function formatOf({ values }: ParsedFlags, isTerminal: boolean): Format {
  const asked = FORMATS.filter((format) => values.get(format) === true);
  if (asked.length > 1) throw wrong(`only one of ${asked.map((format) => `--${format}`).join(', ')}`);
  return asked[0] ?? (isTerminal && values.get('extended') !== true ? 'live' : 'json');
}

/** One line about a step, for --verbose. */
export function describeStep(step: TraceStep): string {
  switch (step.kind) {
    case 'resolved':
      return `destination ${step.address}, port ${step.port}`;
    case 'hop': {
      const said = step.hop.replies.map((reply) => `${reply.from} ${reply.kind} ${reply.rtt.toFixed(3)} ms`).join(', ');
      return `run ${step.run}: ttl ${step.hop.ttl}: ${said || 'no answer'}`;
    }
    case 'run':
      return `run ${step.run}: ${step.found.reason} after ${step.found.hops.length} hops (${step.found.privilege})`;
    case 'run-failed':
      return `run ${step.run}: ${describeError(step.error)}`;
    case 'probe':
      return `end to end: ${step.rtt === 0 ? 'lost' : `${step.rtt.toFixed(3)} ms`}`;
    case 'series':
      return `end to end: by ${step.method}`;
    case 'names':
      return `${step.address} is ${step.names.join(', ')}`;
    case 'network':
      return `${step.address} is announced by AS${step.network.asn} ${step.network.name ?? ''}`;
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted || milliseconds <= 0) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}

function wrong(message: string): SallyportError {
  return new SallyportError('caller', 'FLAG_SYNTAX', message);
}
