/** The direct path between the user's and the service's machine in a network of the laboratory: cut, one way or both, and restored. */
import { ADDRESSES } from '../lab/topology.js';
import type { Network } from './network.js';

/** Towards whom packets are lost. */
export type Cut = 'none' | 'both' | 'to the connector' | 'to the agent';

/** Loses what goes between the two machines that way; what goes by the relay passes. */
export function cutDirectPath(network: Network, cut: Cut): void {
  const rules: string[] = [];
  for (const [name, ip] of [
    ['v4', 'ip'],
    ['v6', 'ip6'],
  ] as const) {
    const user = ADDRESSES.user[name];
    const service = ADDRESSES.service[name];
    if (cut === 'both' || cut === 'to the connector') rules.push(`${ip} saddr ${user} ${ip} daddr ${service} drop`);
    if (cut === 'both' || cut === 'to the agent') rules.push(`${ip} saddr ${service} ${ip} daddr ${user} drop`);
  }
  network.topology.net.nft(`
    table inet lab_cut
    delete table inet lab_cut
    table inet lab_cut {
      chain forward {
        type filter hook forward priority 0; policy accept;
        ${rules.join('\n        ')}
      }
    }`);
}
