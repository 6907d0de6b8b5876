#!/usr/bin/env node
/**
 * The command line. Exit status: 0 done, 1 failed (one line on standard error says what and what to do), 2 wrong usage or
 * configuration.
 */
import 'reflect-metadata';
import { Command, CommanderError } from 'commander';
import { describeError, SallyportError } from '../base/error.js';
import { VERSION } from '../base/software.js';
import { SystemClock } from '../os/clock.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import { register as agent } from './commands/agent.js';
import { register as connector } from './commands/connector.js';
import { register as init } from './commands/init.js';
import { register as invite } from './commands/invite.js';
import { register as policy } from './commands/policy.js';
import { register as relay } from './commands/relay.js';
import { register as revoke } from './commands/revoke.js';
import { register as status } from './commands/status.js';
import type { CommandContext } from './context.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Codes of errors that mean the command was not understood, rather than that it failed. */
const USAGE_CODES: ReadonlySet<string> = new Set([
  'CONFIG_INVALID',
  'CONFIG_UNREADABLE',
  'CONFIG_NOT_JSON',
  'FORWARD_SYNTAX',
  'SERVICE_SYNTAX',
  'SERVICE_SPEC',
]);

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
for (const register of [init, invite, relay, connector, agent, status, policy, revoke]) register(program, context);
program
  .command('version')
  .description('print the version')
  .option('--json', 'for machines')
  .action((options: { readonly json?: boolean }) =>
    context.out(options.json ? JSON.stringify({ version: VERSION }) : VERSION),
  );
for (const command of program.commands) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  context.note(`sallyport: ${describeError(error)}`);
  if (!(error instanceof SallyportError) || error.kind === 'bug') context.note(String((error as Error).stack));
  return error instanceof SallyportError && USAGE_CODES.has(error.code) ? EXIT_USAGE : EXIT_FAILED;
}
