/** The direct path between the user's and the service's machine in a network of the laboratory: cut, one way or both, made lossy, and restored. */
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
  setRules(network, rules);
}

/** Loses that share of what goes between the two machines, in percent of the packets of each direction. */
export function loseOnDirectPath(network: Network, percent: number): void {
  const { user, service } = ADDRESSES;
  const chance = percent >= 100 ? '' : `numgen random mod 100 < ${percent}`;
  const rules = [
    `ip saddr { ${user.v4}, ${service.v4} } ip daddr { ${user.v4}, ${service.v4} } ${chance} drop`,
    `ip6 saddr { ${user.v6}, ${service.v6} } ip6 daddr { ${user.v6}, ${service.v6} } ${chance} drop`,
  ];
  setRules(network, percent === 0 ? [] : rules);
}

function setRules(network: Network, rules: readonly string[]): void {
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
