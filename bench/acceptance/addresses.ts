/**
 * `addresses`: hosts with many addresses of their own besides the one that works. All of them are told to the peer, and only what goes
 * through the NATs leads anywhere.
 */
import type { Host } from '../../test/lab/host.js';
import type { Lab } from '../../test/lab/lab.js';
import { fetchWhole, goesBy, makeScene, startPing } from './scene.js';
import type { Case } from './suite.js';

const BYTES = 3_000_000;
const COUNTS = [8, 16, 32] as const;
const FAMILIES = ['IPv4', 'both families'] as const;
type Families = (typeof FAMILIES)[number];

export const ADDRESS_CASES: readonly Case[] = COUNTS.flatMap((count) =>
  FAMILIES.map((families) => addressCase(count, families)),
);

function addressCase(count: number, families: Families): Case {
  return {
    name: `${count} addresses of ${families}`,
    peers: count > 16 ? 'fails' : 'passes',
    run: async (hold) => {
      const home = { kind: 'moderate', ipv6: 'none' } as const;
      const network = await makeScene(hold, {
        topology: { user: home, service: home, serviceClosed: false },
        prepare: ({ lab, user, service }) => {
          giveAddresses(lab, user, 1, count, families);
          giveAddresses(lab, service, 2, count, families);
        },
      });
      const ping = await startPing(network);
      const start = Date.now();
      const { link } = await goesBy(network, 'direct');
      const direct = Date.now() - start;
      const seconds = await fetchWhole(network, BYTES);
      await ping.stop();
      return `direct after ${(direct / 1000).toFixed(1)} s at ${link!.remote}, ${BYTES / 1_000_000} MB whole in ${seconds.toFixed(1)} s`;
    },
  };
}

/** Addresses that look public (RFC 2544, RFC 3849), on a device that leads nowhere. */
function giveAddresses(lab: Lab, host: Host, network: number, count: number, families: Families): void {
  const addresses = Array.from({ length: count }, (_, i) =>
    families === 'both families' && i % 2 === 0 ? `2001:db8:4${network}:${i}::1/64` : `198.18.${network * 64 + i}.1/24`,
  );
  lab.link({ host, addresses, device: 'many' }, { host: lab.host(`nowhere-${network}`) });
}
