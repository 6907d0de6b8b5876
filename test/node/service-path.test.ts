/** Services whose packets the policy holds to links of one kind, beside others that take what is best. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import type { ServicePath } from '../../src/policy/document.js';
import { overlay } from '../agent/fixtures.js';
import { connected, type Scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { udpPacket } from '../support/packets.js';
import { bothUse, directScene, isBetween, Pinger, pinging } from './direct-scene.js';

const DNS = '10.100.0.2';

/** The operator holds the service to such links, or to none. */
function hold({ world }: Scene, id: string, path: ServicePath | undefined): void {
  const { services } = world.document;
  world.apply({ services: services.map((one) => (one.id === id ? { ...one, path } : one)) });
}

/** Packets that have gone out on each kind of link, agent's and connector's. */
function out({ agent, connector }: Scene): Record<'direct' | 'relay', [number, number]> {
  const sum = (links: Iterable<{ readonly isDirect: boolean; readonly packetsOut: number }>, isDirect: boolean) =>
    [...links].filter((link) => link.isDirect === isDirect).reduce((total, link) => total + link.packetsOut, 0);
  const ends = [[...agent.session('c1')!.allLinks()], [...connector.sessions[0]!.links]] as const;
  return {
    direct: [sum(ends[0], true), sum(ends[1], true)],
    relay: [sum(ends[0], false), sum(ends[1], false)],
  };
}

test('held to the relay while the session has a direct link: both ends keep to it, and changes lose nothing', async () => {
  const it = await pinging();
  it.world.relay.host.path.delay = Millis(20);
  for (let i = 0; i < 2; i++) {
    hold(it, 'dns', 'relay');
    it.pinger.run(Millis(500), Millis(2));
    const before = out(it);
    it.pinger.run(Seconds(1), Millis(2));
    const after = out(it);
    expect(after.direct).toEqual(before.direct);
    for (const end of [0, 1]) expect(after.relay[end]! - before.relay[end]!).toBeGreaterThanOrEqual(490);
    expect(bothUse(it, 'direct')).toBe(true);
    hold(it, 'dns', undefined);
    it.pinger.run(Millis(500), Millis(2));
    const relayed = out(it).relay;
    it.pinger.run(Millis(500), Millis(2));
    expect(out(it).relay).toEqual(relayed);
  }
  it.world.run(Seconds(1));
  expect(it.pinger.lost()).toEqual([]);
  expect(it.pinger.duplicates).toBe(0);
});

test('held to direct links: its first packets wait for one, and while there is none nothing goes by the relay', async () => {
  const it = await directScene({ agent: { tun: true } });
  hold(it, 'dns', 'direct');
  it.world.run(Seconds(1));
  const pinger = new Pinger(it);
  pinger.run(Seconds(2), Millis(20));
  it.world.run(Seconds(1));
  expect(pinger.lost()).toEqual([]);
  expect(out(it).relay).toEqual([0, 0]);
  it.world.network.filter = (packet) => isBetween(it, packet) === undefined;
  const from = pinger.sent.length;
  pinger.run(Seconds(5));
  expect(bothUse(it, 'relay')).toBe(true);
  expect(out(it).relay).toEqual([0, 0]);
  expect(pinger.lost(from).length).toBe(pinger.sent.length - from);
  it.world.network.filter = undefined;
  pinger.run(Seconds(20));
  const back = pinger.sent.length;
  pinger.run(Seconds(1));
  it.world.run(Seconds(1));
  expect(pinger.lost(back)).toEqual([]);
});

test('connections of a proxy: one service by the relay, the other by the direct link', async () => {
  const it = await directScene({ agent: { tun: false } });
  const web = connected(it);
  const pair = connected(it, '10.100.0.4:80', '10.0.0.7:7000');
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
  hold(it, 'web', 'relay');
  it.world.run(Seconds(1));
  const carry = (one: typeof web): void => {
    const [up, down] = [one.stream.receivedBytes, one.app.receivedBytes];
    one.app.say(pattern(100_000));
    one.stream.say(pattern(100_000));
    const isWhole = () => one.stream.receivedBytes === up + 100_000 && one.app.receivedBytes === down + 100_000;
    expect(it.world.until(isWhole, Seconds(10))).toBe(true);
    it.world.run(Seconds(1));
  };
  const start = out(it);
  carry(web);
  const between = out(it);
  expect(between.direct).toEqual(start.direct);
  carry(pair);
  expect(out(it).relay).toEqual(between.relay);
});

test('mode kernel holds what its kernel answers', async () => {
  const it = await directScene({ agent: { tun: true }, connector: { kernel: true } });
  const own = overlay(it.agent);
  it.agent.tun!.send(udpPacket({ from: own, to: DNS }, 4000, 53, 'a'));
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
  const answer = (): Record<'direct' | 'relay', number> => {
    const before = out(it);
    it.agent.tun!.take();
    for (let i = 0; i < 10; i++) {
      it.connector.tun!.send(udpPacket({ from: DNS, to: own }, 53, 4000, 'b'));
      it.world.run(Millis(20));
    }
    expect(it.agent.tun!.take().length).toBe(10);
    const after = out(it);
    return { direct: after.direct[1] - before.direct[1], relay: after.relay[1] - before.relay[1] };
  };
  expect(answer()).toEqual({ direct: 10, relay: 0 });
  hold(it, 'dns', 'relay');
  it.world.run(Seconds(1));
  expect(answer()).toEqual({ direct: 0, relay: 10 });
});

test('a relay that dies under such packets is left for another', async () => {
  const it = await pinging({ world: { relays: ['r1', 'r2'] } });
  hold(it, 'dns', 'relay');
  it.pinger.run(Seconds(2));
  const carrier = () => [...it.agent.session('c1')!.allLinks()].filter(({ isDirect }) => !isDirect);
  expect(carrier().length).toBe(2);
  it.pinger.run(Seconds(1));
  it.world.relay.host.kill();
  it.pinger.run(Seconds(5));
  const from = it.pinger.sent.length;
  it.pinger.run(Seconds(1));
  it.world.run(Seconds(1));
  expect(it.pinger.lost(from)).toEqual([]);
  expect(bothUse(it, 'direct')).toBe(true);
});
