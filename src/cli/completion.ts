/**
 * Completion scripts, made from the commands themselves: the first word is a command, the second of one with parts a part, and
 * after that options of the command.
 */
import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Completed {
  /** The command, or the command and its part. */
  readonly path: string;
  readonly description: string;
  /** Parts, fixed arguments, long options. */
  readonly words: readonly string[];
}

export function completionScript(program: Command, shell: Shell): string {
  const commands = program.commands.flatMap((command) => describe(command, ''));
  const first = program.commands.map((command) => command.name());
  switch (shell) {
    case 'bash':
      return bash(commands, first);
    case 'zsh':
      return ['#compdef sallyport', 'autoload -Uz bashcompinit && bashcompinit', bash(commands, first)].join('\n');
    case 'fish':
      return fish(commands, program);
  }
}

function describe(command: Command, before: string): Completed[] {
  const path = `${before}${command.name()}`;
  const own: Completed = {
    path,
    description: command.description(),
    words: [
      ...command.commands.map((part) => part.name()),
      ...command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
      ...command.options.map((option) => option.long).filter((long) => long !== undefined && long !== null),
      '--help',
    ],
  };
  return [own, ...command.commands.flatMap((part) => describe(part, `${path} `))];
}

function bash(commands: readonly Completed[], first: readonly string[]): string {
  const cases = commands.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`);
  return [
    '_sallyport() {',
    `  local current="\${COMP_WORDS[COMP_CWORD]}" path="\${COMP_WORDS[1]}" words=`,
    `  if [ "$COMP_CWORD" -le 1 ]; then words='${first.join(' ')} --help --version'; fi`,
    `  case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in`,
    ...commands
      .filter(({ path }) => path.includes(' '))
      .map(({ path }) => `    '${path}') [ "$COMP_CWORD" -gt 2 ] && path='${path}' ;;`),
    '  esac',
    '  [ "$COMP_CWORD" -le 1 ] || case "$path" in',
    ...cases,
    '  esac',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '}',
    'complete -o default -F _sallyport sallyport',
  ].join('\n');
}

function fish(commands: readonly Completed[], program: Command): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = program.commands.map(
    (command) =>
      `complete -c sallyport -n __fish_use_subcommand -f -a ${command.name()} -d ${quote(command.description())}`,
  );
  for (const { path, words } of commands) {
    const seen = path
      .split(' ')
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join('; and ');
    for (const word of words) {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      lines.push(`complete -c sallyport -n ${quote(seen)} ${what}`);
    }
  }
  return lines.join('\n');
}
