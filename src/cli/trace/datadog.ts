/**
 * The program under the name `datadog-traceroute`: its flags, its JSON on standard output (on a terminal too), its usage text behind
 * every error on standard error, exit status 1 for all of them. Its commands: completion, help, version.
 */
import { describeError } from '../../base/error.js';
import { VERSION } from '../../base/software.js';
import { encodeJson, toCompatible } from '../../trace/compatible.js';
import { runTrace } from '../../trace/orchestration.js';
import { type Flag, flagUsages, parseFlags } from '../flags.js';
import { COMPLETION_SHELLS, type CompletionShell, completionFor } from './datadog-completion.js';
import { COMPATIBLE_FLAGS, requestOf } from './flags.js';
import { describeStep, type TraceMachine } from './program.js';

export const DATADOG_TRACEROUTE = 'datadog-traceroute';

const COMMANDS = {
  completion: 'Print a completion script for a shell',
  help: 'Help about any command',
  version: 'Show version information',
} as const;

/** Cobra's shape: usage, commands, flags. */
const USAGE = `Usage:
  datadog-traceroute [target] [flags]
  datadog-traceroute [command]

Available Commands:
${Object.entries(COMMANDS)
  .map(([command, text]) => `  ${command.padEnd(11)} ${text}`)
  .join('\n')}

Flags:
${flagUsages(COMPATIBLE_FLAGS)}

Use "datadog-traceroute [command] --help" for more information about a command.`;

const COMPLETION_FLAGS: readonly Flag[] = [
  { name: 'help', short: 'h', kind: 'bool', usage: 'show this help' },
  { name: 'no-descriptions', kind: 'bool', usage: 'complete words without saying what they mean' },
];
const COMPLETION_USAGE = `Usage:
  datadog-traceroute completion [command]

Available Commands:
${COMPLETION_SHELLS.map((shell) => `  ${shell.padEnd(11)} Print the script for ${shell}`).join('\n')}

Flags:
${flagUsages(COMPLETION_FLAGS)}

Use "datadog-traceroute completion [command] --help" for more information about a command.`;
const VERSION_USAGE = `Usage:
  datadog-traceroute version [flags]

Flags:
${flagUsages(COMPLETION_FLAGS.slice(0, 1))}
`;

/** Resolves with the exit status. */
export async function datadogTraceroute(argv: readonly string[], machine: TraceMachine): Promise<number> {
  const { context } = machine;
  const { command, rest } = commandOf(argv);
  if (command === 'help') return help(rest, machine);
  const usage = command === 'completion' ? COMPLETION_USAGE : command === 'version' ? VERSION_USAGE : USAGE;
  try {
    if (command === 'completion') {
      const { values, args } = parseFlags(COMPLETION_FLAGS, rest);
      const [shell, extra] = args;
      if (shell === undefined || values.get('help') === true) {
        context.out(COMPLETION_USAGE);
        return 0;
      }
      const known = COMPLETION_SHELLS.find((one) => one === shell);
      const path = `${DATADOG_TRACEROUTE} completion`;
      if (known === undefined) throw new Error(`unknown command "${shell}" for "${path}"`);
      if (extra !== undefined) throw new Error(`unknown command "${extra}" for "${path} ${shell}"`);
      context.out(script(known, values.get('no-descriptions') === true));
      return 0;
    }
    if (command === 'version') {
      const { values } = parseFlags(COMPLETION_FLAGS.slice(0, 1), rest);
      context.out(values.get('help') === true ? VERSION_USAGE : versionLine());
      return 0;
    }
    return await traceroute(argv, machine);
  } catch (error) {
    context.note(`Error: ${describeError(error)}\n${usage}\n`);
    return 1;
  }
}

async function traceroute(argv: readonly string[], machine: TraceMachine): Promise<number> {
  const { context } = machine;
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
}

/** Of what is no command: a remark and the usage on standard error, and no failure. */
function help([topic]: readonly string[], { context }: TraceMachine): number {
  if (topic === undefined || topic === 'help') context.out(USAGE);
  else if (topic === 'completion') context.out(COMPLETION_USAGE);
  else if (topic === 'version') context.out(VERSION_USAGE);
  else context.note(`Unknown help topic [\`${topic}\`]\n${USAGE}`);
  return 0;
}

/** The command is the first word that is neither a flag nor the value of one, wherever it stands. */
function commandOf(argv: readonly string[]): { command: keyof typeof COMMANDS | undefined; rest: readonly string[] } {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === '--') break;
    if (!word.startsWith('-') || word === '-') {
      const isCommand = Object.hasOwn(COMMANDS, word);
      if (!isCommand) break;
      return { command: word as keyof typeof COMMANDS, rest: [...argv.slice(0, i), ...argv.slice(i + 1)] };
    }
    if (takesNext(word)) i++;
  }
  return { command: undefined, rest: argv };
}

function takesNext(word: string): boolean {
  if (word.includes('=')) return false;
  const flag = word.startsWith('--')
    ? COMPATIBLE_FLAGS.find(({ name }) => name === word.slice(2))
    : COMPATIBLE_FLAGS.find(({ short }) => word.length === 2 && short === word[1]);
  return flag !== undefined && flag.kind !== 'bool';
}

function script(shell: CompletionShell, noDescriptions: boolean): string {
  return completionFor(shell, {
    program: DATADOG_TRACEROUTE,
    flags: COMPATIBLE_FLAGS,
    commands: COMMANDS,
    values: { proto: ['udp', 'tcp', 'icmp'], 'tcp-method': ['syn', 'sack', 'prefer_sack'] },
    noDescriptions,
  });
}

export function versionLine(): string {
  return `Version: ${VERSION} - Commit: none - Build Date: unknown - Go Version: none (Node.js ${process.version})`;
}
