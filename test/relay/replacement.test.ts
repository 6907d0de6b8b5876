/** One name, one node: reconnecting, superseded keys, and strangers who claim a name. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { innerPacket } from '../support/rogue.js';
import { World } from '../support/world.js';
import { admitted, answering, ask, channel, joined, refusedWith, register } from './fixtures.js';

test('a node that reconnects replaces its own older connection when it says hello', async () => {
  const world = await World.create();
  const credentials = await world.operator.enrol('connector', 'c1');
  const older = await joined(world, 'connector', 'c1', { credentials });
  register(world, older, 'web');
  const newer = await world.rogue(credentials);
  const second = newer.dial();
  expect(world.until(() => second.connected)).toBe(true);
  world.run(Seconds(1));
  expect(older.relay.closed).toBeUndefined();

  newer.hello();
  expect(world.until(() => older.relay.closed !== undefined, Seconds(1))).toBe(true);
  expect(older.relay.closed).toMatchObject({ kind: 'peer-application', code: 3 });
  expect(world.relay.core.counts).toMatchObject({ admitted: 2, replaced: 1 });
  expect(world.relay.eventsOf('node-replaced').map((event) => event.node)).toEqual(['connector/c1']);
  expect(world.relay.eventsOf('node-lost')).toEqual([]);
});

test('the late close of the older connection removes nothing of the newer one’s', async () => {
  const world = await World.create();
  const credentials = await world.operator.enrol('connector', 'c1');
  const older = await joined(world, 'connector', 'c1', { credentials });
  register(world, older, 'web');
  // The older process hangs without a word: the relay will time its connection out much later.
  older.host.path.isDown = true;

  const newer = answering(await joined(world, 'connector', 'c1', { credentials }));
  register(world, newer, 'web', 'pair');
  const agent = await joined(world, 'agent', 'alice');
  const { agentSide, connectorSide } = channel(world, agent, newer);
  const node = world.relay.core.registry.connector('c1')!;

  for (let second = 0; second < 200; second += 5) {
    agent.relay1(agentSide, innerPacket(100));
    newer.relay.connection.ping();
    agent.relay.connection.ping();
    world.run(Seconds(5));
  }
  older.host.path.isDown = false;
  world.run(Seconds(5));
  expect(world.relay.core.registry.connector('c1')).toBe(node);
  expect([...node.services].sort()).toEqual(['pair', 'web']);
  expect(world.relay.channels).toBe(1);
  const before = newer.relayed.length;
  agent.relay1(agentSide, innerPacket(64, 9));
  expect(world.until(() => newer.relayed.length > before)).toBe(true);
  expect(newer.relayed.at(-1)).toMatchObject({ channel: connectorSide, inner: innerPacket(64, 9) });
  expect(world.relay.eventsOf('node-lost').filter((event) => event.node === 'connector/c1')).toEqual([]);
});

test('the older connection’s channels end at once, and its last words do nothing', async () => {
  const world = await World.create();
  const credentials = await world.operator.enrol('connector', 'c1');
  const older = answering(await joined(world, 'connector', 'c1', { credentials }));
  register(world, older, 'web');
  const agent = await joined(world, 'agent', 'alice');
  const { agentSide, connectorSide } = channel(world, agent, older);

  const newer = await joined(world, 'connector', 'c1', { credentials });
  expect(world.until(() => agent.relay.of('close').length === 1)).toBe(true);
  expect(agent.relay.of('close')[0]).toMatchObject({ channel: agentSide });
  expect(world.relay.channels).toBe(0);
  // Nothing is registered anew by itself.
  expect(ask(world, agent, 'web')).toMatchObject({ type: 'error', code: 'NO_CONNECTOR' });
  older.relay1(connectorSide, innerPacket(50));
  world.run(Seconds(1));
  expect(agent.relayed).toEqual([]);
  register(world, answering(newer), 'web');
  expect(ask(world, agent, 'web')).toMatchObject({ type: 'opened', connector: 'c1' });
});

test('another node may not take a connected node’s name, and may when it has gone', async () => {
  const world = await World.create();
  const first = await joined(world, 'connector', 'c1');
  register(world, first, 'web');
  const second = await world.rogue(await world.operator.enrol('connector', 'c1'));
  expect(refusedWith(world, second)).toBe('NAME_TAKEN');
  expect(first.relay.closed).toBeUndefined();
  expect([...world.relay.core.registry.connector('c1')!.services]).toEqual(['web']);

  first.relay.connection.close(world.now, 0, 'bye');
  first.host.reactor.wake();
  expect(world.until(() => world.relay.core.registry.size === 0)).toBe(true);
  admitted(world, second);
});

test('a superseded key never replaces a newer one; the newer replaces the older', async () => {
  const world = await World.create();
  const original = await world.operator.enrol('agent', 'alice', ['staff']);
  const rotated = await world.operator.rotate(original);
  const old = await joined(world, 'agent', 'alice', { credentials: original });
  const fresh = await joined(world, 'agent', 'alice', { credentials: rotated });
  expect(world.until(() => old.relay.closed !== undefined, Seconds(1))).toBe(true);
  expect(refusedWith(world, old)).toBe('KEY_SUPERSEDED');
  expect(fresh.relay.closed).toBeUndefined();
});
