/** What commander reads: the program with the command that is called, the others by name. */
import { Command, Help } from 'commander';
import { VERSION } from '../base/software.js';
import { COMMANDS } from './command-list.js';
import type { CommandContext } from './context.js';

/** @param words behind the program's name on the command line. */
export async function makeProgram(words: readonly string[], context: CommandContext): Promise<Command> {
  const program = new Command('sallyport')
    .description('Zero-trust network access: reach private services through an agent, a connector and a relay')
    .version(VERSION, '-V, --version')
    .exitOverride()
    .configureHelp({ helpWidth: 80, subcommandTerm })
    .showHelpAfterError('(sallyport --help lists the commands)');
  const isLoaded = called(words);
  for (const [name, { about, load }] of Object.entries(COMMANDS)) {
    if (isLoaded(name)) (await load()).register(program, context);
    else program.command(name);
    program.commands.at(-1)!.description(about);
  }
  program
    .command('version')
    .description('print the version')
    .option('--json', 'for machines')
    .action((options: { readonly json?: boolean }) =>
      context.out(options.json ? JSON.stringify({ version: VERSION }) : VERSION),
    );
  for (const command of program.commands.flatMap((one) => [one, ...one.commands])) command.exitOverride();
  return program;
}

/** Which modules are wanted: that of the command that is called or asked about; all of them for a completion script. */
function called([first, second]: readonly string[]): (name: string) => boolean {
  if (first === 'completion') return () => true;
  const wanted = first === 'help' ? second : first;
  return (name) => name === wanted;
}

/** Commands whose module is not loaded have neither arguments nor options here. */
function subcommandTerm(this: Help, command: Command): string {
  const listed = Object.hasOwn(COMMANDS, command.name()) ? COMMANDS[command.name()] : undefined;
  if (listed === undefined) return Help.prototype.subcommandTerm.call(this, command);
  return `${command.name()} ${listed.terms}`.trim();
}
