/**
 * `npm run soak -- --engine [--seconds 60] [--rate 10000]`: the engine by itself, in real time.
 *
 *   churn   that many connections a second for so long, each asked, answered and ended; resident memory does not grow in the second half
 *   rest    1000 flows that say nothing: resident memory above what Node has by itself (client's stack included)
 *   load    8 flows at full speed: turns over 5 ms are less than one in a hundred
 *
 * Ends with 1 when something is not as it should be.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { churn, EngineLoop, load, rest } from './engine.js';

const MEGABYTE = 1024 * 1024;
const REST_FLOWS = 1000;
const REST_MEGABYTES = 64;
/** Resident memory may differ so much between two looks at the same thing. */
const NOISE_MEGABYTES = 16;

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;

const option = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const seconds = option('--seconds', 60);
const perSecond = option('--rate', 10_000);
const now = (): number => performance.now() * 1000;
const resident = (): number => {
  collect();
  return process.memoryUsage().rss / MEGABYTE;
};
let rounds = 0;
/** Node's own loop runs now and then; a round without work waits for the next millisecond. */
const between = (isBusy: boolean): Promise<void> | undefined => {
  if (isBusy && ++rounds % 64 !== 0) return undefined;
  return new Promise((resolve) => setImmediate(resolve));
};
const problems: string[] = [];
const check = (isGood: boolean, what: string): void => {
  console.log(`${isGood ? 'good' : 'BAD '}  ${what}`);
  if (!isGood) problems.push(what);
};

await inFresh(async (loop) => {
  const before = resident();
  await rest(loop, REST_FLOWS, between);
  const more = resident() - before;
  check(
    more <= REST_MEGABYTES,
    `rest: ${REST_FLOWS} flows, ${more.toFixed(1)} MB more than before (${REST_MEGABYTES} at most)`,
  );
});

await inFresh(async (loop) => {
  const { slow, turns, mbits } = await load(loop, now, { flows: 8, seconds: Math.min(seconds, 20) }, between);
  const share = `${(slow * 100).toFixed(2)} %`;
  check(slow < 0.01, `load: 8 flows, ${Math.round(mbits)} Mbit/s, ${share} of ${turns} turns over 5 ms (1 % at most)`);
});

await inFresh(async (loop) => {
  const samples: number[] = [];
  const plan = { perSecond, count: perSecond * seconds };
  const busy = process.cpuUsage();
  const result = await churn(loop, now, plan, between, (share) => {
    if (share >= 0.5 * (samples.length + 1)) samples.push(resident());
  });
  const { done, failed, left } = result;
  const rate = Math.round(done / result.seconds);
  const { user, system } = process.cpuUsage(busy);
  check(
    failed === 0 && done === plan.count,
    `churn: ${done} of ${plan.count} connections, ${failed} failed, ${rate}/s of ${perSecond}/s wanted`,
  );
  console.log(
    `      churn: ${Math.round(done / ((user + system) / 1e6))} connections per second of processor time, client's stack included`,
  );
  check(rate >= 0.98 * perSecond, `churn: the rate was kept (${result.seconds.toFixed(1)} s for ${seconds} s)`);
  check(
    left.flows === 0 && left.held === 0,
    `churn: ${left.flows} flows and ${left.held} connections of the host are left`,
  );
  const [middle, end] = [samples[samples.length >> 1]!, samples.at(-1)!];
  check(
    end - middle < NOISE_MEGABYTES,
    `churn: ${middle.toFixed(1)} MB in the middle, ${end.toFixed(1)} MB at the end`,
  );
});
process.exitCode = problems.length === 0 ? 0 : 1;

async function inFresh(act: (loop: EngineLoop) => Promise<void>): Promise<void> {
  const loop = new EngineLoop(now, 1);
  await act(loop);
  loop.engine.stop();
}
