/** A relay that is about to stop: everybody is told, what is new is refused, what passes goes on until the deadline. */
import { expect, test } from 'vitest';
import { elapsed, Millis, Seconds, toSeconds } from '../../src/base/time.js';
import { connected, scene } from '../connector/fixtures.js';
import { innerPacket } from '../support/rogue.js';
import { World } from '../support/world.js';
import { answering, ask, channel, dialled, joined, register } from './fixtures.js';

async function pair() {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  const sides = channel(world, agent, connector);
  /** The relay is told to stop within `seconds`; when it says that it may, in seconds from now. */
  const drain = (seconds: number) => {
    world.relay.core.drain(world.now, Seconds(seconds));
    world.relay.host.reactor.wake();
  };
  const isDrained = (): boolean => world.relay.eventsOf('drained').length === 1;
  return { world, connector, agent, drain, isDrained, ...sides };
}

test('nodes are told when it ends, new channels and nodes are refused, and what passes goes on until the deadline', async () => {
  const { world, connector, agent, drain, isDrained, agentSide } = await pair();
  const late = await world.rogue(await world.operator.enrol('agent', 'late', ['staff']));
  const began = world.now;
  drain(5);
  let sent = 0;
  for (; elapsed(began, world.now) < Seconds(4.8); sent++) {
    agent.relay1(agentSide, innerPacket(50, 1));
    world.run(Millis(100));
  }
  expect(isDrained()).toBe(false);
  expect(connector.relayed.length).toBe(sent);
  for (const node of [agent, connector]) {
    expect(node.relay.of('drain')).toEqual([{ type: 'drain', deadline: 5000, alternatives: [] }]);
  }
  expect(ask(world, agent, 'web', undefined, Millis(100))).toMatchObject({ type: 'error', code: 'DRAINING' });
  const relay = dialled(world, late);
  late.hello();
  expect(world.until(() => relay.closed !== undefined, Millis(200))).toBe(true);
  expect(relay.closed!.text).toMatch(/^DRAINING: /);
  agent.relay1(agentSide, innerPacket(50, 1));
  expect(world.until(isDrained, Seconds(1))).toBe(true);
  expect(toSeconds(elapsed(began, world.now))).toBeCloseTo(5, 1);
});

test('channels on which nothing passes hold nothing up, nor do those that end', async () => {
  const quiet = await pair();
  quiet.world.run(Seconds(2));
  quiet.drain(60);
  expect(quiet.world.until(quiet.isDrained, Millis(1))).toBe(true);

  const ending = await pair();
  ending.agent.relay1(ending.agentSide, innerPacket(50, 1));
  ending.world.run(Millis(100));
  ending.drain(60);
  ending.world.run(Millis(100));
  expect(ending.isDrained()).toBe(false);
  ending.agent.say({ type: 'close', channel: ending.agentSide, reason: 'moved' });
  expect(ending.world.until(ending.isDrained, Millis(200))).toBe(true);
  expect(ending.world.relay.eventsOf('drained')).toEqual([{ kind: 'drained', channels: 0 }]);
  ending.world.run(Seconds(5));
  expect(ending.world.relay.eventsOf('drained')).toHaveLength(1);
});

test('nodes go on using it, and come back by back-off when it has closed; their flows survive', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  const { world, agent, connector } = it;
  // A connection that has worked for a while would be made anew at once.
  world.run(Seconds(10));
  world.relay.core.drain(world.now, Seconds(3));
  world.relay.host.reactor.wake();
  for (let i = 0; i < 20; i++) {
    app.say('x');
    world.run(Millis(100));
  }
  expect(stream.text()).toBe('x'.repeat(20));
  expect(agent.eventsOf('relay-drains')).toEqual([{ kind: 'relay-drains', relay: 'r1', seconds: 3 }]);
  expect(connector.eventsOf('relay-drains')).toHaveLength(1);
  expect(agent.core.relay.lastProblem).toContain('about to stop');
  expect(world.until(() => world.relay.eventsOf('drained').length === 1, Seconds(3))).toBe(true);

  world.relay.core.shutdown(world.now);
  world.run(Millis(20));
  world.relay.host.kill();
  const closed = world.now;
  await world.startRelay();
  expect(connector.core.relay.state).toBe('waiting');
  expect(world.until(() => connector.core.relay.state === 'ready', Seconds(5))).toBe(true);
  expect(elapsed(closed, world.now)).toBeGreaterThan(Millis(700));
  app.say('!');
  expect(world.until(() => stream.text().endsWith('!'), Seconds(5))).toBe(true);
  expect(stream.text()).toBe(`${'x'.repeat(20)}!`);
});

test('when it stops, every node is told; that they go is one event, not one for each', async () => {
  const { world, agent, connector } = await scene();
  world.relay.core.shutdown(world.now);
  world.run(Millis(20));
  expect(world.relay.eventsOf('relay-stops')).toEqual([{ kind: 'relay-stops', nodes: 2 }]);
  expect(world.relay.eventsOf('node-lost')).toEqual([]);
  expect(world.relay.eventsOf('channel-closed')).toEqual([]);
  expect(agent.eventsOf('relay-lost')).toHaveLength(1);
  expect(connector.eventsOf('relay-lost')).toHaveLength(1);
});

test('a relay that stops names the network’s others', async () => {
  const contact = (name: string) => ({
    name,
    quic: `${name}.example.com:4433`,
    control: `https://${name}.example.com`,
  });
  const policy = { relays: ['r1', 'r2', 'r3'].map(contact) };
  const world = await World.create({ policy });
  const agent = await joined(world, 'agent', 'alice');
  world.relay.core.drain(world.now, Seconds(1));
  world.relay.host.reactor.wake();
  world.run(Millis(100));
  expect(agent.relay.of('drain')).toEqual([{ type: 'drain', deadline: 1000, alternatives: ['r2', 'r3'] }]);
});
