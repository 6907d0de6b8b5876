/**
 * What a relay tells a node about where it is seen from is the NAT's real mapping: behind one NAT and behind two in a row, over both
 * families, and again after the NAT has forgotten everything.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { ADDRESSES, type HomeRouter, type Nat } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';

describe.skipIf(Lab.unavailable() !== undefined)('the observed address', () => {
  let network: Network;
  afterEach(async () => {
    await network?.destroy();
  });

  /** The public addresses that the outermost router has given to flows towards the relay's port. */
  const mappings = async (nat: Nat, family: 'v4' | 'v6'): Promise<string[]> => {
    const argv = ['conntrack', '-L', '-f', family === 'v4' ? 'ipv4' : 'ipv6', '-p', 'udp', '--orig-port-dst', '4433'];
    const { stdout } = await nat.router.exec(argv);
    return [...stdout.matchAll(/ src=\S+ dst=(\S+) sport=4433 dport=(\d+)/g)].map(([, ip, port]) =>
      family === 'v4' ? `${ip}:${port}` : `[${ip}]:${port}`,
    );
  };

  it.each([
    ['two NATs in a row over IPv4', 'v4', { kind: 'strict', carrier: { kind: 'strict' } }],
    ['one NAT over IPv6', 'v6', { kind: 'strict' }],
  ] as const)('behind %s is the real mapping, before and after the NAT forgets it', async (_name, family, user) => {
    const topology = { user: user as HomeRouter };
    network = await Network.make({ family, topology, services: { host: `icmp://${ADDRESSES.backend.v4}` } });
    const outermost = network.topology.nats.user.at(-1)!;
    const observed = async (not: string | undefined): Promise<string> => {
      const { relay } = await network.agent.waitForStatus<AgentThreadStatus>(
        'an observed address',
        (status) => status.relay.observed !== undefined && status.relay.observed !== not,
        Seconds(30),
      );
      return relay.observed!;
    };
    const first = await observed(undefined);
    expect(first).toContain(ADDRESSES.user[family]);
    expect(await mappings(outermost, family)).toContain(first);
    const { v4 } = await network.virtual('host');
    // What is answered before the relay knows the new mapping goes to the old one: one answer of all is enough.
    const ping = ['ping', '-c', '15', '-i', '0.2', '-W', '10', v4];
    await network.topology.user.exec(ping);

    outermost.restart();
    await network.topology.user.exec(ping);
    const second = await observed(first);
    expect(await mappings(outermost, family)).toContain(second);
    expect(network.agent.logged('relay-lost')).toEqual([]);
  });
});
