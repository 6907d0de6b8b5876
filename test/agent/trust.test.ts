/** What an agent believes: its own copy of the signed policy and proofs, and nothing a relay or connector says. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { App } from '../support/app.js';
import type { Credentials, NodeCredentials } from '../support/identities.js';
import { echoRequest, icmpPacket, tcpPacket, udpPacket } from '../support/packets.js';
import type { RogueNode } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import type { SimAgent } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { live, lyingConnector, overlay, welcome } from './fixtures.js';

interface Scene {
  readonly world: World;
  readonly node: RogueNode;
  readonly agent: SimAgent;
  readonly link: RogueConnection;
}

/** A TUN agent that has just said hello to a lying connector c1. */
async function greeted(forge?: (world: World) => Promise<Credentials>): Promise<Scene> {
  const world = await World.create();
  const node = await lyingConnector(world, 'c1', ['web', 'dns', 'box', 'pair'], await forge?.(world));
  const agent = await world.agent('alice', { tun: true });
  expect(world.until(() => agent.core.available.has('web'))).toBe(true);
  agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, 'first'));
  expect(world.until(() => node.accepted[0]?.of('hello').length === 1)).toBe(true);
  return { world, node, agent, link: node.accepted[0]! };
}

async function liveScene(): Promise<Scene> {
  const it = await greeted();
  welcome(it.node, it.link);
  expect(live(it.world, it.agent)).toBe(true);
  it.world.run(Seconds(1));
  return it;
}

test('the hello says who the agent is to this connector alone, and no packet leaves before the welcome', async () => {
  const it = await greeted();
  it.world.run(Seconds(2));
  expect(it.link.of('hello')).toMatchObject([{ version: 1, link: 0, proof: it.agent.credentials.proof }]);
  expect(it.link.datagrams).toEqual([]);
  welcome(it.node, it.link);
  expect(it.world.until(() => it.link.datagrams.length === 1)).toBe(true);
});

test.each([
  ['the proof of nobody', { proof: null }],
  ['another session', { session: 'ee'.repeat(16) }],
  ['another version', { version: 2 }],
])('a welcome with %s: refused', async (_name, more) => {
  const it = await greeted();
  welcome(it.node, it.link, more);
  expect(it.world.until(() => it.link.closed !== undefined, Seconds(2))).toBe(true);
  expect(it.agent.session('c1')!.isLive).toBe(false);
  expect(it.link.datagrams).toEqual([]);
  // The agent tries again by and by, as a connector may have been renewed meanwhile.
  expect(it.world.until(() => it.node.accepted.length > 1, Seconds(10))).toBe(true);
});

test('a welcome with another connector’s proof, or one that the CA host has signed: refused', async () => {
  for (const forge of [
    async (world: World) => world.operator.enrol('connector', 'c2'),
    async (world: World) => world.operator.withOtherPolicyKey().enrol('connector', 'c1'),
    async (world: World) => world.operator.enrol('agent', 'c1', ['staff']),
  ]) {
    const it = await greeted();
    const { proof } = await forge(it.world);
    welcome(it.node, it.link, { proof });
    expect(it.world.until(() => it.link.closed !== undefined, Seconds(2))).toBe(true);
    expect(it.agent.session('c1')!.isLive).toBe(false);
  }
});

test('who holds the CA key, and is even given the connector’s channels, is no connector without the policy key', async () => {
  // A certificate for c1 from the real CA: TLS has nothing to say against it.
  const forge = (world: World) => world.operator.withOtherPolicyKey().enrol('connector', 'c1');
  let forged: NodeCredentials | undefined;
  for (const proofOf of ['forger', 'victim'] as const) {
    const it = await greeted(async (world) => {
      forged = await forge(world);
      return forged;
    });
    welcome(it.node, it.link, { proof: proofOf === 'forger' ? forged!.proof : it.node.credentials.proof });
    expect(it.world.until(() => it.link.closed !== undefined, Seconds(2))).toBe(true);
    expect(it.agent.session('c1')!.lastProblem).toContain(
      proofOf === 'forger' ? 'INVITATION_TAMPERED' : 'PROOF_KEY_MISMATCH',
    );
    expect(it.agent.session('c1')!.isLive).toBe(false);
    expect(it.link.datagrams).toEqual([]);
  }
});

