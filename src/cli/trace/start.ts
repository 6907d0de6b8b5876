/**
 * Starts the programs that read their own arguments (they have to take what another tool takes): gives them the machine they run on,
 * and ends them in an orderly way.
 *
 *   SIGINT, SIGTERM ─► signal aborted ─► the program ends by itself, or, after a while, is ended
 */
import { SystemEntropy } from '../../os/entropy.js';
import { systemEnvironment } from '../../trace/environment.js';
import { openEngine } from '../../trace/open-engine.js';
import type { TraceEnvironment } from '../../trace/orchestration.js';
import type { CommandContext } from '../context.js';
import type { TraceMachine } from './program.js';

/** The whole process is gone this long after a signal, whatever hangs. */
const STOP_LIMIT_MS = 1_900;
const NARROWEST = 40;

export type TraceProgramName = 'trace' | 'trace-server' | 'datadog-traceroute' | 'datadog-traceroute-server';

/** Runs it to its end and resolves with the exit status. */
export async function startTraceProgram(
  name: TraceProgramName,
  argv: readonly string[],
  context: CommandContext,
): Promise<number> {
  const end = new AbortController();
  const onSignal = (): void => {
    end.abort();
    setTimeout(() => process.exit(1), STOP_LIMIT_MS).unref();
  };
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  // A reader that has seen enough (`| head`) closes the pipe: there is nobody left to tell anything.
  process.stdout.on('error', () => process.exit(1));
  let opened: TraceEnvironment | undefined;
  const machine: TraceMachine = {
    context,
    signal: end.signal,
    terminal: process.stdout.isTTY
      ? {
          get columns() {
            return Math.max(NARROWEST, process.stdout.columns);
          },
          get rows() {
            return process.stdout.rows;
          },
          write: (text) => void process.stdout.write(text),
        }
      : undefined,
    environment: () => {
      opened ??= systemEnvironment(openEngine(new SystemEntropy()));
      return opened;
    },
  };
  try {
    return await run(name, argv, machine);
  } finally {
    opened?.engine.close();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

/** Loads only what is called: the server's modules would double the time a trace needs to start. */
async function run(name: TraceProgramName, argv: readonly string[], machine: TraceMachine): Promise<number> {
  switch (name) {
    case 'trace':
      return await (await import('./program.js')).traceProgram(argv, machine);
    case 'datadog-traceroute':
      return await (await import('./datadog.js')).datadogTraceroute(argv, machine);
    case 'trace-server':
    case 'datadog-traceroute-server':
      return await (await import('./server.js')).traceServerProgram(argv, machine, name !== 'trace-server');
  }
}
