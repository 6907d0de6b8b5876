/**
 * `relay`: a relay of one family, UDP blocked before either node or both, the relay restarted underneath running flows, and outages
 * of five seconds.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Seconds } from '../../src/base/time.js';
import type { Network } from '../../test/e2e/network.js';
import { Download } from '../../test/e2e/transfer.js';
import type { HomeRouter } from '../../test/lab/topology.js';
import { fetchWhole, goesBy, makeScene, relayOver, startPing, webUrl } from './scene.js';
import type { Case, Hold } from './suite.js';

const BYTES = 3_000_000;
/** A download that lasts through what happens to it, at a rate in curl's units. */
const LONG = 30_000_000;
const RATE = '2M';
/** Milliseconds. */
const OUTAGE = 5000;

const OPEN: HomeRouter = { kind: 'moderate' };
const NO_UDP: HomeRouter = { kind: 'moderate', udp: false };

const peers = 'passes';

export const RELAY_CASES: readonly Case[] = [
  ...(['v4', 'v6'] as const).map((family) => ({
    name: `${family} only`,
    peers,
    run: async (hold: Hold) => {
      const network = await makeScene(hold, { family, path: 'relay' });
      const seconds = await fetchWhole(network, BYTES);
      const { address } = await relayOver(network);
      return `${megabytes(BYTES)} through ${address} in ${seconds.toFixed(1)} s`;
    },
  })),
  blocked('UDP blocked, agent', NO_UDP, OPEN),
  blocked('UDP blocked, connector', OPEN, NO_UDP),
  blocked('UDP blocked, both', NO_UDP, NO_UDP),
  interrupted('restart underneath, through the relay', 'relay', async (network) => {
    await network.relay.kill();
    await network.startRelay();
  }),
  interrupted('restart underneath, direct', 'direct', async (network) => {
    await network.relay.kill();
    await network.startRelay();
  }),
  ...(['relay', 'user', 'service'] as const).map((who) =>
    interrupted(
      `5 s outage of ${who === 'relay' ? 'the relay' : who === 'user' ? 'the agent' : 'the connector'}`,
      'relay',
      async (network) => {
        const { net } = network.topology;
        net.ip('link', 'set', `to-${who}`, 'down');
        await delay(OUTAGE);
        net.ip('link', 'set', `to-${who}`, 'up');
      },
    ),
  ),
];

function blocked(name: string, user: HomeRouter, service: HomeRouter): Case {
  return {
    name,
    peers,
    run: async (hold) => {
      const started = performance.now();
      const network = await makeScene(hold, { topology: { user, service } });
      const up = (performance.now() - started) / 1000;
      const seconds = await fetchWhole(network, BYTES);
      const { over } = await relayOver(network);
      const wanted = user.udp === false ? 'tcp' : 'udp';
      if (over !== wanted) throw new Error(`the agent reaches the relay over ${over}`);
      return `${megabytes(BYTES)} in ${seconds.toFixed(1)} s, everything up in ${up.toFixed(1)} s`;
    },
  };
}

/** A download and a ping run while `happens`; both go on. */
function interrupted(name: string, via: 'relay' | 'direct', happens: (network: Network) => Promise<void>): Case {
  return {
    name,
    peers,
    run: async (hold) => {
      const network = await makeScene(hold, { path: via === 'relay' ? 'relay' : 'auto' });
      const download = await Download.start(network, await webUrl(network), LONG, RATE);
      if (via === 'direct') await goesBy(network, 'direct');
      const ping = await startPing(network);
      await delay(500);
      await ping.reset();
      const before = performance.now();
      await happens(network);
      const took = performance.now() - before;
      await download.progress(Seconds(30));
      const outcome = await download.outcome(Seconds(90));
      if (outcome !== 'complete') throw new Error(`the download is ${outcome}`);
      const { lost, sent, longestGapMs } = await ping.report();
      await ping.stop();
      return `${(took / 1000).toFixed(1)} s away: ${(longestGapMs / 1000).toFixed(1)} s without an answer, ${lost} of ${sent} pings lost; the download is whole`;
    },
  };
}

function megabytes(bytes: number): string {
  return `${bytes / 1_000_000} MB`;
}
