#!/usr/bin/env node
/**
 * The command line. Exit status: 0 done, 1 failed (one line on standard error says what and what to do), 2 wrong usage or
 * configuration. Only the module of the command that was called is loaded: a role's takes longer than most commands run.
 */
import { Command, CommanderError } from 'commander';
import { describeError, SallyportError } from '../base/error.js';
import { VERSION } from '../base/software.js';
import { SystemClock } from '../os/clock.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import type { CommandContext } from './context.js';

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
]);

interface CommandModule {
  register(program: Command, context: CommandContext): void;
}

/** By name, in the order of the help. */
const COMMANDS: Readonly<Record<string, () => Promise<CommandModule>>> = {
  init: () => import('./commands/init.js'),
  invite: () => import('./commands/invite.js'),
  relay: () => import('./commands/relay.js'),
  connector: () => import('./commands/connector.js'),
  agent: () => import('./commands/agent.js'),
  status: () => import('./commands/status.js'),
  wait: () => import('./commands/wait.js'),
  reload: () => import('./commands/reload.js'),
  metrics: () => import('./commands/metrics.js'),
  policy: () => import('./commands/policy.js'),
  revoke: () => import('./commands/revoke.js'),
  schema: () => import('./commands/schema.js'),
  completion: () => import('./commands/completion.js'),
};

const context: CommandContext = {
  crypto: createCrypto(),
  clock: new SystemClock(),
  entropy: new SystemEntropy(),
  environment: process.env,
  out: (text) => void process.stdout.write(`${text}\n`),
  note: (text) => void process.stderr.write(`${text}\n`),
};

const program = new Command('sallyport')
  .description('Zero-trust network access: reach private services through an agent, a connector and a relay')
  .version(VERSION, '-V, --version')
  .exitOverride()
  .configureHelp({ helpWidth: 80 })
  .showHelpAfterError('(sallyport --help lists the commands)');
for (const module of await modules(process.argv[2])) module.register(program, context);
program
  .command('version')
  .description('print the version')
  .option('--json', 'for machines')
  .action((options: { readonly json?: boolean }) =>
    context.out(options.json ? JSON.stringify({ version: VERSION }) : VERSION),
  );
for (const command of program.commands.flatMap((one) => [one, ...one.commands])) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** What is called, or everything where the help, a suggestion or a completion script has to name it. */
function modules(called: string | undefined): Promise<CommandModule[]> {
  if (called === 'version') return Promise.resolve([]);
  const one =
    called !== undefined && called !== 'completion' && Object.hasOwn(COMMANDS, called) ? COMMANDS[called] : undefined;
  return Promise.all((one === undefined ? Object.values(COMMANDS) : [one]).map((load) => load()));
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  context.note(`sallyport: ${describeError(error)}`);
  if (!(error instanceof SallyportError) || error.kind === 'bug') context.note(String((error as Error).stack));
  return error instanceof SallyportError && USAGE_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
}
