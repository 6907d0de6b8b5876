/** The command line of `npm run bench`. */
import { parseArgs } from 'node:util';
import { SallyportError } from '../src/base/error.js';
import { CLEAN, FULL, type Link, LOSSY, type Plan, QUICK, QUICK_SUBJECTS, STANDARD } from './plan.js';
import type { Subject } from './subject.js';
import { SUBJECTS } from './subjects/all.js';

export const USAGE = `npm run bench -- [--quick | --full] [--subject NAME]... [--link ID]... [--rounds N]
                 [--minutes N] [--beside] [--json] [--out FILE | --add FILE]
  --quick     three subjects, clean link, short runs: at most four minutes in all
  --full      all subjects, clean and lossy links, long runs: about three hours
              (neither: all subjects, clean link, about a quarter of an hour)
  --subject   only these: ${names(SUBJECTS.map((subject) => subject.name))}
  --link      only these: clean, lossy (all of the following),
              ${names(LOSSY.map((link) => link.id))}
  --rounds    how often each subject runs
  --minutes   no run begins later than this
  --beside    over lossy links: all subjects at the same time, each in a laboratory of its own.
              They never have the whole machine; what a lossy link carries does not need it
  --json      print the JSON document instead of the table
  --out       where the JSON document goes (default bench/results/DATE-COMMIT.json)
  --add       a JSON document of an earlier benchmark, which gets these runs too (made where
              there is none)`;

export interface Options {
  readonly plan: Plan;
  readonly json: boolean;
  /** Subjects run at the same time; lossy links only. */
  readonly beside: boolean;
  readonly subjects: readonly Subject[];
  readonly out: string | undefined;
  readonly add: string | undefined;
}

/** Undefined when help was asked for. Throws BENCH_USAGE, and parseArgs' own errors. */
export function parseOptions(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      beside: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      subject: { type: 'string', multiple: true },
      link: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      minutes: { type: 'string' },
      out: { type: 'string' },
      add: { type: 'string' },
    },
  });
  if (values.help) return undefined;
  if (values.quick && values.full) throw usage('--quick and --full: one of them');
  if (values.out !== undefined && values.add !== undefined) throw usage('--out and --add: one of them');
  const base = values.quick ? QUICK : values.full ? FULL : STANDARD;
  const subjects = values.subject ?? (values.quick ? QUICK_SUBJECTS : SUBJECTS.map((subject) => subject.name));
  const links = values.link?.flatMap(linksOf) ?? base.links;
  if (values.beside && links.some((link) => link.profile === undefined)) {
    throw usage('--beside: over lossy links only (--link), a clean one is as fast as the machine');
  }
  return {
    plan: {
      ...base,
      rounds: positive('--rounds', values.rounds, base.rounds),
      minutes: positive('--minutes', values.minutes, base.minutes),
      links,
    },
    json: values.json,
    beside: values.beside,
    subjects: [...new Set(subjects)].map(subjectOf),
    out: values.out,
    add: values.add,
  };
}

function linksOf(id: string): readonly Link[] {
  if (id === 'lossy') return LOSSY;
  const link = [CLEAN, ...LOSSY].find((one) => one.id === id);
  if (link === undefined) throw usage(`no link ${id}`);
  return [link];
}

function subjectOf(name: string): Subject {
  const subject = SUBJECTS.find((one) => one.name === name);
  if (subject === undefined) throw usage(`no subject ${name}`);
  return subject;
}

function positive(option: string, text: string | undefined, fallback: number): number {
  const value = Number(text ?? fallback);
  if (!Number.isInteger(value) || value < 1) throw usage(`${option} ${text}: a whole number from 1 on`);
  return value;
}

function usage(message: string): SallyportError {
  return new SallyportError('caller', 'BENCH_USAGE', `${message}\n${USAGE}`);
}

/** Wrapped for 80 columns. */
function names(list: readonly string[]): string {
  return list.reduce((text, name) => {
    const last = text.split('\n').at(-1)!;
    return `${text},${last.length + name.length > 60 ? `\n              ${name}` : ` ${name}`}`;
  });
}
