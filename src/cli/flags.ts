/**
 * Command-line flags with the rules of Go's pflag, for programs that have to take what datadog-traceroute takes:
 *
 *   --name value · --name=value · -n value · -nvalue · -n=value     a value
 *   --name · --name=false · -n · -abc                               a boolean; several short ones in one word
 *   --                                                              the end of flags; they may follow arguments until there
 */
import type { Command } from 'commander';
import { SallyportError } from '../base/error.js';
import { parseBoolean, parseInteger } from '../trace/values.js';

export interface Flag {
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  readonly kind: 'bool' | 'int' | 'float' | 'string';
  /** Shown in the usage; a flag that was not given has no value. */
  readonly fallback?: boolean | number | string;
  readonly usage: string;
}

export interface ParsedFlags {
  readonly values: ReadonlyMap<string, boolean | number | string>;
  readonly args: readonly string[];
}

/** @throws SallyportError FLAG_SYNTAX (caller). */
export function parseFlags(flags: readonly Flag[], argv: readonly string[]): ParsedFlags {
  const values = new Map<string, boolean | number | string>();
  const args: string[] = [];
  const words = [...argv];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === '--') {
      args.push(...words);
      break;
    }
    if (word.startsWith('--')) parseLong(flags, word, words, values);
    else if (word.startsWith('-') && word !== '-') parseShort(flags, word, words, values);
    else args.push(word);
  }
  return { values, args };
}

/** The flags one a line, by name, texts aligned. */
export function flagUsages(flags: readonly Flag[]): string {
  const rows = [...flags]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((flag) => {
      const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
      const kind = flag.kind === 'bool' ? '' : ` ${flag.kind}`;
      return { head: `  ${short}--${flag.name}${kind}`, text: `${flag.usage}${fallbackText(flag)}` };
    });
  const width = Math.max(...rows.map((row) => row.head.length));
  return rows.map((row) => `${row.head.padEnd(width)}   ${row.text}`).join('\n');
}

/** Makes the flags known to commander, which does not read them: completion scripts list them. */
export function declareFlags(command: Command, flags: readonly Flag[]): void {
  for (const { name, short, kind, usage } of flags) {
    if (name === 'help') continue;
    command.option(`${short === undefined ? '' : `-${short}, `}--${name}${kind === 'bool' ? '' : ` <${kind}>`}`, usage);
  }
}

function fallbackText({ kind, fallback }: Flag): string {
  if (fallback === undefined || fallback === false || fallback === '' || fallback === 0) return '';
  return ` (default ${kind === 'string' ? JSON.stringify(fallback) : fallback})`;
}

function parseLong(
  flags: readonly Flag[],
  word: string,
  words: string[],
  values: Map<string, boolean | number | string>,
): void {
  const at = word.indexOf('=');
  const name = word.slice(2, at < 0 ? undefined : at);
  if (name === '' || name.startsWith('-')) throw wrong(`bad flag syntax: ${word}`);
  const flag = flags.find((one) => one.name === name);
  if (flag === undefined) throw wrong(`unknown flag: --${name}`);
  if (at >= 0) values.set(name, convert(flag, word.slice(at + 1)));
  else if (flag.kind === 'bool') values.set(name, true);
  else {
    const value = words.shift();
    if (value === undefined) throw wrong(`flag needs an argument: --${name}`);
    values.set(name, convert(flag, value));
  }
}

function parseShort(
  flags: readonly Flag[],
  word: string,
  words: string[],
  values: Map<string, boolean | number | string>,
): void {
  for (let letters = word.slice(1); letters !== ''; ) {
    const letter = letters[0]!;
    const rest = letters.slice(1);
    const flag = flags.find((one) => one.short === letter);
    if (flag === undefined) throw wrong(`unknown shorthand flag: '${letter}' in ${word}`);
    if (rest.startsWith('=')) {
      values.set(flag.name, convert(flag, rest.slice(1)));
      return;
    }
    if (flag.kind === 'bool') {
      values.set(flag.name, true);
      letters = rest;
      continue;
    }
    const value = rest === '' ? words.shift() : rest;
    if (value === undefined) throw wrong(`flag needs an argument: '${letter}' in ${word}`);
    values.set(flag.name, convert(flag, value));
    return;
  }
}

function convert(flag: Flag, text: string): boolean | number | string {
  if (flag.kind === 'string') return text;
  const value =
    flag.kind === 'bool' ? parseBoolean(text) : flag.kind === 'int' ? parseInteger(text) : parseFraction(text);
  if (value !== undefined) return value;
  const shown = flag.short === undefined ? `--${flag.name}` : `-${flag.short}, --${flag.name}`;
  const parser = flag.kind === 'bool' ? 'ParseBool' : flag.kind === 'int' ? 'ParseInt' : 'ParseFloat';
  const quoted = JSON.stringify(text);
  throw wrong(`invalid argument ${quoted} for "${shown}" flag: strconv.${parser}: parsing ${quoted}: invalid syntax`);
}

function parseFraction(text: string): number | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : undefined;
}

function wrong(message: string): SallyportError {
  return new SallyportError('caller', 'FLAG_SYNTAX', message);
}
