/** One enrolled node that misbehaves: it is closed, and the others go on as if it were not there. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { innerPacket, type RogueNode } from '../support/rogue.js';
import { World } from '../support/world.js';
import { answering, ask, channel, joined, register } from './fixtures.js';

async function scene() {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const good = await joined(world, 'agent', 'alice');
  const bad = await joined(world, 'agent', 'mallory');
  const { agentSide } = channel(world, good, connector);
  /** The good agent's channel carries, and it can open another. */
  const othersGoOn = (): void => {
    const before = connector.relayed.length;
    good.relay1(agentSide, innerPacket(50, 1));
    expect(world.until(() => connector.relayed.length === before + 1, Millis(100))).toBe(true);
    expect(ask(world, good, 'web')).toMatchObject({ type: 'opened' });
    expect(good.relay.closed).toBeUndefined();
    expect(connector.relay.closed).toBeUndefined();
  };
  return { world, connector, good, bad, othersGoOn };
}

const isClosed = (node: RogueNode) => (): boolean => node.relay.closed !== undefined;

test('more than 50 messages a second close the connection', async () => {
  const { world, bad, othersGoOn } = await scene();
  for (let i = 0; i < 200; i++) bad.say({ type: 'error', code: 'noise', message: '' });
  expect(world.until(isClosed(bad), Seconds(1))).toBe(true);
  expect(bad.relay.closed!.text).toBe('too many control messages');
  expect(world.until(() => world.relay.core.registry.agent('mallory') === undefined, Seconds(1))).toBe(true);
  othersGoOn();
});

test('a flood of opens is closed; what it had opened is closed with it', async () => {
  const { world, connector, bad, othersGoOn } = await scene();
  for (let i = 0; i < 300; i++) bad.say({ type: 'open', id: 1000 + i, service: 'web' });
  expect(world.until(isClosed(bad), Seconds(2))).toBe(true);
  world.run(Seconds(1));
  expect(connector.relay.closed).toBeUndefined();
  expect(world.relay.channels).toBe(1);
  othersGoOn();
});

test('many agents’ opens and ends at once are no fault of their connector’s', async () => {
  const { world, connector, othersGoOn } = await scene();
  const agents = await Promise.all(['b1', 'b2', 'b3', 'b4'].map((name) => joined(world, 'agent', name)));
  for (let round = 0; round < 5; round++) {
    for (const agent of agents)
      for (let i = 0; i < 20; i++) agent.say({ type: 'open', id: round * 100 + i, service: 'web' });
    world.run(Seconds(1));
  }
  expect(connector.relay.closed).toBeUndefined();
  expect(world.relay.channels).toBeGreaterThan(120);
  // What one agent asks for too quickly is refused, not held against the connector.
  const refusals = agents.flatMap((agent) => agent.relay.of('error').map((message) => message['code']));
  expect(new Set(refusals)).toEqual(new Set(['BUSY']));
  // Each end is told to the connector: more in one instant than any node may say itself.
  for (const agent of agents) agent.relay.connection.close(world.now, 0, 'bye');
  for (const agent of agents) agent.host.reactor.wake();
  world.run(Seconds(1));
  expect(world.relay.channels).toBe(1);
  expect(connector.relay.of('close').length).toBeGreaterThan(120);
  othersGoOn();
});

test('agents that all come back at once cost a connector nothing but its answers', async () => {
  const { world, connector, othersGoOn } = await scene();
  const agents = await Promise.all(Array.from({ length: 20 }, (_, i) => joined(world, 'agent', `b${i}`)));
  for (const agent of agents) for (let i = 0; i < 39; i++) agent.say({ type: 'open', id: i, service: 'web' });
  expect(world.until(() => world.relay.core.counts.opened === 1 + 20 * 39, Seconds(1))).toBe(true);
  expect(agents.flatMap((agent) => agent.relay.of('error'))).toEqual([]);
  expect(connector.relay.closed).toBeUndefined();
  othersGoOn();
});

test('answers that nobody waits for count as messages of one’s own', async () => {
  const { world, connector, bad, othersGoOn } = await scene();
  const other = await joined(world, 'connector', 'c2');
  const told = connector.relay.of('channel')[0]!['channel'];
  for (const node of [bad, other]) for (let i = 0; i < 60; i++) node.say({ type: 'ready', channel: told });
  expect(world.until(() => isClosed(bad)() && isClosed(other)(), Seconds(1))).toBe(true);
  expect(other.relay.closed!.text).toBe('too many control messages');
  othersGoOn();
});

test('opens at the allowed rate cost a connector no more than its own rate', async () => {
  const { world, connector, bad, othersGoOn } = await scene();
  for (let second = 0; second < 5 && bad.relay.closed === undefined; second++) {
    for (let i = 0; i < 45; i++) bad.say({ type: 'open', id: second * 100 + i, service: 'web' });
    world.run(Seconds(1));
  }
  expect(connector.relay.closed).toBeUndefined();
  expect(world.relay.core.registry.agent('mallory')?.channels.size ?? 0).toBeLessThanOrEqual(1024);
  world.run(Seconds(2));
  othersGoOn();
});

test.each([
  ['no JSON', 'not json at all'],
  ['a field of another type', '{"type":"close","channel":5}'],
  ['a channel id that is none', '{"type":"ready","channel":"zz"}'],
])('%s closes the connection', async (_name, text) => {
  const { world, bad, othersGoOn } = await scene();
  bad.say(text);
  expect(world.until(isClosed(bad), Seconds(1))).toBe(true);
  expect(bad.relay.closed).toMatchObject({ kind: 'peer-application', code: 1 });
  othersGoOn();
});

test('an unknown request gets an error, an unknown message and an error get nothing', async () => {
  const { world, bad } = await scene();
  bad.say({ type: 'mystery', id: 77 });
  bad.say({ type: 'mystery' });
  bad.say('[1,2,3]');
  bad.say(`${'['.repeat(5000)}${']'.repeat(5000)}`);
  bad.say({ type: 'error', id: 78, code: 'x', message: 'y' });
  bad.say({ type: 'open', id: 79, service: 'Not A Label' });
  world.run(Seconds(1));
  expect(bad.relay.closed).toBeUndefined();
  expect(bad.relay.of('error').map((message) => [message['id'], message['code']])).toEqual([
    [77, 'unknown'],
    [79, 'invalid'],
  ]);
});

test('unknown fields are ignored', async () => {
  const { world, bad } = await scene();
  bad.say({ type: 'open', id: 5, service: 'web', future: { x: 1 } });
  expect(world.until(() => bad.relay.of('opened').length === 1)).toBe(true);
});

test('datagrams that are none of ours are counted', async () => {
  const { world, bad, othersGoOn } = await scene();
  for (const bytes of [Uint8Array.of(3), Uint8Array.of(9, 9), new Uint8Array(9), new Uint8Array(1000).fill(3)]) {
    bad.relay.connection.sendDatagram(bytes);
  }
  bad.host.reactor.wake();
  world.run(Seconds(1));
  expect(world.relay.core.drops.get('unknown_frame')).toBe(4);
  expect(bad.relay.closed).toBeUndefined();
  othersGoOn();
});

test('garbage in UDP, of every first byte, disturbs nobody', async () => {
  const { world, bad, othersGoOn } = await scene();
  for (let first = 0; first < 256; first++) {
    for (const length of [1, 9, 30, 64, 1200]) {
      const bytes = new Uint8Array(length).map((_, i) => (first * 31 + i * 7) & 255);
      bytes[0] = first;
      bad.socket.sendRaw(bad.relayAddress, bytes);
    }
  }
  world.run(Seconds(1));
  othersGoOn();
});
