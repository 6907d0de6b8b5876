/** `sallyport completion SHELL`: prints a script with which the shell completes commands, their options and fixed values. */
import { Argument, type Command } from 'commander';
import { completionScript, SHELLS, type Shell } from '../completion.js';
import type { CommandContext } from '../context.js';

export function register(program: Command, context: CommandContext): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>', 'whose').choices([...SHELLS]))
    .action((shell: Shell) => context.out(completionScript(program, shell)));
}
