/** A relay that lies: what it says that cannot be true is refused and counted at the end that sees it, and harms nobody else. */
import { afterEach, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { NodeConnection } from '../../src/relay/node-connection.js';
import type { FromRelay } from '../../src/tunnel/messages.js';
import { BACKEND, connected, ready, SERVICES, scene, WEB } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import { World } from '../support/world.js';

const { send, push } = NodeConnection.prototype;
afterEach(() => {
  Object.assign(NodeConnection.prototype, { send, push });
});

/** From now on the relay says what `twist` makes of its messages to the node of this name (`role/name`). */
function lie(twist: (message: FromRelay, to: string) => FromRelay): void {
  const twisted = (original: typeof send) =>
    function (this: NodeConnection, message: FromRelay): void {
      original.call(this, twist(message, this.node!.key));
    };
  Object.assign(NodeConnection.prototype, { send: twisted(send), push: twisted(push) });
}

test('another connector than the one asked for: not followed', async () => {
  const it = await scene();
  lie((message) => (message.type === 'opened' ? { ...message, connector: 'c2' } : message));
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(5));
  expect(app.connected).toBe(false);
  expect(it.agent.core.relay.lies).toBeGreaterThanOrEqual(1);
  expect(it.agent.session('c1')!.lastProblem).toContain('another connector');
  expect(it.connector.sessions).toEqual([]);
});

test('another virtual address than the operator signed: the service counts as not registered', async () => {
  const world = await World.create();
  const connector = await world.connector('c1', { services: SERVICES });
  expect(world.until(() => ready(connector))).toBe(true);
  const registered = (): string => connector.core.registrar.statusOf('web');
  lie((message) =>
    message.type === 'registered'
      ? {
          ...message,
          services: message.services.map((one) => (one.id === 'web' ? { ...one, virtualIp4: '10.100.0.99' } : one)),
        }
      : message,
  );
  // A new policy makes it register again.
  world.apply({});
  expect(world.until(() => registered() === 'conflict', Seconds(2))).toBe(true);
  expect(connector.core.relay.lies).toBe(1);
  expect(connector.core.registrar.statusOf('dns')).toBe('ok');
});

test('a policy that has been replaced already: refused by both ends, and what it granted stays refused', async () => {
  const it = await scene();
  const { world, agent, connector } = it;
  const old = world.signed.envelope;
  world.apply({ grants: [{ from: ['group:staff'], to: ['pair'] }] });
  const { version } = world.signed.document;
  expect(world.until(() => [agent, connector].every((node) => node.policy.view!.version === version))).toBe(true);
  lie((message) => (message.type === 'policy' ? { ...message, envelope: old } : message));
  world.apply({});
  world.run(Seconds(1));
  for (const node of [agent, connector]) {
    expect(node.policy.view!.version).toBe(version);
    expect(node.core.relay.lies).toBe(1);
    expect(node.core.relay.lastProblem).toContain('POLICY_');
  }
  const app = new App(agent, WEB);
  world.run(Seconds(3));
  expect(app.connected).toBe(false);
});

test('a channel to another agent: the connector takes only the one that was named, and the others go on', async () => {
  const it = await scene();
  const { world, agent, connector } = it;
  const { app, stream } = connected(it);
  const bob = await world.agent('bob');
  expect(world.until(() => bob.core.available.has('web'))).toBe(true);
  lie((message) => (message.type === 'channel' ? { ...message, agent: 'alice' } : message));
  const late = new App(bob, WEB);
  world.run(Seconds(3));
  expect(late.connected).toBe(false);
  expect(connector.eventsOf('link-refused').map(({ agent: name, code }) => [name, code])).toContainEqual([
    'bob',
    'OTHER_AGENT',
  ]);
  expect(connector.core.relay.lies).toBeGreaterThanOrEqual(1);
  expect(connector.sessions.map((session) => session.identity.name)).toEqual(['alice']);
  app.say('still mine');
  expect(world.until(() => stream.text() === 'still mine', Seconds(1))).toBe(true);
  expect(agent.core.relay.lies).toBe(0);
});

test('a channel that is in use already: the session that has it keeps it', async () => {
  const world = await World.create();
  const one = await world.connector('c1', { services: SERVICES });
  const two = await world.connector('c2', { services: { far: 'tcp://10.0.0.8:80' } });
  const agent = await world.agent('alice');
  expect(world.until(() => ready(one) && ready(two) && agent.core.available.has('far'))).toBe(true);
  const { app, stream } = connected({ world, connector: one, agent });
  const { id } = [...world.relay.core.registry.agent('alice')!.channels][0]!;
  lie((message) => (message.type === 'opened' ? { ...message, channel: id } : message));
  const far = new App(agent, '10.100.0.6:80');
  world.run(Seconds(3));
  expect(far.connected).toBe(false);
  expect(agent.core.relay.lies).toBeGreaterThanOrEqual(1);
  app.say('mine');
  expect(world.until(() => stream.text() === 'mine', Seconds(1))).toBe(true);
});

test('a flood of channels that nobody uses, and of words without sense, costs a connector no flow', async () => {
  const it = await scene();
  const { world, connector } = it;
  const { app, stream } = connected(it);
  const relay = world.relay.core.registry.connector('c1')!.connection;
  for (let i = 0; i < 500; i++) {
    relay.send({ type: 'channel', channel: (i % 50).toString(16).padStart(16, '0'), agent: 'alice' });
    relay.send({ type: 'drain', deadline: 0, alternatives: [] });
    relay.send({ type: 'close', channel: i.toString(16).padStart(16, 'f'), reason: 'so' });
    relay.send({ type: 'opened', id: i, channel: 'ab'.repeat(8), connector: 'c9' });
  }
  world.relay.host.reactor.wake();
  world.run(Millis(500));
  expect(connector.core.relay.lies).toBe(450);
  expect(connector.eventsOf('relay-drains')).toHaveLength(1);
  app.say('on');
  expect(world.until(() => stream.text() === 'on', Seconds(1))).toBe(true);
  expect(connector.host.sockets.tcpBackend(BACKEND).streams).toHaveLength(1);
});
