/** Both address families at once: candidates of the one that the relay connection is not in, and a second direct link that stands by. */
import { expect, test } from 'vitest';
import type { SocketAddress } from '../../src/base/address.js';
import { elapsed, Millis, Seconds } from '../../src/base/time.js';
import { Tier } from '../../src/tunnel/links/managed-link.js';
import { type Scene, scene } from '../connector/fixtures.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';
import { bothUse, directScene, isBetween, Pinger } from './direct-scene.js';

const PUNCH_FRAME = 0x11;
const DUAL = {
  world: { dualStack: true },
  agent: { v6: '2001:db8:1::2' },
  connector: { v6: '2001:db8:2::2' },
} as const;

const candidates = ({ agent }: Scene): string[] =>
  agent.core.punching.candidates.map(({ kind, address }) => `${kind} ${address.ip}`);

test('the relay is reached over IPv6, and the IPv4 NAT’s address is a candidate all the same', async () => {
  const it = await directScene(
    { ...DUAL, agent: { ...DUAL.agent, nat: new SimNat(10, NAT_KINDS.open), unresolved: true } },
    false,
  );
  it.agent.core.relay.setAddresses([...it.world.relay.addresses].reverse());
  it.agent.host.reactor.wake();
  expect(it.world.until(() => candidates(it).includes('srflx 203.0.113.10'), Seconds(3))).toBe(true);
  expect(it.agent.core.relay.connection!.remote.ip.family).toBe(6);
  expect(candidates(it)).toEqual(['host 2001:db8:1::2', 'host 192.168.10.2', 'srflx 203.0.113.10']);
});

test('the direct link of the other family stands by, and carries on when the first one dies', async () => {
  const it = await directScene({ ...DUAL, agent: { ...DUAL.agent, tun: true } });
  const pinger = new Pinger(it);
  const session = () => it.agent.session('c1')!;
  pinger.run(Seconds(1));
  expect(it.world.until(() => bothUse(it, 'direct') && session().direct.standby !== undefined, Seconds(5))).toBe(true);
  pinger.run(Seconds(3));
  const family = () => session().link!.connection.remote.ip.family;
  expect([family(), session().direct.standby!.connection.remote.ip.family]).toEqual([6, 4]);
  it.world.network.filter = (packet) => isBetween(it, packet) === undefined || packet.to.ip.isV4;
  const first = session().direct.link;
  const from = pinger.sent.length;
  pinger.run(Seconds(5));
  expect(bothUse(it, 'direct')).toBe(true);
  expect([family(), session().direct.link === first]).toEqual([4, false]);
  pinger.run(Seconds(1));
  it.world.run(Seconds(1));
  expect(pinger.lost(from).length).toBeLessThan(30);
  expect(it.world.until(() => session().direct.standby === undefined, Seconds(30))).toBe(true);
  const atConnector = () => [...it.connector.sessions[0]!.links].filter((link) => link.isDirect).length;
  expect(it.world.until(() => atConnector() === 1, Seconds(30))).toBe(true);
});

test('a family that lets nothing through for a second gets its link within the same round', async () => {
  const it = await directScene({ ...DUAL, agent: { ...DUAL.agent, tun: true } });
  const since = it.world.now;
  it.world.network.filter = (packet) =>
    isBetween(it, packet) === undefined || !packet.to.ip.isV4 || elapsed(since, it.world.now) > Seconds(1);
  const pinger = new Pinger(it);
  pinger.run(Seconds(0.5));
  const { direct } = it.agent.session('c1')!;
  expect([bothUse(it, 'direct'), direct.standby]).toEqual([true, undefined]);
  pinger.run(Seconds(3));
  expect(direct.standby?.connection.remote.ip.family).toBe(4);
  expect(it.agent.core.punching.counters.get('rounds')).toBe(1);
});

test('a link through a relay over TCP ranks below one over UDP', async () => {
  const it = await scene({ ...DUAL, agent: { ...DUAL.agent, tun: true, unresolved: true } }, false);
  const [udp, tcp] = it.world.relay.addresses;
  const { relay } = it.agent.core;
  it.agent.host.path.isDown = false;
  relay.setTcp(it.world.now, tcp);
  it.agent.host.reactor.wake();
  expect(it.world.until(() => relay.state === 'ready' && it.agent.core.available.has('web'), Seconds(5))).toBe(true);
  const pinger = new Pinger(it);
  pinger.run(Seconds(1));
  const tier = () => it.agent.session('c1')!.link?.managed?.tier;
  expect([relay.isOverTcp, tier()]).toEqual([true, Tier.relayTcp]);
  expect(it.connector.sessions[0]!.link!.managed!.tier).toBe(Tier.relayUdp);
  relay.setAddresses([udp!]);
  pinger.run(Seconds(10));
  expect([relay.isOverTcp, tier()]).toEqual([false, Tier.relayUdp]);
});

test('a link that was looked for in trouble, and is only needed to stand by, leaves the reason of the one in use as it is', async () => {
  const it = await directScene({ ...DUAL, agent: { ...DUAL.agent, tun: true } });
  const { world } = it;
  const pinger = new Pinger(it);
  const v4 = ({ to }: { readonly to: SocketAddress }): boolean => to.ip.isV4;
  world.network.filter = (packet) => isBetween(it, packet) === undefined || !v4(packet);
  pinger.run(Seconds(8));
  const { direct } = it.agent.session('c1')!;
  const first = direct.link!;
  expect([first.connection.remote.ip.family, direct.standby]).toEqual([6, undefined]);
  world.network.filter = (packet) => isBetween(it, packet) === undefined;
  pinger.run(Millis(1600));
  expect(direct.reason).toBe('punching');
  // The first one works again while the handshake of the other one takes its time.
  const since = world.now;
  world.network.filter = (packet) => {
    if (isBetween(it, packet) === undefined) return true;
    const isPunch = packet.bytes[0] === PUNCH_FRAME;
    return v4(packet) ? isPunch || elapsed(since, world.now) > Seconds(2) : !isPunch;
  };
  pinger.run(Seconds(5));
  expect(direct.link).toBe(first);
  expect(direct.standby?.connection.remote.ip.family).toBe(4);
  expect([bothUse(it, 'direct'), direct.reason]).toEqual([true, 'best_rank']);
});
