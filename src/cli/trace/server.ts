/**
 * `sallyport trace-server`, also under the name `datadog-traceroute-server`: the HTTP server until a signal ends it.
 */
import { readFileSync } from 'node:fs';
import { describeError, SallyportError } from '../../base/error.js';
import { Seconds } from '../../base/time.js';
import { TraceServer } from '../../trace/server/server.js';
import { type Flag, flagUsages, type ParsedFlags, parseFlags } from '../flags.js';
import { createLog, type LogLevel } from '../log.js';
import { DATADOG_TRACEROUTE } from './datadog.js';
import type { TraceMachine } from './program.js';

export const DATADOG_SERVER = `${DATADOG_TRACEROUTE}-server`;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug', 'trace'];
const DEFAULT_ADDRESS = '127.0.0.1:3765';
const CONCURRENCY = 32;
const QUEUE = 128;
/** Seconds; a default trace of a silent destination takes five. */
const TIME_LIMIT = 120;
/** Traces under way are given this long at the end. */
const STOP_GRACE = Seconds(1.5);

const HELP: Flag = { name: 'help', short: 'h', kind: 'bool', usage: 'show this help' };
const COMPATIBLE: readonly Flag[] = [
  HELP,
  { name: 'addr', short: 'a', kind: 'string', fallback: DEFAULT_ADDRESS, usage: 'address and port to listen on' },
  { name: 'log-level', short: 'l', kind: 'string', fallback: 'info', usage: LEVELS.join(', ') },
  { name: 'windows-driver', kind: 'bool', usage: 'Windows: use the kernel driver' },
];
export const SERVER_FLAGS: readonly Flag[] = [
  ...COMPATIBLE,
  { name: 'token-file', kind: 'string', usage: 'file with the bearer token that requests need' },
  { name: 'concurrency', kind: 'int', fallback: CONCURRENCY, usage: 'traces at once' },
  { name: 'queue', kind: 'int', fallback: QUEUE, usage: 'requests that may wait' },
  { name: 'time-limit', kind: 'int', fallback: TIME_LIMIT, usage: 'for one request, seconds' },
];

export const SERVER_USAGE = `Usage: sallyport trace-server [flags]

Serves traces over HTTP as datadog-traceroute-server does: GET /traceroute?target=…,
/health, /metrics. The token can also be in $SALLYPORT_TRACE_TOKEN.

Flags:
${flagUsages(SERVER_FLAGS)}`;

const DATADOG_USAGE = `Usage:
  ${DATADOG_SERVER} [flags]

Flags:
${flagUsages(COMPATIBLE)}
`;

/** Resolves with the exit status when `machine.signal` ends it. @param asDatadog under that tool's name. */
export async function traceServerProgram(
  argv: readonly string[],
  machine: TraceMachine,
  asDatadog: boolean,
): Promise<number> {
  const { context } = machine;
  try {
    const parsed = parseFlags(asDatadog ? COMPATIBLE : SERVER_FLAGS, argv);
    if (parsed.values.get('help') === true) {
      context.out(asDatadog ? DATADOG_USAGE : SERVER_USAGE);
      return 0;
    }
    if (parsed.args.length > 0) throw wrong(`unknown command "${parsed.args[0]}"`);
    return await serve(parsed, machine);
  } catch (error) {
    if (asDatadog) {
      context.note(`Error: ${describeError(error)}\n${DATADOG_USAGE}`);
      return EXIT_FAILED;
    }
    context.note(`sallyport: ${describeError(error)}`);
    return error instanceof SallyportError && error.kind === 'caller' ? EXIT_USAGE : EXIT_FAILED;
  }
}

async function serve({ values }: ParsedFlags, machine: TraceMachine): Promise<number> {
  const { context, signal } = machine;
  const level = String(values.get('log-level') ?? 'info');
  if (!LEVELS.includes(level as LogLevel)) {
    throw wrong(`invalid log level: "${level}" (valid levels: ${LEVELS.join(', ')})`);
  }
  const listen = parseListen(String(values.get('addr') ?? DEFAULT_ADDRESS));
  const log = createLog('trace-server', level as LogLevel, process.stderr.isTTY);
  const token = readToken(values.get('token-file'), context.environment);
  const server = new TraceServer({
    ...listen,
    environment: machine.environment(),
    crypto: context.crypto,
    log,
    token,
    windowsDriver: values.get('windows-driver') === true,
    concurrency: atLeast(values, 'concurrency', 1, CONCURRENCY),
    queue: atLeast(values, 'queue', 0, QUEUE),
    timeLimit: Seconds(atLeast(values, 'time-limit', 1, TIME_LIMIT)),
  });
  const bound = await server.start();
  log.info({ host: bound.host, port: bound.port }, 'trace server ready');
  if (token === undefined && !isLoopback(bound.host)) {
    log.warn({ host: bound.host }, 'anybody who reaches this address can trace from here: set a token');
  }
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  log.info({}, 'stopping');
  await server.stop(STOP_GRACE);
  return 0;
}

/** `host:port`, `[v6]:port`, or `:port` for every address of this machine. */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw wrong(`invalid address to listen on: ${JSON.stringify(text)} (such as ${DEFAULT_ADDRESS})`);
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

function readToken(file: unknown, environment: NodeJS.ProcessEnv): string | undefined {
  if (typeof file !== 'string') return environment['SALLYPORT_TRACE_TOKEN'] || undefined;
  let token: string;
  try {
    token = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new SallyportError('caller', 'TOKEN_UNREADABLE', `cannot read the token file ${file}`, { cause });
  }
  if (!/^\S+$/.test(token)) throw wrong(`the token file ${file} does not hold one word`);
  return token;
}

function atLeast(values: ParsedFlags['values'], name: string, least: number, fallback: number): number {
  const value = Number(values.get(name) ?? fallback);
  if (value < least) throw wrong(`--${name} is at least ${least}`);
  return value;
}

function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1';
}

function wrong(message: string): SallyportError {
  return new SallyportError('caller', 'FLAG_SYNTAX', message);
}