test('a link end that shows another connector’s certificate, an agent’s or a relay’s gets not even a hello', async () => {
  for (const [role, name] of [
    ['connector', 'c2'],
    ['agent', 'c1'],
    ['relay', 'r1'],
  ] as const) {
    const world = await World.create();
    const shown = await world.operator.credentials(role, name);
    const node = await lyingConnector(world, 'c1', ['web', 'dns'], shown);
    const agent = await world.agent('alice', { tun: true });
    expect(world.until(() => agent.core.available.has('dns'))).toBe(true);
    agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, 'first'));
    world.run(Seconds(6));
    expect(node.relay.of('channel').length).toBeGreaterThan(0);
    expect(node.accepted.flatMap((link) => link.messages)).toEqual([]);
    expect(agent.session('c1')!.isLive).toBe(false);
  }
});

test('only services that the policy lets this connector serve may speak, and only to the agent’s own address', async () => {
  const it = await liveScene();
  const own = overlay(it.agent);
  const good = udpPacket({ from: '10.100.0.2', to: own }, 53, 4000, 'good');
  const bad: [string, Uint8Array][] = [
    ['a service of another connector', udpPacket({ from: '10.100.0.6', to: own }, 53, 4000, 'bad')],
    ['a service that is not granted', udpPacket({ from: '10.100.0.5', to: own }, 53, 4000, 'bad')],
    ['no service', udpPacket({ from: '10.100.0.77', to: own }, 53, 4000, 'bad')],
    ['the internet', tcpPacket({ from: '8.8.8.8', to: own }, 443, 4000)],
    ['the agent itself', udpPacket({ from: own, to: own }, 53, 4000, 'bad')],
    ['to another host', udpPacket({ from: '10.100.0.2', to: '192.168.1.1' }, 53, 4000, 'bad')],
    ['to another agent', udpPacket({ from: '10.100.0.2', to: '100.64.0.77' }, 53, 4000, 'bad')],
    ['to multicast', udpPacket({ from: '10.100.0.2', to: '224.0.0.1' }, 53, 4000, 'bad')],
    ['in IPv6, to another', udpPacket({ from: 'fd00:1:2::2', to: 'fd00:1:2:f::99' }, 53, 4000, 'bad')],
    ['an ICMP error from elsewhere', icmpPacket({ from: '10.9.9.9', to: own }, 3, 1, 0, new Uint8Array(28))],
  ];
  it.agent.tun!.take();
  for (const [, packet] of bad) it.link.connection.sendDatagram(packet);
  it.node.host.reactor.wake();
  it.world.run(Seconds(1));
  expect(it.agent.tun!.take()).toEqual([]);
  const drops = it.agent.core.drops;
  expect(drops.get('source_not_allowed') + drops.get('destination_not_allowed')).toBe(bad.length);

  it.link.connection.sendDatagram(good);
  it.link.connection.sendDatagram(
    udpPacket({ from: 'fd00:1:2::2', to: it.agent.credentials.identity.overlay6!.toString() }, 53, 4000, 'six'),
  );
  it.node.host.reactor.wake();
  expect(it.world.until(() => it.agent.tun!.delivered.length === 2)).toBe(true);
});

test('packets before the welcome are not taken', async () => {
  const it = await greeted();
  it.link.connection.sendDatagram(udpPacket({ from: '10.100.0.2', to: overlay(it.agent) }, 53, 4000, 'early'));
  it.node.host.reactor.wake();
  it.world.run(Seconds(1));
  expect(it.agent.tun!.take()).toEqual([]);
  expect(it.agent.core.drops.get('not_admitted')).toBe(1);
});

test('what the agent may not reach never leaves it, and its program is told at once', async () => {
  const it = await liveScene();
  const from = overlay(it.agent);
  const before = it.link.datagrams.length;
  it.agent.tun!.take();
  for (const packet of [
    tcpPacket({ from, to: '10.100.0.5' }, 1, 5432),
    tcpPacket({ from, to: '10.100.0.1' }, 1, 81),
    udpPacket({ from, to: '10.100.0.200' }, 1, 1, 'x'),
    echoRequest({ from, to: '10.100.0.1' }, 1, 1),
  ]) {
    it.agent.tun!.send(packet);
  }
  it.world.run(Seconds(1));
  expect(it.link.datagrams.length).toBe(before);
  expect(it.agent.tun!.take().map((packet) => [packet[9], packet[20], packet[21]])).toEqual(Array(4).fill([1, 3, 13]));
});

