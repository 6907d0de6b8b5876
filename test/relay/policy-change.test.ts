/** A new policy in a running relay: what it no longer allows ends at once, and everybody is told. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { World } from '../support/world.js';
import { answering, ask, channel, joined, refusedWith, register } from './fixtures.js';

async function served() {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web', 'box');
  const alice = await joined(world, 'agent', 'alice');
  const bob = await joined(world, 'agent', 'bob', { groups: ['ops', 'staff'] });
  return { world, connector, alice, bob };
}

test('every node gets the new document, and the catalogue follows', async () => {
  const { world, connector, alice } = await served();
  world.apply({ grants: [{ from: ['agent:bob'], to: ['web'] }] });
  expect(world.until(() => connector.relay.of('policy').length === 2 && alice.relay.of('policy').length === 2)).toBe(
    true,
  );
  expect(alice.relay.of('policy')[1]!['envelope']).toEqual(world.signed.envelope);
  expect(world.until(() => alice.relay.of('catalogue').at(-1)?.['services']?.toString() === '')).toBe(true);
});

test('a channel ends when its agent may no longer use anything of its connector, others stay', async () => {
  const { world, connector, alice, bob } = await served();
  const ended = channel(world, alice, connector);
  const kept = channel(world, bob, connector);
  world.apply({ grants: [{ from: ['agent:bob'], to: ['box'] }] });
  expect(world.until(() => alice.relay.of('close').length === 1)).toBe(true);
  expect(alice.relay.of('close')[0]).toMatchObject({ channel: ended.agentSide, reason: 'policy' });
  expect(connector.relay.of('close')).toMatchObject([{ channel: ended.connectorSide, reason: 'policy' }]);
  expect(world.relay.channels).toBe(1);
  expect(bob.relay.of('close')).toEqual([]);
  expect(kept.agentSide).not.toBe('');
  expect(ask(world, alice, 'web')).toMatchObject({ code: 'DENIED' });
});

test('a connector keeps only what it may still serve', async () => {
  const { world, connector, alice } = await served();
  channel(world, alice, connector);
  const services = world.document.services.map((service) =>
    service.id === 'web' ? { ...service, connectors: ['c2'] } : service,
  );
  world.apply({ services });
  world.run(Seconds(1));
  expect([...world.relay.core.registry.connector('c1')!.services]).toEqual(['box']);
  expect(ask(world, alice, 'web')).toMatchObject({ code: 'NO_CONNECTOR' });
  // The channel serves the session, and the session may still use box.
  expect(world.relay.channels).toBe(1);
});

test('a revoked node is closed at once with its channels, and does not come back', async () => {
  const { world, connector, alice, bob } = await served();
  channel(world, alice, connector);
  const { invitationId } = (alice.credentials as unknown as { identity: { invitationId: string } }).identity;
  world.apply({ revocations: [invitationId] });
  expect(world.until(() => alice.relay.closed !== undefined, Seconds(1))).toBe(true);
  expect(alice.relay.closed).toMatchObject({ kind: 'peer-application', code: 4, text: 'revoked' });
  expect(world.relay.channels).toBe(0);
  expect(refusedWith(world, alice)).toBe('INVITATION_REVOKED');
  expect(bob.relay.closed).toBeUndefined();
});

test('a revoked connector is closed, its services are gone', async () => {
  const { world, connector, alice } = await served();
  channel(world, alice, connector);
  const { invitationId } = (connector.credentials as unknown as { identity: { invitationId: string } }).identity;
  world.apply({ revocations: [invitationId] });
  expect(world.until(() => connector.relay.closed !== undefined, Seconds(1))).toBe(true);
  world.run(Seconds(1));
  expect(world.relay.core.registry.serving('web')).toEqual([]);
  expect(alice.relay.of('close').length).toBe(1);
  expect(ask(world, alice, 'web')).toMatchObject({ code: 'NO_CONNECTOR' });
});

test('an open request that waits is refused when the policy stops allowing it', async () => {
  const world = await World.create();
  const connector = await joined(world, 'connector', 'c1');
  register(world, connector, 'web');
  const alice = await joined(world, 'agent', 'alice');
  expect(ask(world, alice, 'web', undefined, Seconds(1))).toBeUndefined();
  world.apply({ grants: [] });
  expect(world.until(() => alice.relay.of('error').length === 1, Seconds(1))).toBe(true);
  connector.say({ type: 'ready', channel: connector.relay.of('channel')[0]!['channel'] });
  world.run(Seconds(1));
  expect(alice.relay.of('opened')).toEqual([]);
  expect(world.relay.channels).toBe(0);
});

test('an older version, and another document under the same version, change nothing', async () => {
  const { world } = await served();
  world.apply({ grants: [] });
  const held = world.relay.policy.view!.version;
  const older = world.operator.sign({ ...world.document, version: held - 1, grants: [{ from: ['*'], to: ['*'] }] });
  expect(() => world.relay.policy.offer(older.envelope)).toThrow(/older/);
  const twin = world.operator.sign({ ...world.document, grants: [{ from: ['*'], to: ['*'] }] });
  expect(() => world.relay.policy.offer(twin.envelope)).toThrow(/two different/);
  const stranger = world.operator.withOtherPolicyKey().sign({ ...world.document, version: held + 1 });
  expect(() => world.relay.policy.offer(stranger.envelope)).toThrow(/signature/);
  expect(world.relay.policy.view!.document.grants).toEqual([]);
});
