/**
 * `degrade`: the nine links of the ladder, before the agent and before the connector, both behind a port-restricted NAT. The node whose
 * link is bad starts anew on it; then a first answer comes, a direct link forms, and a file arrives whole.
 */
import { type Duration, Seconds } from '../../src/base/time.js';
import { impairUplink } from '../../test/lab/topology.js';
import { LADDER, profileOf, type Rung } from './ladder.js';
import { fetchWhole, goesBy, makeScene, startPing } from './scene.js';
import type { Case } from './suite.js';

/** A file takes the link about so long without loss, and is so large at most. */
const TRANSFER_SECONDS = 4;
const LARGEST = 3_000_000;
/** Milliseconds between two pings; they are what opens the session. */
const PING_GAP = 200;
/** Loss makes a transfer this much longer at most before it counts as stuck. */
const PATIENCE: Duration = Seconds(120);

export const DEGRADE_CASES: readonly Case[] = (['user', 'service'] as const).flatMap((side) =>
  LADDER.map((rung, level) => degradeCase(side, rung, level)),
);

function degradeCase(side: 'user' | 'service', rung: Rung, level: number): Case {
  return {
    name: `${rung.name}, ${side === 'user' ? 'agent' : 'connector'}`,
    peers: rung.peers[side],
    run: async (hold) => {
      const home = { kind: 'moderate', ipv6: 'none' } as const;
      const network = await makeScene(hold, { topology: { user: home, service: home, serviceClosed: false } });
      const role = side === 'user' ? network.agent : network.connector;
      const ping = await startPing(network, PING_GAP);
      await role.stop();
      const link = await impairUplink(network.topology, side, { profile: profileOf(rung), seed: level + 1 });
      // As long as the peer's own test gives the whole of it.
      const limit = Seconds(20 + 10 * level);
      const start = Date.now();
      role.start();
      await goesBy(network, 'direct', limit);
      const direct = Date.now() - start;
      const bytes = Math.min(LARGEST, Math.round((rung.rate / 8) * TRANSFER_SECONDS));
      const seconds = await fetchWhole(network, bytes, PATIENCE);
      await ping.stop();
      await goesBy(network, 'direct', limit);
      const { leftToRight, rightToLeft } = await link.counters();
      const lost = (leftToRight.lost + rightToLeft.lost) / (leftToRight.offered + rightToLeft.offered);
      const rate = (bytes * 8) / seconds / rung.rate;
      return `direct after ${(direct / 1000).toFixed(1)} s, ${bytes / 1000} kB whole in ${seconds.toFixed(1)} s (${Math.round(rate * 100)} % of the link), ${(lost * 100).toFixed(1)} % of packets lost`;
    },
  };
}
