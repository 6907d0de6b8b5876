/**
 * `npm run soak -- --engine`: the engine by itself, in real time.
 *
 *   rest    1000 flows that say nothing: resident memory above what Node has by itself (client's stack included)
 *   load    8 flows at full speed: turns over 5 ms, and turns that begin 5 ms late, are less than one in a hundred
 *   churn   that many connections a second for so long, each asked, answered and ended: the rate is kept, none fails, nothing is
 *           left, and resident memory is flat from the first tenth to the end
 *
 * Ends with 1 when something is not as it should be.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { asProgram, chosen, wholeNumber } from '../arguments.js';
import { type Bar, Figures } from '../figures.js';
import { churn, EngineLoop, load, rest } from './engine.js';

const PARTS = ['rest', 'load', 'churn'] as const;
const USAGE = `npm run soak -- --engine [--seconds 60] [--rate 10000] [--only PART,...] [--json] [--out FILE]
  --seconds  how long connections come and go
  --rate     how many of them a second
  --only     ${PARTS.join(', ')}: only these
  --json     print the JSON document instead of the figures
  --out      write it there too`;

const MEGABYTE = 1024 * 1024;
const REST_FLOWS = 1000;
const REST_MEGABYTES = 64;
const LOAD_FLOWS = 8;
const LOAD_SECONDS = 20;
/** Share of turns over 5 ms. */
const SLOW_SHARE = 0.01;
/** Of the rate wanted: what a look at the memory or the end of the last connection may cost. */
const RATE_SHARE = 0.98;
/** Resident memory may differ so much between two looks at the same thing. */
const NOISE_MEGABYTES = 16;
/** Shares of the connections after which memory is looked at; what came before the first one is warming up. */
const LOOKS = [0.1, 0.4, 0.7, 1];

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;
const now = (): number => performance.now() * 1000;
const resident = (): number => {
  collect();
  return process.memoryUsage().rss / MEGABYTE;
};
let rounds = 0;
/** Node's own loop runs now and then, and whenever there is nothing to do. */
const between = (isBusy: boolean): Promise<void> | undefined => {
  if (isBusy && ++rounds % 64 !== 0) return undefined;
  return new Promise((resolve) => setImmediate(resolve));
};
type Add = (id: string, label: string, unit: string, value: number, bar?: Bar) => void;

await asProgram(async () => {
  const { values } = parseArgs({
    options: {
      engine: { type: 'boolean' },
      help: { type: 'boolean' },
      seconds: { type: 'string' },
      rate: { type: 'string' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const seconds = wholeNumber('--seconds', values.seconds, 60, USAGE);
  const perSecond = wholeNumber('--rate', values.rate, 10_000, USAGE);
  const parts = chosen('--only', values.only, PARTS, USAGE);
  const figures = new Figures(values);
  const add: Add = (...row) => figures.add(...row);
  if (parts.includes('rest')) await inFresh((loop) => resting(loop, add));
  if (parts.includes('load')) await inFresh((loop) => loading(loop, add, Math.min(seconds, LOAD_SECONDS)));
  if (parts.includes('churn')) await inFresh((loop) => churning(loop, add, perSecond, seconds));
  figures.finish(`npm run soak -- ${process.argv.slice(2).join(' ')}`);
  for (const label of figures.missed) console.error(`not as it should be: ${label}`);
  return figures.missed.length === 0 ? 0 : 1;
});

async function resting(loop: EngineLoop, add: Add): Promise<void> {
  const before = resident();
  await rest(loop, REST_FLOWS, between);
  add('rest', `${REST_FLOWS} flows at rest, resident memory more than before`, 'MB', resident() - before, {
    most: REST_MEGABYTES,
  });
}

async function loading(loop: EngineLoop, add: Add, seconds: number): Promise<void> {
  const { slow, late, turns, mbits } = await load(loop, now, { flows: LOAD_FLOWS, seconds }, between);
  const of = `${LOAD_FLOWS} flows at full speed`;
  add('load', of, 'Mbit/s', mbits);
  add('load-turns', `${of}: turns`, '', turns);
  add('load-slow', `${of}: turns over 5 ms`, '% of them', slow * 100, { most: SLOW_SHARE * 100 });
  add('load-late', `${of}: turns that begin over 5 ms late`, '% of them', late * 100, { most: SLOW_SHARE * 100 });
}

async function churning(loop: EngineLoop, add: Add, perSecond: number, seconds: number): Promise<void> {
  const memory: number[] = [];
  const plan = { perSecond, count: perSecond * seconds };
  const before = resident();
  const result = await churn(loop, now, plan, between, (share) => {
    if (share >= LOOKS[memory.length]!) memory.push(resident());
  });
  const { done, failed, left } = result;
  const rate = done / result.seconds;
  const of = `${perSecond} connections a second for ${seconds} s`;
  add('churn-done', `${of}: done`, '', done, { least: plan.count });
  add('churn-failed', `${of}: failed`, '', failed, { most: 0 });
  add('churn-rate', `${of}: rate`, '/s', rate, { least: RATE_SHARE * perSecond });
  add('churn-busy', `${of}: busy, both ends in one thread`, '% of the time', result.busyShare * 100);
  add('churn-most', `${of}: so at most`, '/s', rate / result.busyShare);
  add('churn-left', `${of}: flows and connections of the host left`, '', left.flows + left.held, { most: 0 });
  add('churn-before', `${of}: resident memory before`, 'MB', before);
  memory.forEach((megabytes, i) => {
    const share = LOOKS[i]! * 100;
    const bar = i === LOOKS.length - 1 ? { most: memory[0]! + NOISE_MEGABYTES } : undefined;
    add(`churn-memory-${share}`, `${of}: resident memory at ${share} %`, 'MB', megabytes, bar);
  });
}

async function inFresh(act: (loop: EngineLoop) => Promise<void>): Promise<void> {
  const loop = new EngineLoop(now, 1);
  await act(loop);
  loop.engine.stop();
}
