/** What the command lines of benchmarks have in common: numbers, help, and how a program ends. */
import { describeError, SallyportError } from '../src/base/error.js';

/** Where help is asked for it is printed, and the program ends. */
export function helpFirst(usage: string): void {
  if (!process.argv.includes('--help')) return;
  process.stdout.write(`${usage}\n`);
  process.exit(0);
}

/** @throws SallyportError BENCH_USAGE (caller) */
export function wholeNumber(option: string, text: string | undefined, fallback: number, usage: string): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw badUsage(`${option} ${text}: a whole number from 1 on`, usage);
  return value;
}

/** One of `names`, or all of them. @throws SallyportError BENCH_USAGE (caller) */
export function chosen<N extends string>(
  option: string,
  text: string | undefined,
  names: readonly N[],
  usage: string,
): readonly N[] {
  if (text === undefined) return names;
  const asked = text.split(',').filter((name) => name !== '');
  const unknown = asked.find((name) => !names.includes(name as N));
  if (asked.length === 0 || unknown !== undefined) {
    throw badUsage(`${option} ${text}: one or more of ${names.join(', ')}`, usage);
  }
  return names.filter((name) => asked.includes(name));
}

export function badUsage(message: string, usage: string): SallyportError {
  return new SallyportError('caller', 'BENCH_USAGE', `${message}\n${usage}`);
}

/** Runs a program to its end: exit code 2 for a bad command line, 1 for anything else that goes wrong. */
export async function asProgram(main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main();
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`);
    const isUsage = !(error instanceof SallyportError) || error.kind === 'caller';
    process.exitCode = isUsage ? 2 : 1;
  }
}
