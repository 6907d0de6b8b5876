/** An agent's sessions: opened by the first packet, kept over lost links and relays, moved to another connector when needed. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { elapsed, type Instant, Minutes, Seconds, toSeconds } from '../../src/base/time.js';
import { BACKEND, connected, ready, SERVICES, scene, WEB } from '../connector/fixtures.js';
import { App, pattern } from '../support/app.js';
import { World } from '../support/world.js';
import { live } from './fixtures.js';

const PAIR = '10.100.0.4:80';

test('nothing is opened before a packet asks for it', async () => {
  const it = await scene();
  it.world.run(Minutes(2));
  expect(it.agent.sessions).toEqual([]);
  expect(it.world.relay.channels).toBe(0);
  connected(it);
  expect(it.agent.sessions.map((session) => [session.connector, session.state])).toEqual([['c1', 'live']]);
  expect(it.agent.eventsOf('session').map((event) => event.to)).toEqual(['opening', 'linking', 'live']);
});

test('one session serves every service of its connector', async () => {
  const it = await scene();
  connected(it);
  connected(it, PAIR, '10.0.0.7:7000');
  expect(it.world.relay.channels).toBe(1);
  expect(it.connector.sessions.length).toBe(1);
});

test('a transfer goes on over a relay that restarts, without losing a byte', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  const { id } = it.agent.session('c1')!;
  const whole = pattern(20_000_000);
  app.say(whole);
  it.world.until(() => stream.receivedBytes > 1_000_000);
  it.world.relay.host.kill();
  await it.world.startRelay();
  expect(it.world.until(() => stream.receivedBytes === whole.length, Seconds(60))).toBe(true);
  expect(Buffer.compare(stream.received, whole)).toBe(0);
  expect(it.agent.session('c1')!.id).toBe(id);
  expect(it.agent.session('c1')!.reconnects).toBe(1);
  expect(it.connector.eventsOf('session-resumed').length).toBe(1);
  expect(it.connector.eventsOf('session-opened').length).toBe(1);
  expect(it.connector.host.sockets.streams.length).toBe(1);
});

test('a restarted relay is noticed by its first answer, not by a time limit', async () => {
  const it = await scene();
  const { app } = connected(it);
  it.world.run(Seconds(30));
  it.world.relay.host.kill();
  await it.world.startRelay();
  const since = it.world.now;
  app.say('anybody there?');
  expect(it.world.until(() => it.agent.eventsOf('relay-lost').length === 1, Seconds(5))).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(1.5);
  expect(it.world.until(() => it.agent.core.relay.state === 'ready', Seconds(1))).toBe(true);
});

test('a relay that is cut off for a minute: the session is resumed with its flows when it is back', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  it.world.relay.host.path.isDown = true;
  app.say('are you there?');
  it.world.run(Minutes(1));
  expect(app.closed).toBeUndefined();
  expect(it.agent.core.relay.state).not.toBe('ready');
  it.world.relay.host.path.isDown = false;
  expect(it.world.until(() => stream.text() === 'are you there?', Seconds(40))).toBe(true);
  stream.say('yes');
  expect(it.world.until(() => app.text() === 'yes', Seconds(5))).toBe(true);
});

test('the agent’s address changes in mid-transfer: it goes on', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  app.say(pattern(5_000_000));
  it.world.until(() => stream.receivedBytes > 500_000);
  const [socket] = it.agent.udp;
  socket!.rebind(new SocketAddress(socket!.external.ip, 61_000));
  const since = it.world.now;
  expect(it.world.until(() => stream.receivedBytes === 5_000_000, Seconds(20))).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(5);
  expect(it.agent.core.observed!.port).toBe(61_000);
  expect(it.agent.eventsOf('relay-lost')).toEqual([]);
});

test('a restarted connector: old flows end, new ones work', async () => {
  const it = await scene();
  const { app } = connected(it);
  it.connector.host.kill();
  const again = await it.world.connector('c1', { services: SERVICES }, it.connector.credentials);
  expect(it.world.until(() => ready(again), Seconds(5))).toBe(true);
  app.say('still me');
  expect(it.world.until(() => app.closed !== undefined, Seconds(10))).toBe(true);
  expect(app.closed).toBe('reset');
  again.host.sockets.tcpBackend(BACKEND);
  const next = new App(it.agent, WEB);
  expect(it.world.until(() => next.connected, Seconds(5))).toBe(true);
});

test('attempts that fail are made 1, 2, 4, 8, 16, 30, 30 s apart, ± a quarter', async () => {
  const world = await World.create();
  world.relay.host.path.isDown = true;
  const agent = await world.agent('alice');
  const attempts: Instant[] = [];
  const address = world.relay.addresses[0]!;
  world.network.filter = ({ to, bytes }) => {
    // The first packet of each attempt; its repetitions belong to it.
    if (to.equals(address) && (bytes[0]! & 0xc0) === 0xc0 && agent.core.relay.state === 'connecting') {
      if (agent.core.relay.since === world.now) attempts.push(world.now);
    }
    return true;
  };
  world.run(Minutes(5));
  const unique = [...new Set(attempts)];
  const gaps = unique.slice(1).map((at, i) => toSeconds(elapsed(unique[i]!, at)));
  expect(gaps.length).toBeGreaterThanOrEqual(7);
  // Each attempt takes 8 s until it is given up.
  for (const [i, base] of [1, 2, 4, 8, 16, 30, 30].entries()) {
    expect(gaps[i]! - 8).toBeGreaterThanOrEqual(base * 0.75 - 0.01);
    expect(gaps[i]! - 8).toBeLessThanOrEqual(base * 1.25 + 0.01);
  }
  world.relay.host.path.isDown = false;
  expect(world.until(() => agent.core.relay.state === 'ready', Seconds(50))).toBe(true);
});

test('while packets wait the relay is tried again within 2 s', async () => {
  const it = await scene();
  const { app } = connected(it);
  it.world.relay.host.path.isDown = true;
  it.world.run(Minutes(5));
  app.say('now');
  it.world.run(Seconds(12));
  it.world.relay.host.path.isDown = false;
  const since = it.world.now;
  expect(it.world.until(() => it.agent.core.relay.state === 'ready', Seconds(30))).toBe(true);
  // An attempt under way may take up to 8 s to be given up.
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(11);
});

test('several connectors: one that dies without a word is noticed, and new flows go to another', async () => {
  const it = await scene();
  const second = await it.world.connector('c2', { services: { pair: 'tcp://10.0.0.9:7000' } });
  expect(it.world.until(() => ready(second), Seconds(5))).toBe(true);
  second.host.sockets.tcpBackend('10.0.0.9:7000');
  it.connector.host.sockets.tcpBackend('10.0.0.7:7000');
  const first = new App(it.agent, PAIR);
  expect(it.world.until(() => first.connected)).toBe(true);
  const [used, other] = it.connector.sessions.length === 1 ? [it.connector, second] : [second, it.connector];

  used.host.kill();
  it.world.run(Seconds(1));
  // Nobody told anybody: packets go into the dark until the link is given up.
  const apps: App[] = [];
  const isServed = (): boolean => apps.some((app) => app.connected);
  const since = it.world.now;
  while (!isServed() && elapsed(since, it.world.now) < Seconds(60)) {
    apps.push(new App(it.agent, PAIR));
    it.world.until(isServed, Seconds(1));
  }
  expect(isServed()).toBe(true);
  // 4 s until the silence is believed, 5 s of hoping for the old one, one attempt more.
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(14);
  expect(other.sessions.length).toBe(1);
  expect(live(it.world, it.agent, other.name)).toBe(true);
});

test('a connector that says goodbye is left at once for another one', async () => {
  const it = await scene();
  const second = await it.world.connector('c2', { services: { pair: 'tcp://10.0.0.9:7000' } });
  expect(it.world.until(() => ready(second), Seconds(5))).toBe(true);
  second.host.sockets.tcpBackend('10.0.0.9:7000');
  it.connector.host.sockets.tcpBackend('10.0.0.7:7000');
  const first = new App(it.agent, PAIR);
  expect(it.world.until(() => first.connected)).toBe(true);
  const [used, other] = it.connector.sessions.length === 1 ? [it.connector, second] : [second, it.connector];
  used.core.shutdown(it.world.now);
  used.host.reactor.wake();
  it.world.run(Seconds(1));
  used.host.kill();
  const since = it.world.now;
  let next = new App(it.agent, PAIR);
  while (!next.connected && elapsed(since, it.world.now) < Seconds(30)) {
    if (!it.world.until(() => next.connected, Seconds(1))) next = new App(it.agent, PAIR);
  }
  expect(next.connected).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(8);
  expect(other.sessions.length).toBe(1);
});

test('a session without a packet for 30 min is closed at both ends', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  app.end();
  stream.end();
  it.world.run(Seconds(10));
  it.world.run(Minutes(29));
  expect(it.agent.sessions.length).toBe(1);
  it.world.run(Minutes(2));
  expect(it.agent.sessions).toEqual([]);
  expect(it.connector.sessions).toEqual([]);
});
