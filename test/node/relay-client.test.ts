/** A node's relay connection: life signs, loss, refusal, several addresses, early pushes. */
import { describe, expect, test } from 'vitest';
import { Days, elapsed, Millis, Minutes, Seconds, toSeconds } from '../../src/base/time.js';
import { connected, scene } from '../connector/fixtures.js';
import { at } from '../support/sim-nodes.js';
import { World } from '../support/world.js';

test('a relay that falls silent while packets go out is given up after half a second and ten PINGs', async () => {
  const it = await scene();
  const { app } = connected(it);
  it.world.run(Seconds(3));
  it.world.relay.host.path.isDown = true;
  const since = it.world.now;
  app.say('hello?');
  expect(it.world.until(() => it.agent.eventsOf('relay-lost').length === 1, Seconds(20))).toBe(true);
  const seconds = toSeconds(elapsed(since, it.world.now));
  expect(seconds).toBeGreaterThanOrEqual(3.4);
  expect(seconds).toBeLessThan(4.1);
  expect(it.agent.eventsOf('relay-lost')[0]!.reason).toContain('silent');
});

test('one answer in time is enough', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  it.world.run(Seconds(3));
  it.world.relay.host.path.isDown = true;
  app.say('hello?');
  it.world.run(Seconds(3));
  it.world.relay.host.path.isDown = false;
  it.world.run(Seconds(5));
  expect(it.agent.eventsOf('relay-lost')).toEqual([]);
  expect(stream.text()).toBe('hello?');
});

test('a node with nothing to send does not ask, and outlives a silence of a minute', async () => {
  const it = await scene();
  it.world.run(Seconds(15));
  const before = it.agent.udp[0]!.counters.datagramsOut;
  it.world.run(Seconds(60));
  // Keep-alives, every 10 s, and their acknowledgements.
  expect(it.agent.udp[0]!.counters.datagramsOut - before).toBeLessThan(20);
  it.world.relay.host.path.isDown = true;
  it.world.run(Seconds(60));
  it.world.relay.host.path.isDown = false;
  it.world.run(Seconds(15));
  expect(it.agent.eventsOf('relay-lost')).toEqual([]);
});

test('after 90 s of silence the connection is lost on both sides', async () => {
  const it = await scene();
  it.world.relay.host.path.isDown = true;
  it.world.run(Seconds(105));
  expect(it.agent.core.relay.state).not.toBe('ready');
  expect(it.world.relay.core.registry.size).toBe(0);
});

test('addresses are tried in turn', async () => {
  const world = await World.create();
  const agent = await world.agent('alice');
  agent.core.relay.setAddresses([at('192.0.2.66:4433'), at('192.0.2.67:4433'), world.relay.addresses[0]!]);
  expect(world.until(() => agent.core.relay.state === 'ready', Seconds(60))).toBe(true);
});

test('an address that no route leads to any more is left for the other family’s at once, and the session goes on', async () => {
  const it = await scene({
    world: { dualStack: true },
    agent: { v6: '2001:db8:1::2' },
    connector: { v6: '2001:db8:2::2' },
  });
  const { app, stream } = connected(it);
  it.world.run(Seconds(10));
  const relay = it.agent.core.relay;
  const before = relay.connection!.remote.ip;
  const prefix = before.isV4 ? '::/0' : '0.0.0.0/0';
  const own = it.agent.udp.map(({ local }) => local.ip).find(({ isV4 }) => isV4 !== before.isV4)!;
  it.agent.core.setNetwork(it.world.now, {
    addresses: [own.toString()],
    routes: [{ prefix, via: 'eth0', isTunnel: false }],
  });
  it.agent.host.reactor.wake();
  app.say('here');
  expect(it.world.until(() => stream.text() === 'here', Millis(500))).toBe(true);
  expect(relay.connection!.remote.ip.isV4).toBe(!before.isV4);
  expect(it.agent.eventsOf('relay-lost').map(({ reason }) => reason)).toEqual([
    'no route leads to its address any more',
  ]);
});

