/**
 * Side-by-side benchmark in network namespaces: no tunnel, wireguard-go, Sallyport, in turns. Prints one table and writes one JSON
 * file with the raw runs to bench/results/. Needs root and the programs of test/lab/packages.txt.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError, SallyportError } from '../src/base/error.js';
import { Lab } from '../test/lab/lab.js';
import { REPOSITORY } from '../test/lab/services.js';
import { describeMachine } from './machine.js';
import { FULL, type Plan, QUICK, rowsOf, TUNNEL_MTU } from './plan.js';
import { type Report, renderTable, type SubjectInfo, summarizeRows } from './report.js';
import { type RunRecord, runOnce } from './run.js';
import type { Subject } from './subject.js';
import { none } from './subjects/none.js';
import { Sallyport } from './subjects/sallyport.js';
import { WireguardGo } from './subjects/wireguard-go.js';

const USAGE = `npm run bench -- [--quick] [--json] [--subject NAME]... [--rounds N] [--out FILE]
  --quick     short runs: at most four minutes in all
  --json      print the JSON document instead of the table
  --subject   only these: none, wireguard-go, sallyport
  --rounds    how often each subject runs (default 5, quick 3)
  --out       where the JSON document goes (default bench/results/DATE-COMMIT[-quick].json)`;

const OURS = 'sallyport';
const PEER = 'wireguard-go';

interface Options {
  readonly plan: Plan;
  readonly quick: boolean;
  readonly json: boolean;
  readonly subjects: readonly Subject[];
  readonly out: string | undefined;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) return 0;
  const reason = Lab.unavailable();
  if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
  Lab.cleanStale();

  const infos: SubjectInfo[] = [];
  const ready: Subject[] = [];
  for (const subject of options.subjects) {
    try {
      infos.push({ name: subject.name, version: await subject.prepare() });
      ready.push(subject);
    } catch (error) {
      infos.push({ name: subject.name, version: '', unavailable: `left out: ${describeError(error)}` });
    }
  }

  const runs: RunRecord[] = [];
  for (let round = 0; round < options.plan.rounds; round++) {
    for (const subject of ready) {
      process.stderr.write(`round ${round + 1} of ${options.plan.rounds}: ${subject.name}\n`);
      runs.push(await runOnce(subject, options.plan, round));
    }
  }

  const report: Report = {
    format: 1,
    date: new Date().toISOString(),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
    machine: describeMachine(),
    plan: options.plan,
    tunnelMtu: TUNNEL_MTU,
    subjects: infos,
    rows: summarizeRows(rowsOf(options.plan), runs, OURS, PEER),
    runs,
  };
  const file = options.out ?? defaultFile(report, options.quick);
  const text = `${JSON.stringify(report, undefined, 2)}\n`;
  writeFileSync(file, text);
  process.stdout.write(options.json ? text : `${renderTable(report, OURS, PEER)}\n`);
  process.stderr.write(`written to ${file}\n`);
  return runs.some((run) => Object.keys(run.errors).length > 0) ? 1 : 0;
}

/** Undefined after --help. Throws BENCH_USAGE. */
function parseOptions(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      subject: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      out: { type: 'string' },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return undefined;
  }
  const all: readonly Subject[] = [none, new WireguardGo(), new Sallyport()];
  const unknown = values.subject?.find((name) => !all.some((subject) => subject.name === name));
  if (unknown !== undefined) throw new SallyportError('caller', 'BENCH_USAGE', `no subject ${unknown}\n${USAGE}`);
  const base = values.quick ? QUICK : FULL;
  const rounds = Number(values.rounds ?? base.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new SallyportError('caller', 'BENCH_USAGE', `--rounds ${values.rounds}: a whole number from 1 on`);
  }
  return {
    plan: { ...base, rounds },
    quick: values.quick,
    json: values.json,
    subjects: all.filter((subject) => values.subject?.includes(subject.name) ?? true),
    out: values.out,
  };
}

function defaultFile(report: Report, quick: boolean): string {
  const folder = join(REPOSITORY, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const date = report.date.slice(0, 16).replaceAll(':', '');
  return join(folder, `${date}-${report.machine.commit}${quick ? '-quick' : ''}.json`);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = error instanceof SallyportError && error.kind !== 'caller' ? 1 : 2;
}
