/**
 * `npm run soak -- --engine`: the engine by itself, in real time.
 *
 *   rest    1000 flows that say nothing: resident memory above what Node has by itself (client's stack included)
 *   load    8 flows at full speed: turns over 5 ms are less than one in a hundred
 *   churn   that many connections a second for so long, each asked, answered and ended: the rate is kept, none fails, nothing is
 *           left, and resident memory is flat from the first tenth to the end
 *
 * Ends with 1 when something is not as it should be.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { asProgram, chosen, wholeNumber } from '../arguments.js';
import { churn, EngineLoop, load, rest } from './engine.js';

const PARTS = ['rest', 'load', 'churn'] as const;
const USAGE = `npm run soak -- --engine [--seconds 60] [--rate 10000] [--only PART,...]
  --seconds  how long connections come and go
  --rate     how many of them a second
  --only     ${PARTS.join(', ')}: only these`;

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
let problems = 0;
const check = (isGood: boolean, what: string): void => {
  console.log(`${isGood ? 'good' : 'BAD '}  ${what}`);
  if (!isGood) problems++;
};

await asProgram(async () => {
  const { values } = parseArgs({
    options: {
      engine: { type: 'boolean' },
      help: { type: 'boolean' },
      seconds: { type: 'string' },
      rate: { type: 'string' },
      only: { type: 'string' },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const seconds = wholeNumber('--seconds', values.seconds, 60, USAGE);
  const perSecond = wholeNumber('--rate', values.rate, 10_000, USAGE);
  const parts = chosen('--only', values.only, PARTS, USAGE);
  if (parts.includes('rest')) await inFresh(resting);
  if (parts.includes('load')) await inFresh((loop) => loading(loop, Math.min(seconds, LOAD_SECONDS)));
  if (parts.includes('churn')) await inFresh((loop) => churning(loop, perSecond, seconds));
  return problems === 0 ? 0 : 1;
});

async function resting(loop: EngineLoop): Promise<void> {
  const before = resident();
  await rest(loop, REST_FLOWS, between);
  const more = resident() - before;
  const text = `rest: ${REST_FLOWS} flows, ${more.toFixed(1)} MB more than before (${REST_MEGABYTES} at most)`;
  check(more <= REST_MEGABYTES, text);
}

async function loading(loop: EngineLoop, seconds: number): Promise<void> {
  const { slow, turns, mbits } = await load(loop, now, { flows: LOAD_FLOWS, seconds }, between);
  const share = `${(slow * 100).toFixed(2)} % of ${turns} turns over 5 ms (${SLOW_SHARE * 100} % at most)`;
  check(slow < SLOW_SHARE, `load: ${LOAD_FLOWS} flows, ${Math.round(mbits)} Mbit/s, ${share}`);
}

async function churning(loop: EngineLoop, perSecond: number, seconds: number): Promise<void> {
  const memory: number[] = [];
  const plan = { perSecond, count: perSecond * seconds };
  const before = resident();
  const result = await churn(loop, now, plan, between, (share) => {
    if (share >= LOOKS[memory.length]!) memory.push(resident());
  });
  const { done, failed, left } = result;
  const rate = done / result.seconds;
  check(failed === 0 && done === plan.count, `churn: ${done} of ${plan.count} connections, ${failed} failed`);
  const took = `${Math.round(rate)}/s of ${perSecond}/s, ${result.seconds.toFixed(1)} s for ${seconds} s`;
  check(rate >= RATE_SHARE * perSecond, `churn: the rate was kept: ${took}`);
  console.log(
    `      churn: busy for ${(result.busyShare * 100).toFixed(0)} % of the time, so ${Math.round(rate / result.busyShare)}/s at most; both ends in one thread`,
  );
  const rests = `${left.flows} flows, ${left.held} connections of the host`;
  check(left.flows === 0 && left.held === 0, `churn: ${rests} are left`);
  const text = memory.map((megabytes, i) => `${megabytes.toFixed(0)} MB at ${LOOKS[i]! * 100} %`).join(', ');
  const isFlat = memory.at(-1)! - memory[0]! < NOISE_MEGABYTES;
  check(isFlat, `churn: resident memory ${before.toFixed(0)} MB before, ${text}`);
}

async function inFresh(act: (loop: EngineLoop) => Promise<void>): Promise<void> {
  const loop = new EngineLoop(now, 1);
  await act(loop);
  loop.engine.stop();
}
