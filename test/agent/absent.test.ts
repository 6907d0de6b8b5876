/** A connector that is not there: once that is known, new flows are refused within a second; old ones wait for it. */
import { expect, test } from 'vitest';
import { elapsed, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { connected, ready, type Scene, SERVICES, scene, WEB } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import { PROTO, readPacket, tcpPacket, udpPacket } from '../support/packets.js';
import { World } from '../support/world.js';

const LIMIT = Seconds(1);
const SYN = 0x02;
const ACK = 0x10;
const ICMP_UNREACHABLE = 3;

const isKnown = ({ agent }: Scene): boolean => agent.session('c1')!.absentSince !== undefined;

/** The connector dies without a word while a flow has something to send. */
async function killed(): Promise<Scene> {
  const it = await scene();
  const { app } = connected(it);
  it.connector.host.kill();
  app.say('anybody there?');
  expect(it.world.until(() => isKnown(it), Seconds(10))).toBe(true);
  return it;
}

test('a connector that died: new connections are refused, and the session says why', async () => {
  const it = await killed();
  const session = it.agent.session('c1')!;
  expect(session.lastProblem).toContain('gone silent');
  const app = new App(it.agent, WEB);
  const since = it.world.now;
  expect(it.world.until(() => app.closed !== undefined, Seconds(5))).toBe(true);
  expect(app.closed).toBe('unreachable');
  expect(toMillis(elapsed(since, it.world.now))).toBeLessThan(1000);
  // From then on at once.
  it.world.run(Seconds(30));
  expect(session.lastProblem).toContain('NO_CONNECTOR');
  const next = new App(it.agent, WEB);
  expect(it.world.until(() => next.closed !== undefined, Millis(10))).toBe(true);
});

test('a flow that stood is not refused: it goes on or is reset when the connector is back', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  it.connector.host.path.isDown = true;
  app.say('through the dark');
  it.world.run(Seconds(40));
  expect(isKnown(it)).toBe(true);
  expect(app.closed).toBeUndefined();
  it.connector.host.path.isDown = false;
  expect(it.world.until(() => stream.text() === 'through the dark', Seconds(5))).toBe(true);
  expect(isKnown(it)).toBe(false);
});

test('once it is back, new connections work again', async () => {
  const it = await killed();
  it.world.run(Seconds(30));
  const again = await it.world.connector('c1', { services: SERVICES }, it.connector.credentials);
  again.host.sockets.tcpBackend('10.0.0.5:8080');
  expect(it.world.until(() => ready(again) && !isKnown(it), Seconds(10))).toBe(true);
  const app = new App(it.agent, WEB);
  expect(it.world.until(() => app.connected, LIMIT)).toBe(true);
});

test('an agent that finds no connector says so to the first connection', async () => {
  const world = await World.create();
  const agent = await world.agent('alice');
  expect(world.until(() => agent.core.relay.state === 'ready' && agent.policy.view !== undefined)).toBe(true);
  const app = new App(agent, WEB);
  expect(world.until(() => app.closed !== undefined, LIMIT)).toBe(true);
  expect(agent.session('c1')!.lastProblem).toContain('NO_CONNECTOR');
});

test.each(['in use', 'idle'])(
  'a relay that restarts, %s: who connects before the connector is back waits for it',
  async (use) => {
    const it = await scene();
    if (use === 'in use') connected(it);
    it.connector.host.sockets.tcpBackend('10.0.0.5:8080');
    it.world.relay.host.kill();
    await it.world.startRelay();
    const app = new App(it.agent, WEB);
    expect(it.world.until(() => app.connected || app.closed !== undefined, Seconds(20))).toBe(true);
    expect(app.connected).toBe(true);
  },
);

test('through a TUN device: host unreachable for what opens a flow, net unreachable for what belongs to one', async () => {
  const world = await World.create();
  const agent = await world.agent('alice', { tun: true });
  expect(world.until(() => agent.core.relay.state === 'ready' && agent.policy.view !== undefined)).toBe(true);
  const ends = { from: agent.credentials.identity.overlay4!.toString(), to: '10.100.0.1' };
  const six = { from: agent.credentials.identity.overlay6!.toString(), to: 'fd00:1:2::1' };
  const answers = (): { protocol: number; icmpType: number; icmpCode: number }[] =>
    agent
      .tun!.take()
      .map(readPacket)
      .map(({ protocol, icmpType, icmpCode }) => ({ protocol, icmpType, icmpCode }));
  const said = (packet: Uint8Array) => {
    agent.tun!.send(packet);
    expect(world.until(() => agent.tun!.delivered.length > 0, LIMIT)).toBe(true);
    return answers();
  };
  const v4 = (icmpCode: number) => [{ protocol: PROTO.icmp, icmpType: ICMP_UNREACHABLE, icmpCode }];
  const v6 = (icmpCode: number) => [{ protocol: PROTO.icmp6, icmpType: 1, icmpCode }];
  // The first has waited for an answer of the relay, the others meet what is known.
  expect(said(tcpPacket(ends, 5000, 80, SYN))).toEqual(v4(1));
  expect(said(tcpPacket(ends, 5001, 80, SYN))).toEqual(v4(1));
  expect(said(udpPacket({ ...ends, to: '10.100.0.2' }, 5000, 53, 'who?'))).toEqual(v4(1));
  expect(said(tcpPacket(ends, 5002, 80, ACK))[0]).toEqual(v4(0)[0]);
  expect(said(tcpPacket(six, 5000, 80, SYN))).toEqual(v6(3));
  expect(said(tcpPacket(six, 5001, 80, ACK))[0]).toEqual(v6(0)[0]);
  expect(agent.core.drops.get('no_session')).toBeGreaterThanOrEqual(4);
});
