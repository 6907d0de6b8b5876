/** The command line of `node bench/tun2socks.mjs`. */
import { parseArgs } from 'node:util';
import { chosen, wholeNumber } from './arguments.js';

export const PARTS = ['tcp', 'ping', 'bursts', 'mixed', 'quic'] as const;
export type Part = (typeof PARTS)[number];

export interface Options {
  readonly rounds: number;
  /** Of each TCP measurement. */
  readonly seconds: number;
  readonly subjects: readonly string[];
  readonly parts: readonly Part[];
  readonly json: boolean;
  readonly out: string | undefined;
}

const usageOf = (
  subjects: readonly string[],
): string => `node bench/tun2socks.mjs [options]      root; about 50 s for a subject and round
  --rounds N    how often each subject runs (default 3), in turns
  --seconds N   of each TCP measurement (default 5)
  --only LIST   subjects: ${subjects.join(', ')}
  --part LIST   measurements: ${PARTS.join(', ')}
  --json        print the JSON document instead of the table
  --out FILE    write it there too`;

/** Undefined: help was asked for, and printed. @throws SallyportError BENCH_USAGE (caller), and parseArgs' own errors. */
export function parseOptions(subjects: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      only: { type: 'string' },
      part: { type: 'string' },
      json: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  });
  const usage = usageOf(subjects);
  if (values.help === true) {
    console.log(usage);
    return undefined;
  }
  return {
    rounds: wholeNumber('--rounds', values.rounds, 3, usage),
    seconds: wholeNumber('--seconds', values.seconds, 5, usage),
    subjects: chosen('--only', values.only, subjects, usage),
    parts: chosen('--part', values.part, PARTS, usage),
    json: values.json,
    out: values.out,
  };
}
