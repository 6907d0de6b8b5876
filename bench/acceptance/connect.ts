/**
 * `connect`: how long it takes from the start of an agent's process until it can take a first packet, and from there to the service's first
 * answer, which comes through the relay, and to the direct link, over links of 20 ms round trip each (so 40 ms between any two), for every pair of NATs.
 * Two symmetric ones stay with the relay.
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
  const seen = { begun: [] as number[], first: [] as number[], direct: [] as number[] };
  const ping = await startPing(network);
  // The cables that were put in changed the routers' devices, at which they forgot who is behind them: nobody reaches the
  // connector before its next sign of life. So the first start is not counted.
  for (let run = -1; run < runs; run++) {
    await network.agent.stop();
    await ping.reset();
    const start = Date.now();
    network.agent.start();
    await goesBy(network, via, DIRECT_LIMIT);
    // The log's line may be on its way.
    await pollUntil('the path in the log', () => pathSince(network, via, start) !== undefined, Seconds(5));
    await pollUntil('an answer', async () => (await ping.report()).firstAnswerAt !== undefined, Seconds(5));
    const { firstAnswerAt } = await ping.report();
    const asked = network.agent
      .logged('session')
      .find((line) => line['to'] === 'opening' && Number(line['time']) >= start);
    if (run < 0) continue;
    const begun = Number(asked!['time']) - start;
    seen.begun.push(begun);
    seen.first.push(firstAnswerAt! - start - begun);
    seen.direct.push(pathSince(network, via, start)! - begun);
  }
  const { sessions } = await network.agent.status<AgentThreadStatus>();
  await ping.stop();
  const rtt = Math.round(sessions[0]!.link!.rttMilliseconds);
  const whole = (since: readonly number[]): string => times(since.map((value, i) => value + seen.begun[i]!));
  const answer = `to the first answer ${whole(seen.first)} (from the first packet ${times(seen.first)})`;
  const direct = via === 'relay' ? '' : `, to the direct link ${whole(seen.direct)} (${times(seen.direct)})`;
  return `from the process's start ${answer}${direct} (${runs} times, round trip ${rtt} ms)`;
}

function times(values: readonly number[]): string {
  const seconds = (q: number): string => (quantile(values, q) / 1000).toFixed(2);
  return `p50 ${seconds(0.5)} s, p95 ${seconds(0.95)} s`;
}
