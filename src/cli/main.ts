#!/usr/bin/env node
/**
 * The command line. Exit status: 0 done, 1 failed (one line on standard error says what and what to do), 2 wrong usage or
 * configuration.
 */
import { basename } from 'node:path';
import type { Command, CommanderError } from 'commander';
import { describeError, SallyportError } from '../base/error.js';
import { SystemClock } from '../os/clock.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import { dismissEarly, startEarly } from '../os/worker.js';
import type { CommandContext } from './context.js';
import type { TraceProgramName } from './trace/start.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Codes of errors that mean the command was not understood, rather than that it failed. */
const USAGE_CODES: ReadonlySet<string> = new Set([
  'CONFIG_INVALID',
  'CONFIG_UNREADABLE',
  'CONFIG_NOT_JSON',
  'CONFIG_PERMISSIONS',
  'DURATION_INVALID',
  'PROXY_EXPOSED',
  'FORWARD_SYNTAX',
  'SERVICE_SYNTAX',
  'SERVICE_SPEC',
  'WAY_OUT',
  'RELAY_ADDRESS',
]);

const context: CommandContext = {
  crypto: createCrypto(),
  clock: new SystemClock(),
  entropy: new SystemEntropy(),
  environment: process.env,
  out: (text) => void process.stdout.write(`${text}\n`),
  note: (text) => void process.stderr.write(`${text}\n`),
};

/** Names the program may be linked under, to be that tool; `sallyport trace…` otherwise. */
const LINKS: readonly TraceProgramName[] = ['datadog-traceroute', 'datadog-traceroute-server'];
const TRACERS: readonly TraceProgramName[] = ['trace', 'trace-server'];

/** Modules of the packet threads that these commands start, whatever their configuration says. */
const THREADS: Readonly<Record<string, string>> = {
  relay: '../relay/packet-thread.js',
  connector: '../connector/packet-thread.js',
  agent: '../agent/packet-thread.js',
  tun2socks: '../tun2socks/packet-thread.js',
};

startThreadEarly(process.argv[2]);
const tracer = tracerCalled(process.argv);
try {
  if (tracer === undefined) await (await commands()).parseAsync();
  else {
    const { startTraceProgram } = await import('./trace/start.js');
    process.exitCode = await startTraceProgram(tracer.name, tracer.argv, context);
  }
} catch (error) {
  process.exitCode = report(error);
} finally {
  await dismissEarly();
}

/** A thread takes longer to load than the main thread takes until it can say what it is to do. */
function startThreadEarly(called: string | undefined): void {
  if (called === undefined || !Object.hasOwn(THREADS, called)) return;
  if (process.argv.some((word) => word === '-h' || word === '--help')) return;
  startEarly(new URL(THREADS[called]!, import.meta.url), called);
}

/** Only what commander is needed for loads it. */
async function commands(): Promise<Command> {
  const { makeProgram } = await import('./program.js');
  return makeProgram(process.argv.slice(2), context);
}

/** The programs that read their own arguments. */
function tracerCalled(argv: readonly string[]): { name: TraceProgramName; argv: readonly string[] } | undefined {
  const link = LINKS.find((name) => name === basename(argv[1] ?? ''));
  if (link !== undefined) return { name: link, argv: argv.slice(2) };
  const command = TRACERS.find((name) => name === argv[2]);
  return command === undefined ? undefined : { name: command, argv: argv.slice(3) };
}

function report(error: unknown): number {
  if (isCommanderError(error)) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  context.note(`sallyport: ${describeError(error)}`);
  if (!(error instanceof SallyportError) || error.kind === 'bug') context.note(String((error as Error).stack));
  return error instanceof SallyportError && USAGE_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
}

/** By its name: a trace is done without commander, which takes longer to load than many paths take to answer. */
function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && error.name === 'CommanderError';
}
