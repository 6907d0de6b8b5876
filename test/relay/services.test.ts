/** Registration and opening of channels: what the signed policy lets each side have, and nothing else. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { World } from '../support/world.js';
import { answering, ask, channel, joined, register } from './fixtures.js';

test('each service gets a status of its own; only what the policy lets this connector serve is kept', async () => {
  const world = await World.create();
  const connector = await joined(world, 'connector', 'c1');
  expect(register(world, connector, 'web', 'far', 'nothing', 'UPPER')).toEqual({
    web: 'ok',
    far: 'denied',
    nothing: 'invalid',
    UPPER: 'invalid',
  });
  expect([...world.relay.core.registry.connector('c1')!.services]).toEqual(['web']);
  expect(world.relay.eventsOf('service').map(({ service, status }) => [service, status])).toContainEqual([
    'far',
    'denied',
  ]);
});

test('an agent registers nothing', async () => {
  const world = await World.create();
  // An agent that calls itself like a connector of the policy.
  const agent = await joined(world, 'agent', 'c1');
  expect(register(world, agent, 'web')).toEqual({ web: 'denied' });
  expect(world.relay.core.registry.serving('web')).toEqual([]);
});

test('agents are told what they may reach, and when it comes and goes', async () => {
  const world = await World.create();
  const agent = await joined(world, 'agent', 'alice');
  const available = () => {
    const services = agent.relay.of('catalogue').at(-1)?.['services'] as
      | { id: string; available: boolean }[]
      | undefined;
    return services?.filter((one) => one.available).map((one) => one.id);
  };
  expect(world.until(() => available() !== undefined)).toBe(true);
  expect(available()).toEqual([]);
  const connector = await joined(world, 'connector', 'c1');
  register(world, connector, 'web', 'db');
  // db is another group's: this agent is not even told that it exists.
  expect(world.until(() => available()!.length > 0)).toBe(true);
  expect(available()).toEqual(['web']);
  const names = (agent.relay.of('catalogue').at(-1)!['services'] as { id: string }[]).map((one) => one.id);
  expect(names).toEqual(['web', 'dns', 'box', 'pair', 'far']);

  connector.relay.connection.close(world.now, 0, 'bye');
  connector.host.reactor.wake();
  expect(world.until(() => available()!.length === 0)).toBe(true);
});

test('a channel is opened: the connector is told first, the agent when it is ready', async () => {
  const world = await World.create();
  const connector = await joined(world, 'connector', 'c1');
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  expect(ask(world, agent, 'web', undefined, Seconds(2))).toBeUndefined();
  const told = connector.relay.of('channel');
  expect(told).toEqual([{ type: 'channel', channel: expect.stringMatching(/^[0-9a-f]{16}$/), agent: 'alice' }]);
  connector.say({ type: 'ready', channel: told[0]!['channel'] });
  expect(world.until(() => agent.relay.of('opened').length === 1, Seconds(1))).toBe(true);
  const opened = agent.relay.of('opened')[0]!;
  expect(opened['connector']).toBe('c1');
  expect(opened['channel']).not.toBe(told[0]!['channel']);
  expect(world.relay.channels).toBe(1);
});

test('what is not granted is denied, before anything is said about connectors', async () => {
  const world = await World.create();
  const agent = await joined(world, 'agent', 'alice');
  expect(ask(world, agent, 'db')).toMatchObject({ type: 'error', code: 'DENIED' });
  expect(ask(world, agent, 'nothing')).toMatchObject({ type: 'error', code: 'DENIED' });
  expect(ask(world, agent, 'web')).toMatchObject({ type: 'error', code: 'NO_CONNECTOR' });
  const connector = await joined(world, 'connector', 'c1');
  register(world, connector, 'web', 'db');
  expect(ask(world, agent, 'db')).toMatchObject({ type: 'error', code: 'DENIED' });
  expect(connector.relay.of('channel')).toEqual([]);
  // A connector asks for nothing at all.
  expect(ask(world, connector, 'web')).toMatchObject({ type: 'error', code: 'DENIED' });
  expect(world.relay.core.counts).toMatchObject({ opened: 0, openRefused: 5 });
});

test('an agent may ask for one connector, and gets that one or none', async () => {
  const world = await World.create();
  const one = answering(await joined(world, 'connector', 'c1'));
  const two = answering(await joined(world, 'connector', 'c2'));
  register(world, one, 'pair');
  register(world, two, 'pair');
  const agent = await joined(world, 'agent', 'alice');
  expect(ask(world, agent, 'pair', 'c2')).toMatchObject({ type: 'opened', connector: 'c2' });
  expect(ask(world, agent, 'pair', 'c1')).toMatchObject({ type: 'opened', connector: 'c1' });
  expect(ask(world, agent, 'pair', 'c3')).toMatchObject({ type: 'error', code: 'NO_CONNECTOR' });
  // The asked one must serve this very service.
  expect(ask(world, agent, 'web', 'c2')).toMatchObject({ type: 'error', code: 'NO_CONNECTOR' });
});

test('without a wish the connector with fewer channels is taken', async () => {
  const world = await World.create();
  for (const name of ['c1', 'c2']) register(world, answering(await joined(world, 'connector', name)), 'pair');
  const agent = await joined(world, 'agent', 'alice');
  const names = Array.from({ length: 4 }, () => ask(world, agent, 'pair')!.connector!);
  expect(names.sort()).toEqual(['c1', 'c1', 'c2', 'c2']);
});

test('a connector that is not heard for 20 s gets no channel; one that keeps its connection alive does', async () => {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  world.run(Seconds(40));
  expect(ask(world, agent, 'web')).toMatchObject({ type: 'opened' });
  connector.host.path.isDown = true;
  world.run(Seconds(24));
  const told = connector.relay.of('channel').length;
  expect(ask(world, agent, 'web', undefined, Seconds(1))).toMatchObject({ type: 'error', code: 'NO_CONNECTOR' });
  connector.host.path.isDown = false;
  world.run(Seconds(1));
  expect(connector.relay.of('channel').length).toBe(told);
  world.run(Seconds(20));
  expect(ask(world, agent, 'web')).toMatchObject({ type: 'opened' });
});

test('a connector that does not get ready is given up after 5 s, and its late ready opens nothing', async () => {
  const world = await World.create();
  const connector = await joined(world, 'connector', 'c1');
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  expect(ask(world, agent, 'web', undefined, Seconds(4.9))).toBeUndefined();
  expect(world.relay.channels).toBe(1);
  expect(world.until(() => agent.relay.of('error').length === 1, Seconds(0.3))).toBe(true);
  expect(agent.relay.of('error')[0]).toMatchObject({ code: 'NO_CONNECTOR' });
  expect(world.relay.channels).toBe(0);
  connector.say({ type: 'ready', channel: connector.relay.of('channel')[0]!['channel'] });
  world.run(Seconds(1));
  expect(agent.relay.of('opened')).toEqual([]);
  expect(connector.relay.of('close').length).toBe(1);
});

test('only the connector that was told makes a channel ready', async () => {
  const world = await World.create();
  const connector = await joined(world, 'connector', 'c1');
  const other = await joined(world, 'connector', 'c2');
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  ask(world, agent, 'web', undefined, Seconds(1));
  other.say({ type: 'ready', channel: connector.relay.of('channel')[0]!['channel'] });
  agent.say({ type: 'ready', channel: connector.relay.of('channel')[0]!['channel'] });
  world.run(Seconds(1));
  expect(agent.relay.of('opened')).toEqual([]);
});

test('either side closes its channel, the other is told; nobody closes another’s', async () => {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  const stranger = await joined(world, 'agent', 'bob');
  const first = channel(world, agent, connector);
  stranger.say({ type: 'close', channel: first.agentSide, reason: 'mine now' });
  connector.say({ type: 'close', channel: first.agentSide, reason: 'the other side’s id' });
  world.run(Seconds(1));
  expect(world.relay.channels).toBe(1);

  agent.say({ type: 'close', channel: first.agentSide, reason: 'enough' });
  expect(world.until(() => connector.relay.of('close').length === 1)).toBe(true);
  expect(connector.relay.of('close')[0]).toEqual({ type: 'close', channel: first.connectorSide, reason: 'enough' });
  expect(agent.relay.of('close')).toEqual([]);

  const second = channel(world, agent, connector);
  connector.say({ type: 'close', channel: second.connectorSide, reason: 'full' });
  expect(world.until(() => agent.relay.of('close').length === 1)).toBe(true);
  expect(agent.relay.of('close')[0]).toEqual({ type: 'close', channel: second.agentSide, reason: 'full' });
  expect(world.relay.channels).toBe(0);
});

test('channels end with the relay connection of either side', async () => {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  channel(world, agent, connector);
  agent.relay.connection.close(world.now, 0, 'bye');
  agent.host.reactor.wake();
  expect(world.until(() => connector.relay.of('close').length === 1)).toBe(true);
  expect(world.relay.channels).toBe(0);
});

test('a channel on which nothing has passed for 3 min is closed; one in use is not', async () => {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  const idle = channel(world, agent, connector);
  const used = channel(world, agent, connector);
  for (let i = 0; i < 17; i++) {
    connector.relay1(
      used.connectorSide,
      Uint8Array.from({ length: 30 }, () => 0x40),
    );
    world.run(Seconds(10));
  }
  expect(world.relay.channels).toBe(2);
  world.run(Seconds(16));
  expect(world.relay.channels).toBe(1);
  expect(agent.relay.of('close')).toEqual([{ type: 'close', channel: idle.agentSide, reason: 'idle' }]);
});
