/**
 * A sample of `nat-matrix-16` (docs/nat.md; `npm run soak -- --nat` runs all of it): a pair where only one side can be found, and one
 * that stays with the relay and says why. The demo shows one that has to meet half-way.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { becomesDirect } from '../../bench/nat/pair.js';
import { Seconds } from '../../src/base/time.js';
import type { NetworkView } from '../../src/node/portmap/keep-mapped.js';
import { Lab } from '../lab/lab.js';
import type { NatKind } from '../lab/nat.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';

describe.skipIf(Lab.unavailable() !== undefined)('two nodes behind NATs', () => {
  let network: Network;
  afterEach(async () => {
    await network?.destroy();
  });

  const build = async (user: NatKind, service: NatKind): Promise<void> => {
    network = await Network.make({
      path: 'auto',
      topology: { user: { kind: user, ipv6: 'none' }, service: { kind: service, ipv6: 'none' }, serviceClosed: false },
      services: { host: `icmp://${ADDRESSES.backend.v4}` },
    });
  };

  it.each([
    ['strict', 'open'],
    // One of them has to guess the other's port.
    ['strict', 'moderate'],
  ] as const)('%s and %s get a direct link', async (user, service) => {
    await build(user, service);
    let result = await becomesDirect(network, Seconds(25));
    if (result.path !== 'direct' && service === 'moderate') {
      // A port is guessed once for a pair of networks, and one time in fifty not found (docs/acceptance.md).
      await network.destroy();
      await build(user, service);
      result = await becomesDirect(network, Seconds(25));
    }
    expect(result).toMatchObject({ path: 'direct', reason: 'best_rank' });
    const { v4 } = await network.virtual('host');
    await network.topology.user.exec(['ping', '-c', '3', '-i', '0.2', '-W', '3', v4]);
  });

  it('strict and strict stay with the relay, which carries, and say why', async () => {
    await build('strict', 'strict');
    const result = await becomesDirect(network, Seconds(4));
    expect(result.path).toBe('relay');
    const { counters } = await network.agent.waitForStatus<AgentThreadStatus>('the reason', ({ sessions }) =>
      /^direct_unproved: (no answer to \d+ punches|both NATs are strict)$/.test(sessions[0]!.direct),
    );
    // None at all, when both ends knew their NATs before the first round.
    expect(counters['punch.sent'] ?? 0).toBeLessThan(100);
    const { nat } = await network.agent.waitForStatus<AgentThreadStatus & NetworkView>(
      'the NAT to be known',
      (status) => status.nat !== undefined,
    );
    expect(nat?.ipv4).toMatchObject({ name: 'symmetric', ease: 'strict' });
    expect(nat?.ipv6).toBeUndefined();
    const status = await network.must('status', '--dir', network.agent.dir);
    expect(status).toMatch(/^before this machine: IPv4 symmetric \(sallyport netcheck\)$/m);
    const { v4 } = await network.virtual('host');
    await network.topology.user.exec(['ping', '-c', '3', '-i', '0.2', '-W', '3', v4]);
  });
});
