/**
 * `connect`: how long it takes from the start of an agent's process to the first answer of the service, which comes through the relay, and
 * to the direct link, over links of 20 ms round trip each (so 40 ms between any two), for every pair of NATs that lets itself be
 * punched easily.
 */

import { Seconds } from '../../src/base/time.js';
import type { AgentThreadStatus } from '../../test/e2e/network.js';
import type { NatKind } from '../../test/lab/nat.js';
import { pollUntil } from '../../test/lab/process.js';
import { impairUplink } from '../../test/lab/topology.js';
import { quantile } from '../statistics.js';
import { goesBy, makeScene, pathSince, startPing } from './scene.js';
import type { Case, Hold } from './suite.js';

const RUNS = 50;
/** One way, of each of the three links, in milliseconds. */
const DELAY = 10;
const KINDS = ['none', 'open', 'moderate'] as const;
type Kind = 'none' | NatKind;

export function connectCases(runs: number | undefined): readonly Case[] {
  return KINDS.flatMap((user) =>
    KINDS.map((service) => ({
      name: `${user} × ${service}`,
      peers: '',
      run: (hold: Hold) => connectTimes(hold, user, service, runs ?? RUNS),
    })),
  );
}

async function connectTimes(hold: Hold, user: Kind, service: Kind, runs: number): Promise<string> {
  const network = await makeScene(hold, {
    topology: { user: attachment(user), service: attachment(service), serviceClosed: false },
  });
  for (const uplink of ['user', 'relay', 'service'] as const) {
    await impairUplink(network.topology, uplink, { profile: { delay: DELAY } });
  }
  const firsts: number[] = [];
  const directs: number[] = [];
  const ping = await startPing(network);
  for (let run = 0; run < runs; run++) {
    await network.agent.stop();
    await ping.reset();
    const start = Date.now();
    network.agent.start();
    await goesBy(network, 'direct');
    // The log's line may be on its way.
    await pollUntil('the path in the log', () => pathSince(network, 'direct', start) !== undefined, Seconds(5));
    const { firstAnswerAt } = await ping.report();
    directs.push(pathSince(network, 'direct', start)!);
    firsts.push(firstAnswerAt! - start);
  }
  const { sessions } = await network.agent.status<AgentThreadStatus>();
  await ping.stop();
  return `first answer ${times(firsts)}, direct ${times(directs)} after the start (${runs} times); round trip ${Math.round(sessions[0]!.link!.rttMilliseconds)} ms`;
}

function times(values: readonly number[]): string {
  const seconds = (q: number): string => (quantile(values, q) / 1000).toFixed(2);
  return `p50 ${seconds(0.5)} s, p95 ${seconds(0.95)} s`;
}

function attachment(kind: Kind) {
  return kind === 'none' ? ('open' as const) : ({ kind, ipv6: 'none' } as const);
}
