/** Who the relay admits: certificates and proofs that are really issued, by the right keys and by wrong ones. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Operator } from '../support/identities.js';
import { World } from '../support/world.js';
import { admitted, dialled, joined, refusedWith } from './fixtures.js';

test('an enrolled node is admitted and told who it is talking to, where it is seen, and the policy', async () => {
  const world = await World.create();
  const node = await joined(world, 'agent', 'alice');
  expect(world.until(() => node.relay.of('policy').length + node.relay.of('catalogue').length === 2)).toBe(true);
  // Streams have no order among each other: the hello need not be the first to arrive.
  expect(node.relay.of('hello')[0]).toMatchObject({ type: 'hello', version: 1, role: 'relay' });
  expect(node.relay.of('policy')[0]!['envelope']).toEqual(world.signed.envelope);
  expect(world.relay.eventsOf('node-connected')).toEqual([
    { kind: 'node-connected', node: 'agent/alice', address: node.socket.external.toString() },
  ]);
  expect(world.relay.core.counts).toMatchObject({ admitted: 1, refused: 0 });
});

test('a certificate of the CA lets nobody in without a proof', async () => {
  const world = await World.create();
  const credentials = await world.operator.credentials('agent', 'mallory');
  const none = await world.rogue({ ...credentials, role: 'agent', proof: undefined as never });
  expect(refusedWith(world, none)).toBe('PROOF_MALFORMED');
  expect(world.relay.core.registry.size).toBe(0);
  expect(world.relay.core.counts.refused).toBe(1);
});

test('nor with the proof of another node', async () => {
  const world = await World.create();
  const alice = await world.operator.enrol('agent', 'alice', ['staff']);
  const mallory = await world.operator.credentials('agent', 'alice');
  const node = await world.rogue({ ...mallory, role: 'agent', proof: alice.proof });
  expect(refusedWith(world, node)).toBe('PROOF_KEY_MISMATCH');
});

test('nor with a proof of another network, whose operator is real', async () => {
  const world = await World.create();
  const elsewhere = await Operator.create('other');
  const { proof, keyPem } = await elsewhere.enrol('agent', 'alice', ['staff']);
  const certificatePem = await world.operator.certify('agent', 'alice', keyPem);
  const node = await world.rogue({ role: 'agent', name: 'alice', keyPem, certificatePem, proof });
  expect(refusedWith(world, node)).toBe('INVITATION_TAMPERED');
});

test('nor with a proof that the CA host has signed itself, in either role', async () => {
  const world = await World.create();
  const host = world.operator.withOtherPolicyKey();
  for (const role of ['agent', 'connector'] as const) {
    const node = await world.rogue(await host.enrol(role, 'c1', ['staff']));
    expect(refusedWith(world, node)).toBe('INVITATION_TAMPERED');
  }
  expect(world.relay.core.registry.size).toBe(0);
});

test('certificate and proof must name the same node and role', async () => {
  const world = await World.create();
  const alice = await world.operator.enrol('agent', 'alice', ['staff']);
  const asBob = await world.operator.certify('agent', 'bob', alice.keyPem);
  expect(refusedWith(world, await world.rogue({ ...alice, certificatePem: asBob }))).toBe('IDENTITY_MISMATCH');
  const asConnector = await world.operator.certify('connector', 'alice', alice.keyPem);
  const node = await world.rogue({ ...alice, certificatePem: asConnector });
  expect(refusedWith(world, node, { role: 'connector' })).toBe('IDENTITY_MISMATCH');
});

test('the role in a hello is never believed', async () => {
  const world = await World.create();
  const node = await world.rogue(await world.operator.enrol('agent', 'alice', ['staff']));
  expect(refusedWith(world, node, { role: 'connector' })).toBe('ROLE_MISMATCH');
  expect(refusedWith(world, node, { role: 'relay' })).toBe('ROLE_MISMATCH');
});

test('a relay’s certificate is no node’s', async () => {
  const world = await World.create();
  const credentials = await world.operator.credentials('relay', 'r2');
  const node = await world.rogue({ ...credentials, role: 'agent', proof: undefined as never });
  expect(refusedWith(world, node, { role: 'relay' })).toBe('ROLE_MISMATCH');
});

test('another version is refused by name', async () => {
  const world = await World.create();
  const node = await world.rogue(await world.operator.enrol('agent', 'alice', ['staff']));
  expect(refusedWith(world, node, { version: 2 })).toBe('VERSION');
  expect(world.relay.eventsOf('node-refused')).toEqual([
    { kind: 'node-refused', node: 'agent/alice', code: 'VERSION' },
  ]);
});

test('a certificate of a stranger’s CA gets no further than TLS', async () => {
  const world = await World.create();
  const elsewhere = await Operator.create('acme');
  const node = await world.rogue(await elsewhere.enrol('agent', 'alice', ['staff']));
  const relay = node.dial();
  expect(world.until(() => relay.closed !== undefined)).toBe(true);
  expect(relay.closed!.kind).toBe('peer-transport');
  expect(world.relay.core.counts.refused).toBe(0);
  expect(world.relay.core.registry.size).toBe(0);
});

test('a node takes no stranger for its relay', async () => {
  const world = await World.create();
  const elsewhere = await Operator.create('acme');
  const node = await world.rogue(await world.operator.enrol('agent', 'alice'), { caPem: elsewhere.caPem });
  const relay = node.dial();
  expect(world.until(() => relay.closed !== undefined)).toBe(true);
  expect(relay.connected).toBe(false);
});

test('who says nothing for 5 s is closed', async () => {
  const world = await World.create();
  const relay = dialled(world, await world.rogue(await world.operator.enrol('agent', 'alice')));
  world.run(Seconds(4.9));
  expect(relay.closed).toBeUndefined();
  world.run(Seconds(0.2));
  expect(relay.closed).toMatchObject({ kind: 'peer-application', code: 5 });
});

test('nothing but hello is accepted first, and hello only once', async () => {
  const world = await World.create();
  const node = await world.rogue(await world.operator.enrol('connector', 'c1'));
  const early = dialled(world, node);
  node.say({ type: 'register', id: 1, services: [{ id: 'web' }] });
  expect(world.until(() => early.closed !== undefined)).toBe(true);
  expect(early.closed!.code).toBe(1);
  expect(early.of('registered')).toEqual([]);

  const relay = admitted(world, node);
  node.hello();
  expect(world.until(() => relay.closed !== undefined)).toBe(true);
  expect(relay.closed).toMatchObject({ code: 1, text: 'a second hello' });
});

test('a policy that has ended admits nobody new', async () => {
  const world = await World.create({ policy: { notAfter: Date.UTC(2025, 11, 30) } });
  const node = await world.rogue(await world.operator.enrol('agent', 'alice', ['staff']));
  expect(refusedWith(world, node)).toBe('POLICY_EXPIRED');
});