test('a policy that the operator did not sign, or an older one, changes nothing whoever passes it on', async () => {
  const it = await liveScene();
  const held = it.agent.policy.view!.version;
  const open = { grants: [{ from: ['*'], to: ['*'] }] };
  const strangers = it.world.operator.withOtherPolicyKey().sign({ ...it.world.document, ...open, version: held + 5 });
  const twin = it.world.operator.sign({ ...it.world.document, ...open });
  for (const signed of [strangers, twin]) it.agent.core.offerPolicy(it.world.now, signed.envelope);
  it.agent.core.offerPolicy(it.world.now, { kind: 'policy' });
  expect(it.agent.eventsOf('policy-refused').map((event) => event.code)).toEqual([
    'POLICY_TAMPERED',
    'POLICY_CONFLICT',
    'POLICY_MALFORMED',
  ]);
  expect(it.agent.policy.view!.version).toBe(held);
});

test('a new policy takes a connector away: its session ends', async () => {
  const it = await liveScene();
  const services = it.world.document.services.map((service) => ({ ...service, connectors: ['c2'] }));
  it.world.apply({ services });
  expect(it.world.until(() => it.agent.session('c1') === undefined, Seconds(2))).toBe(true);
  // The relay has closed the channel by its own copy of the policy.
  expect(it.world.until(() => it.node.relay.of('close').length === 1, Seconds(2))).toBe(true);
});

test('a revoked connector’s links end by the agent’s own policy: its name may be another machine’s by then', async () => {
  const it = await liveScene();
  const { invitationId } = it.node.credentials.identity!;
  // Nobody else has heard of it: not the relay, and the thief of the machine would not care.
  const revoked = it.world.operator.sign({ ...it.world.document, version: 7, revocations: [invitationId] });
  it.agent.core.offerPolicy(it.world.now, revoked.envelope);
  it.agent.host.reactor.wake();
  expect(it.world.until(() => it.link.closed !== undefined, Seconds(1))).toBe(true);
  expect(it.agent.session('c1')!.isLive).toBe(false);
  const heard = it.link.datagrams.length;
  it.agent.tun!.send(udpPacket({ from: overlay(it.agent), to: '10.100.0.2' }, 4000, 53, 'secret'));
  it.world.run(Seconds(2));
  expect(it.node.accepted.reduce((sum, { datagrams }) => sum + datagrams.length, 0)).toBe(heard);
});

test('what a connector refuses is shown', async () => {
  const it = await liveScene();
  it.link.say({ type: 'denied', service: '10.100.0.2:53', reason: 'port_not_allowed' });
  it.link.say({ type: 'something new', x: 1 });
  it.link.say('no json');
  it.node.host.reactor.wake();
  it.world.run(Seconds(1));
  expect(it.agent.eventsOf('denied')).toEqual([
    { kind: 'denied', connector: 'c1', service: '10.100.0.2:53', reason: 'port_not_allowed' },
  ]);
  expect(it.agent.session('c1')!.isLive).toBe(true);
});

test('a connector that never welcomes is given up after 8 s and tried again later', async () => {
  const it = await greeted();
  it.world.run(Seconds(7));
  expect(it.agent.session('c1')!.state).toBe('linking');
  it.world.run(Seconds(2));
  expect(it.agent.session('c1')!.state).not.toBe('live');
  expect(it.link.closed).toBeDefined();
  expect(it.world.until(() => it.node.accepted.length === 2, Seconds(5))).toBe(true);
});

test('a proof that names another node than the certificate: refused', async () => {
  let other: NodeCredentials | undefined;
  const it = await greeted(async (world) => {
    other = await world.operator.enrol('connector', 'c2');
    const certificatePem = await world.operator.certify('connector', 'c1', other.keyPem);
    return { role: 'connector', name: 'c1', keyPem: other.keyPem, certificatePem };
  });
  welcome(it.node, it.link, { proof: other!.proof });
  expect(it.world.until(() => it.link.closed !== undefined, Seconds(2))).toBe(true);
  expect(it.agent.session('c1')!.lastProblem).toContain('another node');
});

test('a relay that answers for another connector than asked is not followed', async () => {
  const world = await World.create();
  const node = await lyingConnector(world, 'c1', ['web', 'dns']);
  const agent = await world.agent('alice');
  expect(world.until(() => agent.core.available.has('web'))).toBe(true);
  const { relay } = agent.core;
  const request = relay.request.bind(relay);
  relay.request = (now, make, done) =>
    request(now, make, (at, answer) => {
      const isOpened = answer.ok && answer.message.type === 'opened';
      done(
        at,
        isOpened ? { ok: true, message: { ...answer.message, connector: 'c2' } as typeof answer.message } : answer,
      );
    });
  const app = new App(agent, '10.100.0.1:80');
  world.run(Seconds(10));
  expect(node.relay.of('channel').length).toBeGreaterThan(0);
  expect(node.accepted).toEqual([]);
  expect(app.connected).toBe(false);
});
