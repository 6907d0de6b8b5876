/**
 * Side-by-side benchmark in network namespaces: no tunnel, the peers, Sallyport, in turns. Prints one table and writes one JSON
 * file with the raw runs to bench/results/. Needs root and the programs of test/lab/packages.txt.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeError, SallyportError } from '../src/base/error.js';
import { Lab } from '../test/lab/lab.js';
import { REPOSITORY } from '../test/lab/services.js';
import { asProgram } from './arguments.js';
import { describeMachine, type Machine } from './machine.js';
import { parseOptions, USAGE } from './options.js';
import { type Link, rowsOf, TUNNEL_MTU } from './plan.js';
import { mergeReports, type Report, renderTable, type SubjectInfo } from './report.js';
import { isDisturbed, type RunRecord, runBeside, runOnce } from './run.js';
import type { Subject } from './subject.js';
import { summarizeRows } from './summary.js';

const MS_PER_MINUTE = 60_000;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const earlier = options.add === undefined || !existsSync(options.add) ? undefined : readReport(options.add);
  const reason = Lab.unavailable();
  if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
  Lab.cleanStale();

  const infos: SubjectInfo[] = [];
  const ready: Subject[] = [];
  for (const subject of options.subjects) {
    try {
      tell(`${subject.name}: looking for it, building it where it is not there yet`);
      infos.push({ name: subject.name, version: await subject.prepare() });
      ready.push(subject);
    } catch (error) {
      infos.push({ name: subject.name, version: '', unavailable: `left out: ${describeError(error)}` });
      tell(`${subject.name}: ${describeError(error)}`);
    }
  }

  const { plan } = options;
  const groups = [plan.links.filter(isClean), plan.links.filter((link) => !isClean(link))];
  const todo = Array.from({ length: plan.rounds }, (_, round) => round).flatMap((round) =>
    groups
      .filter((links) => links.length > 0)
      .flatMap((links) => turns(ready, options.beside).map((subjects) => ({ round, links, subjects }))),
  );
  const firstRound = 1 + Math.max(-1, ...(earlier?.runs.map((run) => run.round) ?? []));
  const runs: RunRecord[] = [];
  const machine = describeMachine();
  const file = options.out ?? options.add ?? defaultFile(machine);
  // After every run: a benchmark that is interrupted keeps what it has measured.
  const write = (): Report => {
    const now: Report = {
      format: 2,
      date: new Date().toISOString(),
      commands: [`npm run bench -- ${process.argv.slice(2).join(' ')}`.trim()],
      machine,
      tunnelMtu: TUNNEL_MTU,
      plan,
      subjects: infos,
      rows: summarizeRows(rowsOf(plan), runs),
      runs,
    };
    const report = earlier === undefined ? now : mergeReports(earlier, now);
    writeFileSync(file, `${JSON.stringify(report, undefined, 1)}\n`);
    return report;
  };
  const begun = performance.now();
  for (const [index, { round, links, subjects }] of todo.entries()) {
    const elapsed = performance.now() - begun;
    // A run takes as long as those before it took on average.
    const expected = index === 0 ? 0 : elapsed / index;
    if (elapsed + expected > plan.minutes * MS_PER_MINUTE) {
      tell(`${plan.minutes} minutes are over: ${todo.length - index} of ${todo.length} runs left out`);
      break;
    }
    const left = index === 0 ? '' : `, about ${Math.ceil((expected * (todo.length - index)) / MS_PER_MINUTE)} min left`;
    const over = links.length === 1 ? links[0]!.label : `${links.length} links`;
    tell(
      `${index + 1} of ${todo.length}${left}: round ${round + 1}, ${subjects.map(({ name }) => name).join(' beside ')}, ${over}`,
    );
    const now = options.beside
      ? await runBeside(subjects, plan, links, firstRound + round)
      : [await runOnce(subjects[0]!, plan, links, firstRound + round)];
    for (const run of now) {
      if (isDisturbed(run))
        tell(`  the machine was busy: ${run.otherLoad.toFixed(2)} cores before, ${run.loadDuring.toFixed(2)} during`);
      for (const [what, error] of Object.entries(run.errors)) tell(`  ${what}: ${error.split('\n')[0]}`);
    }
    runs.push(...now);
    write();
  }

  const report = write();
  process.stdout.write(options.json ? readFileSync(file, 'utf8') : `${renderTable(report)}\n`);
  tell(`written to ${file}`);
  return runs.some((run) => Object.keys(run.errors).length > 0) ? 1 : 0;
}

/** Who runs when: one after the other, or all at once. */
function turns(subjects: readonly Subject[], beside: boolean): readonly (readonly Subject[])[] {
  return beside ? [subjects] : subjects.map((subject) => [subject]);
}

function isClean(link: Link): boolean {
  return link.profile === undefined;
}

function readReport(file: string): Report {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
    if (report.format === 2) return report;
  } catch (cause) {
    throw new SallyportError('caller', 'BENCH_USAGE', `--add ${file}: ${(cause as Error).message}`, { cause });
  }
  throw new SallyportError('caller', 'BENCH_USAGE', `--add ${file}: not a document of this benchmark`);
}

function defaultFile(machine: Machine): string {
  const folder = join(REPOSITORY, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const date = new Date().toISOString().slice(0, 16).replaceAll(':', '');
  return join(folder, `${date}-${machine.commit}.json`);
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

await asProgram(main);
