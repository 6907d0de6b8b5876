/**
 * The program under the name `datadog-traceroute`: its flags, its JSON on standard output (on a terminal too), its usage text behind
 * every error on standard error, exit status 1 for all of them.
 */
import { describeError } from '../../base/error.js';
import { VERSION } from '../../base/software.js';
import { encodeJson, toCompatible } from '../../trace/compatible.js';
import { runTrace } from '../../trace/orchestration.js';
import { flagUsages, parseFlags } from '../flags.js';
import { COMPATIBLE_FLAGS, requestOf } from './flags.js';
import { describeStep, type TraceMachine } from './program.js';

export const DATADOG_TRACEROUTE = 'datadog-traceroute';

/** Cobra's shape: usage, commands, flags. */
const USAGE = `Usage:
  datadog-traceroute [target] [flags]
  datadog-traceroute [command]

Available Commands:
  help        Help about any command
  version     Show version information

Flags:
${flagUsages(COMPATIBLE_FLAGS)}

Use "datadog-traceroute [command] --help" for more information about a command.`;

/** Resolves with the exit status. */
export async function datadogTraceroute(argv: readonly string[], machine: TraceMachine): Promise<number> {
  const { context } = machine;
  if (argv[0] === 'version') {
    context.out(versionLine());
    return 0;
  }
  if (argv[0] === 'help') {
    context.out(USAGE);
    return 0;
  }
  try {
    const parsed = parseFlags(COMPATIBLE_FLAGS, argv);
    const { values, args } = parsed;
    if (values.get('help') === true) {
      context.out(`Traceroute CLI\n\n${USAGE}`);
      return 0;
    }
    if (args.length !== 1) throw new Error(`accepts 1 arg(s), received ${args.length}`);
    const verbose = values.get('verbose') === true;
    const result = await runTrace(args[0]!, requestOf(parsed), machine.environment(), machine.signal, (step) => {
      if (verbose) context.note(describeStep(step));
    }).catch((error: unknown) => {
      throw new Error(`failed to run traceroute: ${describeError(error)}`, { cause: error });
    });
    const skipPrivateHops = values.get('skip-private-hops') === true;
    context.out(encodeJson(toCompatible(result, { skipPrivateHops, extended: false }), 2));
    return 0;
  } catch (error) {
    context.note(`Error: ${describeError(error)}\n${USAGE}\n`);
    return 1;
  }
}

export function versionLine(): string {
  return `Version: ${VERSION} - Commit: none - Build Date: unknown - Go Version: none (Node.js ${process.version})`;
}
