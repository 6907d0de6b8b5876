/**
 * `uplink`: 18 changes of the uplink (agent or connector, from IPv4, IPv6 or both to the same three) in the middle of a download. The
 * session and the download survive, and packets go directly again, by a family that the new uplink has. The other side sits behind
 * a NAT for IPv4 and a firewall for IPv6, as does the one that moves.
 */
import { Seconds } from '../../src/base/time.js';
import type { AgentThreadStatus, Network } from '../../test/e2e/network.js';
import { Download } from '../../test/e2e/transfer.js';
import { spareUplink } from '../../test/lab/replug.js';
import type { HomeRouter } from '../../test/lab/topology.js';
import { goesBy, makeScene, startPing, webUrl } from './scene.js';
import type { Case } from './suite.js';

const FAMILIES = ['v4', 'v6', 'dual'] as const;
type Families = (typeof FAMILIES)[number];

const HOMES: Readonly<Record<Families, HomeRouter>> = {
  v4: { kind: 'moderate', ipv6: 'none' },
  v6: { kind: 'moderate', ipv6: 'firewall', ipv4: 'none' },
  dual: { kind: 'moderate', ipv6: 'firewall' },
};

/** A download that lasts until long after the change, at a rate in curl's units. */
const BYTES = 30_000_000;
const RATE = '2M';

export const UPLINK_CASES: readonly Case[] = (['user', 'service'] as const).flatMap((side) =>
  FAMILIES.flatMap((from) => FAMILIES.map((to) => uplinkCase(side, from, to))),
);

function uplinkCase(side: 'user' | 'service', from: Families, to: Families): Case {
  return {
    name: `${side === 'user' ? 'agent' : 'connector'} ${from} → ${to}`,
    peers: 'passes',
    run: async (hold) => {
      const homes = { user: HOMES.dual, service: HOMES.dual, [side]: HOMES[from] };
      const network = await makeScene(hold, {
        topology: { ...homes, serviceClosed: false },
        family: 'both',
        relayName: 'relay.test',
      });
      const spare = spareUplink(network.topology, side, HOMES[to]);
      const download = await Download.start(network, await webUrl(network), BYTES, RATE);
      const before = await goesBy(network, 'direct');
      const ping = await startPing(network);
      await ping.reset();
      const start = Date.now();
      spare.plugIn();
      const direct = await directAgain(network, before, start);
      await download.progress();
      const outcome = await download.outcome(Seconds(60));
      if (outcome !== 'complete') throw new Error(`the download is ${outcome}`);
      const after = await goesBy(network, 'direct');
      const { longestGapMs } = await ping.report();
      await ping.stop();
      if (after.session !== before.session) throw new Error('it is another session');
      const family = after.link!.remote.startsWith('[') ? 'v6' : 'v4';
      if (to !== 'dual' && side === 'user' && family !== to) throw new Error(`direct by ${family}`);
      return `${(longestGapMs / 1000).toFixed(1)} s without an answer, direct by ${family} after ${(direct / 1000).toFixed(1)} s`;
    },
  };
}

type Session = Awaited<ReturnType<typeof goesBy>>;

/** Milliseconds from `start` until another direct link than before carries packets. */
async function directAgain(network: Network, before: Session, start: number): Promise<number> {
  await network.agent.waitForStatus<AgentThreadStatus>(
    'another direct link',
    ({ sessions }) => {
      const link = sessions[0]?.link;
      const isOther = link?.number !== before.link?.number || link?.remote !== before.link?.remote;
      return link?.via === 'direct' && isOther;
    },
    Seconds(30),
  );
  return Date.now() - start;
}