test('a relay that refuses says why, and is asked again ever less often', async () => {
  const world = await World.create();
  const revoked = await world.operator.enrol('agent', 'alice', ['staff']);
  world.apply({ revocations: [revoked.identity.invitationId] });
  const agent = await world.agent('alice', {}, revoked);
  world.run(Minutes(5));
  expect(agent.core.relay.lastProblem).toContain('INVITATION_REVOKED');
  expect(world.relay.core.counts.refused).toBeGreaterThanOrEqual(8);
  expect(world.relay.core.counts.refused).toBeLessThanOrEqual(18);
});

test('two processes with one identity: each replaces the other, ever less often', async () => {
  const world = await World.create();
  const credentials = await world.operator.enrol('agent', 'alice', ['staff']);
  await world.agent('alice', {}, credentials);
  await world.agent('alice', {}, credentials);
  world.run(Minutes(1));
  const first = world.relay.core.counts.replaced;
  expect(first).toBeGreaterThan(2);
  expect(first).toBeLessThan(25);
  world.run(Minutes(1));
  expect(world.relay.core.counts.replaced - first).toBeLessThan(10);
});

test('the policy and the catalogue are known however they and the hello are ordered', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const world = await World.create({ seed });
    const agent = await world.agent('alice');
    agent.host.path.loss = 0.3;
    expect(world.until(() => agent.core.relay.state === 'ready' && agent.policy.view !== undefined, Seconds(60))).toBe(
      true,
    );
    expect(agent.core.routes!.services.map((service) => service.id)).toContain('web');
  }
});

describe('a name that cannot be resolved', () => {
  test('at the start: the reason is told, the name is asked for again, and the first address is used at once', async () => {
    const world = await World.create();
    const agent = await world.agent('alice', { unresolved: true });
    const { relay } = agent.core;
    relay.noAddress('the name relay.example cannot be resolved (ENOTFOUND)');
    agent.host.reactor.wake();
    world.run(Seconds(10));
    expect(relay.lastProblem).toBe('the name relay.example cannot be resolved (ENOTFOUND)');
    expect(agent.attempts).toBeGreaterThanOrEqual(3);
    relay.setAddresses(world.relay.addresses);
    agent.host.reactor.wake();
    expect(world.until(() => relay.state === 'ready', Seconds(1))).toBe(true);
    expect(relay.lastProblem).toBe('');
  });

  test('later: the addresses that were known are used', async () => {
    const it = await scene();
    const before = it.agent.core.relay.addresses;
    it.agent.core.relay.noAddress('the name relay.example cannot be resolved (EAI_AGAIN)');
    expect(it.agent.core.relay.addresses).toEqual(before);
    it.world.relay.host.kill();
    await it.world.startRelay();
    it.world.run(Seconds(15));
    expect(it.agent.core.relay.state).toBe('ready');
  });
});

test('of several addresses a dead one costs 2 s, and while packets wait the one that answers is taken at once', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  const dead = ['192.0.2.66:4433', '192.0.2.67:4433', '192.0.2.68:4433'].map(at);
  it.agent.core.relay.setAddresses([...dead, ...it.world.relay.addresses]);
  it.world.relay.host.path.isDown = true;
  app.say('wanted');
  it.world.run(Seconds(6));
  it.world.relay.host.path.isDown = false;
  expect(it.world.until(() => stream.text() === 'wanted', Millis(600))).toBe(true);
});

test('a relay with a clock that is a day off, or a node: both names are in the reason', async () => {
  for (const days of [-1, 8]) {
    const world = await World.create();
    const agent = await world.agent('alice');
    expect(world.until(() => agent.core.relay.state === 'ready')).toBe(true);
    world.clock.ahead = Days(days);
    agent.core.relay.connection!.close(world.now, 0, 'anew');
    agent.host.reactor.wake();
    world.run(Seconds(20));
    expect(agent.core.relay.state).not.toBe('ready');
    expect(agent.core.relay.lastProblem).toMatch(/clock/);
  }
});
