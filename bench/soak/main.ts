/** The command line of `npm run soak`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import { Lab } from '../../test/lab/lab.js';
import { REPOSITORY } from '../../test/lab/services.js';
import { asProgram } from '../arguments.js';
import { describeMachine } from '../machine.js';
import { LONG, SHORT, type SoakPlan } from './plan.js';
import type { SoakReport } from './report.js';
import { runSoak, type SoakResult } from './soak.js';
import { megabytes, ROLE_NAMES } from './verdict.js';

const USAGE = `npm run soak -- [--short] [--hours N] [--packets N] [--restarts N] [--reconnects N] [--json] [--out FILE]
  --short     about twenty seconds
  --hours     the packet phase ends after this long (default 24), or
  --packets   with this many inner packets (default 1e8)
  --restarts  of the relay, and then of the agent (default 1000 each)
  --reconnects  agents that come and go while every process lives on (default 20000)
  --load      seconds of each kind of load in a cycle (default 20)
  --idle      seconds of silence in a cycle (default 20; every 20th cycle 600)
  --json      print the JSON document instead of the summary
  --out       where the JSON document goes (default bench/results/soak-DATE-COMMIT.json)`;

/** Of each kind of restarts, when their number is given. */
const SAMPLES = 9;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      short: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      hours: { type: 'string' },
      packets: { type: 'string' },
      restarts: { type: 'string' },
      reconnects: { type: 'string' },
      load: { type: 'string' },
      idle: { type: 'string' },
      out: { type: 'string' },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const base = values.short ? SHORT : LONG;
  const restarts = number('--restarts', values.restarts);
  const plan: SoakPlan = {
    ...base,
    packets: number('--packets', values.packets) ?? base.packets,
    seconds: values.hours === undefined ? base.seconds : number('--hours', values.hours)! * 3600,
    relayRestarts: restarts ?? base.relayRestarts,
    agentRestarts: restarts ?? base.agentRestarts,
    restartsPerSample: restarts === undefined ? base.restartsPerSample : Math.max(1, Math.floor(restarts / SAMPLES)),
    reconnects: number('--reconnects', values.reconnects) ?? base.reconnects,
    loadSeconds: number('--load', values.load) ?? base.loadSeconds,
    idleSeconds: number('--idle', values.idle) ?? base.idleSeconds,
  };
  const reason = Lab.unavailable();
  if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
  Lab.cleanStale();
  const result = await runSoak(plan, (line) => process.stderr.write(`${line}\n`));
  const report: SoakReport = {
    format: 1,
    date: new Date().toISOString(),
    command: `npm run soak -- ${process.argv.slice(2).join(' ')}`.trim(),
    machine: describeMachine(),
    plan,
    result,
  };
  const folder = join(REPOSITORY, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const date = report.date.slice(0, 16).replaceAll(':', '');
  const file = values.out ?? join(folder, `soak-${date}-${report.machine.commit}.json`);
  const text = `${JSON.stringify(report, undefined, 1)}\n`;
  writeFileSync(file, text);
  process.stdout.write(values.json ? text : summary(result));
  process.stderr.write(`written to ${file}\n`);
  return result.problems.length === 0 ? 0 : 1;
}

function summary(result: SoakResult): string {
  const lines = [
    `${result.packets} packets, ${result.shortFlows.done} short flows, ${result.relayRestarts} restarts of the relay, ${result.agentRestarts} of the agent, ${result.reconnects?.done} reconnects (${result.reconnects?.failed} failed)`,
    ...ROLE_NAMES.map((role) => {
      const { wakeUpsPerSecond, rssBytes, seconds } = result.idle[role];
      const gc = (result.gcShare[role] * 100).toFixed(2);
      return `${role}: silent for ${seconds.toFixed(0)} s: ${wakeUpsPerSecond.toFixed(1)} wake-ups/s, ${megabytes(rssBytes)}; garbage collection ${gc} % of its CPU under load`;
    }),
    ...(result.problems.length === 0 ? ['memory and descriptors are flat'] : result.problems.map((one) => `! ${one}`)),
  ];
  return `${lines.join('\n')}\n`;
}

function number(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) {
    throw new SallyportError('caller', 'SOAK_USAGE', `${option} ${text}: a number above 0\n${USAGE}`);
  }
  return value;
}

await asProgram(main);
