/** A node's new connection that takes the place of the one before: everything goes on, with the same key and by that alone. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { innerPacket } from '../support/rogue.js';
import { World } from '../support/world.js';
import { answering, ask, channel, joined, register } from './fixtures.js';

async function scene() {
  const world = await World.create();
  const credentials = await world.operator.enrol('connector', 'c1');
  const connector = answering(await joined(world, 'connector', 'c1', { credentials }));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  return { world, credentials, connector, agent, ...channel(world, agent, connector) };
}

type Scene = Awaited<ReturnType<typeof scene>>;

/** Makes the connector's second connection, which says hello; the first one. */
function resumed({ world, connector }: Scene) {
  const former = connector.relay;
  const second = connector.dial();
  second.onMessage = former.onMessage;
  expect(world.until(() => second.connected)).toBe(true);
  connector.hello({ resume: true });
  expect(world.until(() => second.of('hello').length === 1, Seconds(1))).toBe(true);
  return former;
}

/** Whether a packet of the agent's reaches the connector. */
function passes({ world, agent, connector, agentSide }: Scene): boolean {
  const before = connector.relayed.length;
  agent.relay1(agentSide, innerPacket(100));
  return world.until(() => connector.relayed.length > before, Seconds(1));
}

test('channels, services and requests go on; what comes on the former connection counts until it is closed', async () => {
  const it = await scene();
  const { world, connector, agent } = it;
  const node = world.relay.core.registry.connector('c1')!;
  const former = resumed(it);
  expect(connector.relay.of('hello')[0]).toMatchObject({ role: 'relay', capabilities: ['resume'], resume: true });
  expect(world.relay.core.registry.connector('c1')).toBe(node);
  expect([...node.services]).toEqual(['web']);
  expect([world.relay.channels, passes(it)]).toEqual([1, true]);
  former.say({ type: 'withdraw', services: [{ id: 'web' }] });
  connector.host.reactor.wake();
  expect(world.until(() => node.services.size === 0, Seconds(1))).toBe(true);
  register(world, connector, 'web');
  expect(ask(world, agent, 'web')?.type).toBe('opened');

  former.connection.close(world.now, 0, 'renewed');
  connector.host.reactor.wake();
  world.run(Seconds(30));
  expect([world.relay.channels, passes(it)]).toEqual([2, true]);
  expect(world.relay.core.counts).toMatchObject({ admitted: 2, replaced: 0 });
  expect(world.relay.eventsOf('node-resumed').map(({ node }) => node)).toEqual(['connector/c1']);
  expect(world.relay.eventsOf('node-lost')).toEqual([]);
});

test('a former connection that the node leaves open is closed, at once when there is a third', async () => {
  const it = await scene();
  const first = resumed(it);
  it.world.run(Seconds(5));
  const second = resumed(it);
  expect(it.world.until(() => first.closed !== undefined, Seconds(1))).toBe(true);
  it.world.run(Seconds(5));
  expect(second.closed).toBeUndefined();
  it.world.run(Seconds(12));
  expect(second.closed).toMatchObject({ kind: 'peer-application', code: 3 });
  expect(passes(it)).toBe(true);
});

test('a node whose new connection ends is lost, and its former one ends too', async () => {
  const it = await scene();
  const former = resumed(it);
  it.connector.relay.connection.close(it.world.now, 0, 'done');
  it.connector.host.reactor.wake();
  expect(it.world.until(() => former.closed !== undefined, Seconds(1))).toBe(true);
  expect([it.world.relay.channels, it.world.relay.core.registry.connector('c1')]).toEqual([0, undefined]);
  expect(it.world.relay.eventsOf('node-lost').length).toBe(1);
});

test('packets stay where they went until the new connection has proved its own address', async () => {
  const it = await scene();
  const { world, credentials, connector } = it;
  const elsewhere = await world.rogue(credentials);
  elsewhere.revalidates = false;
  const second = elsewhere.dial();
  expect(world.until(() => second.connected)).toBe(true);
  elsewhere.hello({ resume: true });
  expect(world.until(() => second.of('hello').length === 1 && elsewhere.nonces.length > 0, Seconds(1))).toBe(true);
  expect(passes(it)).toBe(true);
  elsewhere.echo(elsewhere.nonces.at(-1)!);
  expect(world.until(() => world.relay.eventsOf('node-moved').length === 1, Seconds(1))).toBe(true);
  expect(passes(it)).toBe(false);
  expect(passes({ ...it, connector: elsewhere })).toBe(true);
  expect(connector.relay.closed).toBeUndefined();
});

test('another key, or a relay that knows nothing of the node: it begins anew', async () => {
  const it = await scene();
  const { world, credentials } = it;
  const rotated = await world.rogue(await world.operator.rotate(credentials));
  const dialled = rotated.dial();
  expect(world.until(() => dialled.connected)).toBe(true);
  rotated.hello({ resume: true });
  expect(world.until(() => rotated.relay.of('hello').length === 1)).toBe(true);
  expect(rotated.relay.of('hello')[0]!['resume']).toBeUndefined();
  expect([world.relay.channels, world.relay.core.counts.replaced]).toEqual([0, 1]);

  const stranger = await world.rogue(await world.operator.enrol('agent', 'bob', ['staff']));
  const first = stranger.dial();
  expect(world.until(() => first.connected)).toBe(true);
  stranger.hello({ resume: true });
  expect(world.until(() => stranger.relay.of('hello').length === 1)).toBe(true);
  expect(stranger.relay.of('hello')[0]!['resume']).toBeUndefined();
  expect(world.relay.eventsOf('node-resumed')).toEqual([]);
});
