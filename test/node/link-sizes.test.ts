/**
 * Packet sizes of a session with two links: each finds its own, and a switch to the smaller one swallows nothing in silence.
 * The relay's way carries everything; the direct one is as narrow as the test says, and says nothing when it drops.
 */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { connected, type Scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { PROTO, readPacket } from '../support/packets.js';
import type { Packet } from '../support/sim-network.js';
import { bothUse, directScene, isBetween, manager, Pinger, pinging } from './direct-scene.js';

/** UDP payload that packets of this size in the middle leave: IPv4 and UDP headers off. */
const MIDDLE_1300 = 1300 - 28;
/** IPv6 over PPPoE: 8 of 1500 bytes are PPPoE's, 48 are headers. */
const PPPOE_V6 = 1492 - 48;

function narrow(it: Scene, limit: number): { swallowed: number } {
  const count = { swallowed: 0 };
  it.world.network.filter = (packet: Packet) => {
    const isLost = packet.bytes.length > limit && isBetween(it, packet) !== undefined;
    if (isLost) count.swallowed++;
    return !isLost;
  };
  return count;
}

/** Sizes that ICMP "fragmentation needed" messages have told the agent's host since the last call. */
function told(it: Scene): number[] {
  const messages = it.agent.tun!.take().map(readPacket);
  return messages
    .filter(({ protocol, icmpType, icmpCode }) => protocol === PROTO.icmp && icmpType === 3 && icmpCode === 4)
    .map(({ rest }) => rest & 0xffff);
}

const span = (pinger: Pinger): number => pinger.sent.length;

test('IPv6 over PPPoE: a direct link over it carries every packet whole', async () => {
  const it = await directScene({
    world: { dualStack: true },
    agent: { tun: true, v6: '2001:db8:1::2' },
    connector: { v6: '2001:db8:2::2' },
  });
  narrow(it, PPPOE_V6);
  const pinger = new Pinger(it);
  pinger.run(Seconds(4));
  expect(bothUse(it, 'direct')).toBe(true);
  expect(it.agent.session('c1')!.link!.connection.remote.ip.family).toBe(6);
  const from = span(pinger);
  pinger.run(Seconds(2), undefined, 1400);
  it.world.run(Seconds(1));
  expect(pinger.lost(from)).toEqual([]);
  expect(told(it)).toEqual([]);
});

test('1300 bytes in the middle: a switch to it sends large packets in parts for 2 s and tells the size, which then passes', async () => {
  const it = await pinging();
  narrow(it, MIDDLE_1300);
  // The link is made anew over the narrow way, and finds its size.
  it.world.network.filter = (packet) => isBetween(it, packet) === undefined;
  it.pinger.run(Seconds(20));
  const { swallowed } = narrow(it, MIDDLE_1300);
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(60))).toBe(true);
  it.pinger.run(Seconds(10));
  const carried = it.agent.session('c1')!.link!.maxDatagram;
  expect(carried).toBeLessThan(MIDDLE_1300);
  manager(it).setPath(it.world.now, 'relay');
  let from = span(it.pinger);
  it.pinger.run(Seconds(3), undefined, 1400);
  it.agent.tun!.take();
  manager(it).setPath(it.world.now, 'auto');
  it.pinger.run(Seconds(1), undefined, 1400);
  expect(bothUse(it, 'direct')).toBe(true);
  it.world.run(Seconds(0.5));
  expect(it.pinger.lost(from)).toEqual([]);
  const sizes = told(it);
  expect(sizes.length).toBeGreaterThan(0);
  expect(new Set(sizes)).toEqual(new Set([Math.max(1280, carried)]));
  it.world.run(Seconds(2));
  from = span(it.pinger);
  it.pinger.run(Seconds(1), undefined, sizes[0]);
  it.world.run(Seconds(0.5));
  expect(it.pinger.lost(from)).toEqual([]);
  expect(swallowed).toBe(0);
});

test('TCP through both completes while links of different sizes take turns', async () => {
  const it = await directScene();
  narrow(it, MIDDLE_1300);
  const { app, stream } = connected(it);
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
  it.world.run(Seconds(5));
  const whole = pattern(1_500_000);
  app.say(whole);
  stream.say(whole);
  for (let i = 0; app.receivedBytes < whole.length || stream.receivedBytes < whole.length; i++) {
    expect(i).toBeLessThan(60);
    manager(it).setPath(it.world.now, i % 2 === 0 ? 'relay' : 'auto');
    it.world.run(Seconds(0.3));
  }
  expect(Buffer.compare(app.received, whole)).toBe(0);
  expect(Buffer.compare(stream.received, whole)).toBe(0);
});

test('a way that does not carry 1200 bytes never becomes a link', async () => {
  const it = await directScene({ agent: { tun: true } });
  const lost = narrow(it, 1199);
  const pinger = new Pinger(it);
  pinger.run(Seconds(20), undefined, 1400);
  it.world.run(Seconds(1));
  expect(lost.swallowed).toBeGreaterThan(0);
  expect(it.agent.session('c1')!.direct.link).toBeUndefined();
  expect(pinger.lost()).toEqual([]);
});

test('a link in use whose way begins to swallow what it carried is left, and later tried less and less often', async () => {
  const it = await pinging();
  it.pinger.run(Seconds(3), undefined, 1150);
  expect(bothUse(it, 'direct')).toBe(true);
  // Below what QUIC may take for granted: its own discovery does not help.
  narrow(it, 1100);
  const from = span(it.pinger);
  it.pinger.run(Seconds(2), undefined, 1150);
  expect(bothUse(it, 'relay')).toBe(true);
  expect(manager(it).activeReason).toBe('large_lost');
  it.pinger.run(Seconds(28), undefined, 1150);
  it.world.run(Seconds(1));
  // 2, 4, 8 and 16 s after it was left; each time until two packets are known to be lost.
  expect(it.pinger.lost(from).length).toBeLessThan(60);
  expect(it.agent.core.linkCounters.get('why_large_lost')).toBeLessThanOrEqual(5);
});
