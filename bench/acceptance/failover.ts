/**
 * `failover`: a ping every 10 ms and one download after the other while the direct path between two NATs is cut both ways or one way,
 * a NAT forgets its mappings, loss grows from nothing to everything, and the path is cut and restored again and again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Seconds } from '../../src/base/time.js';
import { type Cut, cutDirectPath, loseOnDirectPath } from '../../test/e2e/direct-path.js';
import type { Network } from '../../test/e2e/network.js';
import { quantile } from '../statistics.js';
import { Downloads } from './downloads.js';
import type { PingReport, SteadyPing } from './ping.js';
import { goesBy, makeScene, sessionOf, startPing } from './scene.js';
import type { Case, Hold } from './suite.js';

/** What the case is about is repeated so often, unless `--runs` says otherwise. */
const CUTS = 50;
const RAMPS = 20;
const CYCLES = 100;
/** Milliseconds: from a direct link to the next cut, and how long one is looked at. */
const STEADY = 700;
const WINDOW = 1500;
/** Loss grows by so many percent at a time. */
const STEP = 5;
/** Milliseconds from no loss to nothing but loss. */
const RAMP = 5000;
/** A direct link that has failed again and again is used again after 64 s at the latest (protocol.md, “Staying on the best link”). */
const LAST = Seconds(75);

export function failoverCases(runs: number | undefined): readonly Case[] {
  return [
    ...(['both', 'to the connector', 'to the agent'] as const).map((cut) => cutCase(cut, runs ?? CUTS)),
    {
      name: 'NAT of the agent forgets',
      peers: '',
      run: (hold) =>
        repeated(hold, runs ?? CUTS, ({ topology }) => {
          topology.nats.user[0]!.restart();
          return () => undefined;
        }),
    },
    { name: 'loss from 0 to 100 % in 5 s', peers: '', run: (hold) => ramps(hold, runs ?? RAMPS) },
    { name: 'cut and restored again and again', peers: '', run: (hold) => cycles(hold, runs ?? CYCLES) },
  ];
}

function cutCase(cut: Cut, runs: number): Case {
  return {
    name: cut === 'both' ? 'cut both ways' : `black hole ${cut}`,
    peers: '',
    run: (hold) =>
      repeated(hold, runs, (network) => {
        cutDirectPath(network, cut);
        return () => cutDirectPath(network, 'none');
      }),
  };
}

interface Scene {
  readonly network: Network;
  readonly ping: SteadyPing;
  readonly downloads: Downloads;
}

async function begin(hold: Hold): Promise<Scene> {
  const home = { kind: 'moderate' } as const;
  const network = await makeScene(hold, { topology: { user: home, service: home, serviceClosed: false } });
  const ping = await startPing(network);
  await goesBy(network, 'direct');
  return { network, ping, downloads: await Downloads.start(network) };
}

/** The end of all cases: every download was whole, and the session is direct and answers everything. */
async function end({ network, ping, downloads }: Scene, session: string): Promise<string> {
  await goesBy(network, 'direct', LAST);
  const whole = await downloads.stop();
  await ping.reset();
  await delay(WINDOW + WINDOW);
  const { lost } = await ping.report();
  await ping.stop();
  if (lost > 0) throw new Error(`${lost} pings are lost although nothing happens any more`);
  const now = await sessionOf(network);
  if (now?.session !== session) throw new Error('it is another session');
  return `${whole} downloads whole`;
}

/** So often: something happens, it is looked at, and it is undone. */
async function repeated(hold: Hold, runs: number, happens: (network: Network) => () => void): Promise<string> {
  const scene = await begin(hold);
  const { network, ping } = scene;
  const { session } = await goesBy(network, 'direct');
  const reports: PingReport[] = [];
  const backs: number[] = [];
  for (let run = 0; run < runs; run++) {
    await goesBy(network, 'direct', LAST);
    await delay(STEADY);
    await ping.reset();
    const undo = happens(network);
    await delay(WINDOW);
    reports.push(await ping.report());
    undo();
    const undone = performance.now();
    await goesBy(network, 'direct', LAST);
    backs.push(performance.now() - undone);
  }
  const gaps = reports.map(({ longestGapMs }) => longestGapMs);
  const last = await end(scene, session);
  return `gap ${milliseconds(gaps)} (${runs} times); direct again ${milliseconds(backs)} after its end; ${last}`;
}

async function ramps(hold: Hold, runs: number): Promise<string> {
  const scene = await begin(hold);
  const { network, ping } = scene;
  const { session } = await goesBy(network, 'direct');
  const bySecond: number[][] = Array.from({ length: RAMP / 1000 }, () => []);
  for (let run = 0; run < runs; run++) {
    await goesBy(network, 'direct', LAST);
    await delay(STEADY);
    await ping.reset();
    const started = performance.now();
    for (let percent = STEP; percent <= 100; percent += STEP) {
      await delay(Math.max(0, started + ((percent - STEP) / 100) * RAMP - performance.now()));
      loseOnDirectPath(network, percent);
    }
    await delay(WINDOW);
    const { lostBySecond } = await ping.report();
    bySecond.forEach((seen, second) => void seen.push(lostBySecond[second] ?? 0));
    loseOnDirectPath(network, 0);
  }
  const last = await end(scene, session);
  const medians = bySecond.map((seen) => quantile(seen, 0.5)).join(', ');
  const worst = bySecond.map((seen) => Math.max(...seen)).join(', ');
  return `of 100 pings a second, lost in each second of five: median ${medians}, most ${worst} (${runs} times); ${last}`;
}

async function cycles(hold: Hold, runs: number): Promise<string> {
  const scene = await begin(hold);
  const { network } = scene;
  const { session } = await goesBy(network, 'direct');
  for (let run = 0; run < runs; run++) {
    cutDirectPath(network, 'both');
    // From too short to be noticed to long enough for the link to be given up.
    await delay(100 + ((run * 370) % 2000));
    cutDirectPath(network, 'none');
    await delay(100 + ((run * 230) % 1000));
  }
  const started = performance.now();
  await goesBy(network, 'direct', LAST);
  const back = Math.round(performance.now() - started);
  const last = await end(scene, session);
  return `${runs} times, away for 0.1 – 2.1 s each: direct ${back} ms after the last; ${last}`;
}

function milliseconds(values: readonly number[]): string {
  const at = (q: number): number => Math.round(quantile(values, q));
  return `p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms`;
}
