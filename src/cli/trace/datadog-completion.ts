/**
 * `datadog-traceroute completion SHELL`: scripts with which bash, zsh, fish and PowerShell complete that tool's flags, the fixed
 * values of some, and its commands.
 */
import type { Flag } from '../flags.js';

export const COMPLETION_SHELLS = ['bash', 'zsh', 'fish', 'powershell'] as const;
export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

export interface Completion {
  readonly program: string;
  readonly flags: readonly Flag[];
  /** Command → what it does. */
  readonly commands: Readonly<Record<string, string>>;
  /** Flag → the values it takes. */
  readonly values: Readonly<Record<string, readonly string[]>>;
  /** Words alone, where shells could show what they mean. */
  readonly noDescriptions: boolean;
}

export function completionFor(shell: CompletionShell, what: Completion): string {
  switch (shell) {
    case 'bash':
      return bash(what);
    case 'zsh':
      return zsh(what);
    case 'fish':
      return fish(what);
    case 'powershell':
      return powershell(what);
  }
}

const names = (flag: Flag): string[] => [`--${flag.name}`, ...(flag.short === undefined ? [] : [`-${flag.short}`])];

/** bash shows no descriptions. */
function bash({ program, flags, commands, values }: Completion): string {
  const name = `_${program.replaceAll('-', '_')}`;
  const words = flags.map((flag) => `--${flag.name}`).join(' ');
  const cases = flags
    .filter((flag) => flag.kind !== 'bool')
    .map((flag) => `    ${names(flag).join('|')}) words='${(values[flag.name] ?? []).join(' ')}' ;;`);
  return [
    `${name}() {`,
    `  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" words='${words}'`,
    `  [ "$COMP_CWORD" -gt 1 ] || words="$words ${Object.keys(commands).join(' ')}"`,
    `  [ "$before" != completion ] || words='${COMPLETION_SHELLS.join(' ')}'`,
    '  case "$before" in',
    ...cases,
    '  esac',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '}',
    `complete -F ${name} ${program}`,
  ].join('\n');
}

function zsh({ program, flags, commands, values, noDescriptions }: Completion): string {
  const name = `_${program.replaceAll('-', '_')}`;
  const specs = flags.flatMap((flag) =>
    names(flag).map((word) => {
      const text = noDescriptions ? '' : `[${escaped(flag.usage, /[[\]\\:]/g)}]`;
      const value = values[flag.name] === undefined ? ': ' : `:(${values[flag.name]!.join(' ')})`;
      return `    ${quoted(`${word}${flag.kind === 'bool' ? '' : '='}${text}${flag.kind === 'bool' ? '' : `:${flag.kind}${value}`}`)}`;
    }),
  );
  const first = Object.entries(commands).map(([command, text]) =>
    noDescriptions ? command : `${command}\\:${quotedWithin(escaped(text, /[\\:]/g))}`,
  );
  const list = noDescriptions ? `(${first.join(' ')})` : `((${first.join(' ')}))`;
  return [
    `#compdef ${program}`,
    `${name}() {`,
    `  if [[ "$words[2]" == completion ]]; then compadd ${COMPLETION_SHELLS.join(' ')}; return; fi`,
    '  _arguments \\',
    ...specs.map((spec) => `${spec} \\`),
    `    ${quoted(`1:target:${list}`)}`,
    '}',
    `compdef ${name} ${program}`,
  ].join('\n');
}

function fish({ program, flags, commands, values, noDescriptions }: Completion): string {
  const text = (usage: string): string => (noDescriptions ? '' : ` -d ${fishQuoted(usage)}`);
  return [
    ...Object.entries(commands).map(
      ([command, usage]) => `complete -c ${program} -n __fish_use_subcommand -f -a ${command}${text(usage)}`,
    ),
    `complete -c ${program} -n '__fish_seen_subcommand_from completion' -f -a '${COMPLETION_SHELLS.join(' ')}'`,
    ...flags.map((flag) => {
      const short = flag.short === undefined ? '' : ` -s ${flag.short}`;
      const list = values[flag.name];
      const value = flag.kind === 'bool' ? '' : list === undefined ? ' -x' : ` -x -a '${list.join(' ')}'`;
      return `complete -c ${program} -l ${flag.name}${short}${value}${text(flag.usage)}`;
    }),
  ].join('\n');
}

function powershell({ program, flags, commands, values, noDescriptions }: Completion): string {
  const shown = (text: string, usage: string): string =>
    `    @(${powershellQuoted(text)}, ${powershellQuoted(noDescriptions ? text : usage)})`;
  const listed = flags.filter((flag) => values[flag.name] !== undefined);
  return [
    `Register-ArgumentCompleter -Native -CommandName ${powershellQuoted(program)} -ScriptBlock {`,
    '  param($wordToComplete, $commandAst, $cursorPosition)',
    '  $words = @(',
    [
      ...flags.map((flag) => shown(`--${flag.name}`, flag.usage)),
      ...Object.entries(commands).map(([command, usage]) => shown(command, usage)),
    ].join(',\n'),
    '  )',
    // The word before the one that is being typed.
    '  $elements = @($commandAst.CommandElements | ForEach-Object { "$_" })',
    '  $at = if ($wordToComplete) { $elements.Count - 2 } else { $elements.Count - 1 }',
    '  $before = if ($at -ge 0) { $elements[$at] } else { "" }',
    '  switch -CaseSensitive ($before) {',
    ...listed.flatMap((flag) =>
      names(flag).map(
        (word) =>
          `    ${powershellQuoted(word)} { $words = @(${values[flag.name]!.map((one) => `@('${one}', '${one}')`).join(', ')}) }`,
      ),
    ),
    `    'completion' { $words = @(${COMPLETION_SHELLS.map((one) => `@('${one}', '${one}')`).join(', ')}) }`,
    '  }',
    '  $words | Where-Object { $_[0].StartsWith($wordToComplete) } | ForEach-Object {',
    "    [System.Management.Automation.CompletionResult]::new($_[0], $_[0], 'ParameterValue', $_[1])",
    '  }',
    '}',
  ].join('\n');
}

const escaped = (text: string, special: RegExp): string => text.replace(special, (one) => `\\${one}`);
/** For POSIX shells. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
/** Double quotes, within single ones. */
const quotedWithin = (text: string): string => `"${text.replaceAll('"', '\\"')}"`;
const fishQuoted = (text: string): string => `'${escaped(text, /[\\']/g)}'`;
const powershellQuoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
