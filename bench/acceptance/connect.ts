/**
 * `connect`: how long it takes from the start of an agent's process until it can take a first packet, and from there to the service's first
 * answer, which comes through the relay, and to the direct link, over links of 20 ms round trip each (so 40 ms between any two), for every pair of NATs.
 * Two symmetric ones stay with the relay, and so may pairs of which one port has to be guessed, which is tried once: those of them that do are
 * told, and may be one in ten.
 */

import { Seconds } from '../../src/base/time.js';
import type { AgentThreadStatus } from '../../test/e2e/network.js';
import { pollUntil } from '../../test/lab/process.js';
import { type Attachment, impairUplink } from '../../test/lab/topology.js';
import { NAT_KINDS, type PairKind } from '../nat/pair.js';
import { quantile } from '../statistics.js';
import { goesBy, makeScene, pathSince, startPing } from './scene.js';
import type { Case, Hold } from './suite.js';

const RUNS = 50;
/** Where ports are guessed it takes seconds. */
const DIRECT_LIMIT = Seconds(60);
/** Runs of those that may end without a direct link: 256 sockets and 1,000 guessed ports miss each other in two of a hundred (docs/nat.md). */
const MISSES = 0.1;
/** One way, of each of the three links, in milliseconds. */
const DELAY = 10;

export function connectCases(runs: number | undefined): readonly Case[] {
  return NAT_KINDS.flatMap((user) =>
    NAT_KINDS.map((service) => ({
      name: `${user} × ${service}`,
      peers: '',
      run: (hold: Hold) => connectTimes(hold, user, service, runs ?? RUNS),
    })),
  );
}

/** A bad cable in a host itself would be a tunnel device to the product, which uses none for direct links: a router stands before each. */
function attachment(kind: PairKind): Attachment {
  return kind === 'none' ? 'routed' : { kind, ipv6: 'none' };
}

async function connectTimes(hold: Hold, user: PairKind, service: PairKind, runs: number): Promise<string> {
  const network = await makeScene(hold, {
    topology: { user: attachment(user), service: attachment(service), serviceClosed: false },
  });
  for (const uplink of ['user', 'relay', 'service'] as const) {
    await impairUplink(network.topology, uplink, { profile: { delay: DELAY } });
  }
  const via = user === 'strict' && service === 'strict' ? 'relay' : 'direct';
  const isGuessed = [user, service].sort().join() === 'moderate,strict';
  let missed = 0;
  const seen = { begun: [] as number[], first: [] as number[], direct: [] as { begun: number; took: number }[] };
  const ping = await startPing(network);
  // The cables that were put in changed the routers' devices, at which they forgot who is behind them: nobody reaches the
  // connector before its next sign of life. So the first start is not counted.
  for (let run = -1; run < runs; run++) {
    await network.agent.stop();
    await ping.reset();
    const start = Date.now();
    network.agent.start();
    const goes = await goesBy(network, via, DIRECT_LIMIT).then(
      () => true,
      (error: unknown) => {
        if (!isGuessed || (run >= 0 && ++missed > runs * MISSES)) throw error;
        return false;
      },
    );
    // The log's line may be on its way.
    if (goes) await pollUntil('the path in the log', () => pathSince(network, via, start) !== undefined, Seconds(5));
    await pollUntil('an answer', async () => (await ping.report()).firstAnswerAt !== undefined, Seconds(5));
    const { firstAnswerAt } = await ping.report();
    const asked = network.agent
      .logged('session')
      .find((line) => line['to'] === 'opening' && Number(line['time']) >= start);
    if (run < 0) continue;
    const begun = Number(asked!['time']) - start;
    seen.begun.push(begun);
    seen.first.push(firstAnswerAt! - start - begun);
    if (goes) seen.direct.push({ begun, took: pathSince(network, via, start)! - begun });
  }
  const { sessions } = await network.agent.status<AgentThreadStatus>();
  await ping.stop();
  const rtt = Math.round(sessions[0]!.link!.rttMilliseconds);
  const whole = times(seen.first.map((value, i) => value + seen.begun[i]!));
  const answer = `to the first answer ${whole} (from the first packet ${times(seen.first)})`;
  const took = seen.direct.map((run) => run.took);
  const sinceStart = times(seen.direct.map((run) => run.begun + run.took));
  const share = missed === 0 ? '' : ` in ${seen.direct.length} of the runs`;
  const direct = via === 'relay' ? '' : `, to the direct link${share} ${sinceStart} (${times(took)})`;
  return `from the process's start ${answer}${direct} (${runs} times, round trip ${rtt} ms)`;
}

function times(values: readonly number[]): string {
  const seconds = (q: number): string => (quantile(values, q) / 1000).toFixed(2);
  return `p50 ${seconds(0.5)} s, p95 ${seconds(0.95)} s`;
}
