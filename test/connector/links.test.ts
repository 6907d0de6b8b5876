/** Whose links a connector admits, and the sessions they belong to. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { admitted, ask } from '../relay/fixtures.js';
import type { NodeCredentials } from '../support/identities.js';
import { echoRequest, udpPacket } from '../support/packets.js';
import type { RogueNode } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import type { SimConnector } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { ready, SERVICES } from './fixtures.js';

interface Scene {
  readonly world: World;
  readonly connector: SimConnector;
}

async function scene(): Promise<Scene> {
  const world = await World.create();
  const connector = await world.connector('c1', { services: SERVICES });
  expect(world.until(() => ready(connector))).toBe(true);
  return { world, connector };
}

const ID = 'ab'.repeat(16);

/** An agent with a channel to c1 and a finished handshake on it, as far as TLS goes. */
async function linked({ world }: Scene, node: RogueNode, shown?: RogueNode): Promise<RogueConnection> {
  if (node.relay === undefined || node.relay.closed !== undefined) admitted(world, node);
  const opened = ask(world, node, 'web');
  expect(opened?.type).toBe('opened');
  const carrier = shown ?? node;
  const link = carrier.link(carrier.openChannel(opened!.channel!), 'c1.connector.acme');
  world.until(() => link.connected || link.closed !== undefined);
  return link;
}

function hello(world: World, node: RogueNode, link: RogueConnection, more: object = {}): void {
  const proof = node.credentials.proof;
  link.say({ type: 'hello', version: 1, session: ID, link: 0, proof, capabilities: [], ...more });
  node.host.reactor.wake();
  world.until(() => link.of('welcome').length > 0 || link.closed !== undefined, Seconds(2));
}

async function agentNode({ world }: Scene, name = 'alice', credentials?: NodeCredentials): Promise<RogueNode> {
  return world.rogue(credentials ?? (await world.operator.enrol('agent', name, ['staff'])));
}

test('an agent with a valid proof is welcomed: the services of both policies, a proof of the connector’s own', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(it.world, node, link);
  expect(link.of('welcome')[0]).toMatchObject({
    version: 1,
    session: ID,
    resumed: false,
    services: ['web', 'dns', 'box', 'pair'],
    proof: it.connector.credentials.proof,
    innerMtu: 1400,
    capabilities: ['open-checksums'],
  });
  expect(it.connector.sessions.length).toBe(1);
});

test.each<[string, object, string | undefined]>([
  ['no proof', { proof: undefined }, undefined],
  ['rubbish for a proof', { proof: { a: 1 } }, 'PROOF_MALFORMED'],
  ['another version', { version: 2 }, 'VERSION'],
])('%s: refused', async (_name, more, code) => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(it.world, node, link, more);
  expect(link.of('welcome')).toEqual([]);
  expect(link.closed?.kind).toBe('peer-application');
  const refused = code === undefined ? [] : [{ kind: 'link-refused', agent: 'alice', code }];
  expect(it.connector.eventsOf('link-refused')).toEqual(refused);
  expect(it.connector.sessions).toEqual([]);
});

test('the proof of another agent, of another network, of a connector, of a stranger’s key: refused', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const bob = await it.world.operator.enrol('agent', 'bob', ['staff']);
  const stranger = await it.world.operator.withOtherPolicyKey().enrol('agent', 'alice', ['staff']);
  for (const [proof, code] of [
    [bob.proof, 'PROOF_KEY_MISMATCH'],
    [stranger.proof, 'INVITATION_TAMPERED'],
    [it.connector.credentials.proof, 'PROOF_KEY_MISMATCH'],
  ] as const) {
    const link = await linked(it, node);
    hello(it.world, node, link, { proof });
    expect(link.closed?.kind).toBe('peer-application');
    expect(it.connector.eventsOf('link-refused').at(-1)).toMatchObject({ code });
  }
  expect(it.connector.sessions).toEqual([]);
});

test('who holds the CA key and not the policy key is no agent, whatever certificate it issues', async () => {
  const it = await scene();
  // Its accomplice is enrolled and has a channel; the link on it shows the forged certificate.
  const accomplice = await agentNode(it, 'mallory');
  admitted(it.world, accomplice);
  const forged = await it.world.operator.withOtherPolicyKey().enrol('agent', 'alice', ['staff', 'ops']);
  const opened = ask(it.world, accomplice, 'web')!;
  const node = await it.world.rogue(forged);
  const link = node.link(node.openChannel(opened.channel!), 'c1.connector.acme');
  // Downlink goes to the accomplice only; it passes everything on.
  for (const socket of accomplice.udp) socket.arrivals.push((from, bytes) => node.socket.arrive(from, bytes));
  expect(it.world.until(() => link.connected)).toBe(true);
  hello(it.world, node, link);
  expect(it.connector.eventsOf('link-refused').at(-1)).toMatchObject({ agent: 'alice', code: 'INVITATION_TAMPERED' });
  expect(link.closed?.kind).toBe('peer-application');
  expect(it.connector.sessions).toEqual([]);
});

test('certificate and proof of a link must name the same agent', async () => {
  const it = await scene();
  const { operator } = it.world;
  const alice = await operator.enrol('agent', 'alice', ['staff']);
  const helper = await operator.enrol('connector', 'c9');
  for (const [owner, name] of [
    [alice, 'bob'],
    [helper, 'c9'],
  ] as const) {
    // A certificate for an agent, issued by the CA on the key that the proof is for.
    const certificatePem = await operator.certify('agent', name, owner.keyPem);
    const shown = { role: 'agent' as const, name, keyPem: owner.keyPem, certificatePem };
    const accomplice = await it.world.rogue(await operator.enrol('agent', `m-${name}`, ['staff']), {
      linkCredentials: shown,
    });
    const link = await linked(it, accomplice);
    hello(it.world, accomplice, link, { proof: owner.proof });
    expect(it.connector.eventsOf('link-refused').at(-1)).toMatchObject({ agent: name, code: 'IDENTITY_MISMATCH' });
  }
  expect(it.connector.sessions).toEqual([]);
});

test('a connector’s certificate makes no agent', async () => {
  const it = await scene();
  const accomplice = await agentNode(it, 'mallory');
  admitted(it.world, accomplice);
  const opened = ask(it.world, accomplice, 'web')!;
  const node = await it.world.rogue(await it.world.operator.enrol('connector', 'c9'));
  for (const socket of accomplice.udp) socket.arrivals.push((from, bytes) => node.socket.arrive(from, bytes));
  const link = node.link(node.openChannel(opened.channel!), 'c1.connector.acme');
  expect(it.world.until(() => link.closed !== undefined)).toBe(true);
  expect(it.connector.sessions).toEqual([]);
});

test('nothing is accepted before the hello: neither packets nor other messages', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  const { overlay4 } = (node.credentials as NodeCredentials).identity;
  const ends = { from: overlay4!.toString(), to: '10.100.0.2' };
  link.connection.sendDatagram(udpPacket(ends, 1, 53, 'early'));
  node.host.reactor.wake();
  it.world.run(Seconds(1));
  expect(it.connector.core.drops.get('not_admitted')).toBe(1);
  expect(it.connector.host.sockets.flows).toEqual([]);
  link.say({ type: 'close', reason: 'x' });
  node.host.reactor.wake();
  expect(it.world.until(() => link.closed !== undefined)).toBe(true);
});

test('who never says hello is closed', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  expect(it.world.until(() => link.closed !== undefined, Seconds(15))).toBe(true);
  expect(link.closed!.text).toContain('hello');
});

test('a second hello on a link closes it', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(it.world, node, link);
  link.say({ type: 'hello', version: 1, session: ID, link: 1, proof: node.credentials.proof, capabilities: [] });
  node.host.reactor.wake();
  expect(it.world.until(() => link.closed !== undefined, Seconds(1))).toBe(true);
  expect(link.closed).toMatchObject({ text: expect.stringContaining('protocol') });
  expect(link.of('welcome').length).toBe(1);
});

test('another session id of the same agent replaces its session; another agent’s same id does not', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const first = await linked(it, node);
  hello(it.world, node, first);
  const bob = await agentNode(it, 'bob');
  const others = await linked(it, bob);
  hello(it.world, bob, others);
  expect(it.connector.sessions.length).toBe(2);
  expect(others.of('welcome')[0]).toMatchObject({ resumed: false });
  expect(first.closed).toBeUndefined();

  const second = await linked(it, node);
  hello(it.world, node, second, { session: 'cd'.repeat(16) });
  expect(second.of('welcome')[0]).toMatchObject({ resumed: false });
  expect(it.world.until(() => first.closed !== undefined)).toBe(true);
  expect(it.connector.sessions.map((session) => session.id).sort()).toEqual([ID, 'cd'.repeat(16)].sort());
  expect(it.connector.eventsOf('session-closed')).toMatchObject([{ agent: 'alice' }]);
});

test('a session that is just being replaced is judged by a new policy like any other', async () => {
  for (const isRevoked of [false, true]) {
    const it = await scene();
    const node = await agentNode(it);
    const first = await linked(it, node);
    hello(it.world, node, first);
    const { overlay4, invitationId } = (node.credentials as NodeCredentials).identity;
    const ask = (port: number): void => {
      first.connection.sendDatagram(udpPacket({ from: overlay4!.toString(), to: '10.100.0.3' }, port, 53, 'x'));
      node.host.reactor.wake();
    };
    ask(4000);
    expect(it.world.until(() => it.connector.host.sockets.flows.length === 1)).toBe(true);
    const second = await linked(it, node);
    hello(it.world, node, second, { session: 'cd'.repeat(16) });
    // Its flows are still to be reset over the new link.
    expect(first.closed).toBeUndefined();
    const change = isRevoked ? { revocations: [invitationId] } : { grants: [{ from: ['group:staff'], to: ['web'] }] };
    const signed = it.world.operator.sign({ ...it.world.document, ...change, version: 7 });
    it.connector.core.offerPolicy(it.world.now, signed.envelope);
    it.connector.host.reactor.wake();
    ask(4000);
    ask(4001);
    it.world.run(Millis(100));
    expect(it.connector.host.sockets.flows.map(({ isClosed }) => isClosed)).toEqual([true]);
    expect(it.world.until(() => first.closed !== undefined, Seconds(1))).toBe(true);
    expect(it.connector.sessions.length).toBe(isRevoked ? 0 : 1);
  }
});

test('a service that the policy gives to another connector is not served, whatever this one was told to serve', async () => {
  const world = await World.create();
  const connector = await world.connector('c1', { services: { ...SERVICES, far: 'udp://10.0.0.8:53' } });
  expect(world.until(() => connector.core.registrar.statusOf('far') === 'denied')).toBe(true);
  const it = { world, connector };
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(world, node, link);
  const { overlay4 } = (node.credentials as NodeCredentials).identity;
  const send = (to: string): void => {
    link.connection.sendDatagram(udpPacket({ from: overlay4!.toString(), to }, 4000, 80, 'x'));
    node.host.reactor.wake();
    world.run(Millis(100));
  };
  const services = (far: string, box: string) =>
    world.document.services.map((service) =>
      service.id === 'far'
        ? { ...service, protocols: ['udp' as const], connectors: [far] }
        : service.id === 'box'
          ? { ...service, connectors: [box] }
          : service,
    );
  world.apply({ services: services('c2', 'c1') });
  send('10.100.0.6');
  expect(connector.host.sockets.flows).toEqual([]);
  send('10.100.0.3');
  expect(connector.host.sockets.flows.length).toBe(1);
  // One is taken away, the other given.
  world.apply({ services: services('c1', 'c2') });
  send('10.100.0.3');
  send('10.100.0.6');
  expect(connector.host.sockets.flows.map(({ isClosed }) => isClosed)).toEqual([true, false]);
  expect(link.of('denied').map((message) => message['service'])).toEqual(['10.100.0.6:80', '10.100.0.3:80']);
});

test('the same session id is resumed on a second link, and both are accepted', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const first = await linked(it, node);
  hello(it.world, node, first);
  const second = await linked(it, node);
  hello(it.world, node, second, { link: 1 });
  expect(second.of('welcome')[0]).toMatchObject({ resumed: true });
  expect(it.connector.sessions.length).toBe(1);
  expect(first.closed).toBeUndefined();
  const { overlay4 } = (node.credentials as NodeCredentials).identity;
  const ends = { from: overlay4!.toString(), to: '10.100.0.3' };
  first.say({ type: 'active', n: 0, link: 1, reason: 'best_rank' });
  it.world.run(Millis(50));
  first.connection.sendDatagram(echoRequest(ends, 1, 1));
  second.connection.sendDatagram(echoRequest(ends, 1, 2));
  node.host.reactor.wake();
  // Answers go out on the one the agent names.
  const packets = (link: RogueConnection) => link.datagrams.filter((bytes) => bytes[0]! >>> 4 === 4);
  expect(it.world.until(() => packets(second).length === 2, Seconds(1))).toBe(true);
  expect(packets(first)).toEqual([]);
  // The older goes: the newer stays in use. The newest goes: the session waits.
  first.connection.close(it.world.now, 0, '');
  node.host.reactor.wake();
  it.world.run(Millis(200));
  expect(it.connector.sessions[0]!.links.size).toBe(1);
});

test('what the agent may not reach is told to it once, and counted each time', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(it.world, node, link);
  const { overlay4 } = (node.credentials as NodeCredentials).identity;
  const send = (to: string, port: number, from = overlay4!.toString()): void => {
    link.connection.sendDatagram(udpPacket({ from, to }, 1, port, 'x'));
    node.host.reactor.wake();
    it.world.run(Millis(100));
  };
  for (let i = 0; i < 5; i++) send('10.100.0.5', 5432);
  send('10.100.0.2', 54);
  send('10.100.0.2', 53, '100.64.9.9');
  expect(link.of('denied').map((message) => [message['service'], message['reason']])).toEqual([
    ['10.100.0.5:5432', 'destination_not_allowed'],
    ['10.100.0.2:54', 'port_not_allowed'],
  ]);
  expect(it.connector.core.drops.snapshot()).toMatchObject({
    destination_not_allowed: 5,
    port_not_allowed: 1,
    source_not_allowed: 1,
  });
  for (let port = 1000; port < 1200; port++) send('10.100.0.2', port);
  expect(link.of('denied').length).toBe(64);
  expect(it.connector.host.sockets.flows).toEqual([]);
});

test('packets of reserved kinds are counted', async () => {
  const it = await scene();
  const node = await agentNode(it);
  const link = await linked(it, node);
  hello(it.world, node, link);
  for (let nibble = 0; nibble < 16; nibble++) {
    // 0, 1 and 2 are frames of links, 4 to 7 packets.
    if (nibble < 3 || (nibble >= 4 && nibble <= 7)) continue;
    link.connection.sendDatagram(Uint8Array.of(nibble << 4, 1, 2, 3));
  }
  node.host.reactor.wake();
  it.world.run(Seconds(1));
  expect(it.connector.core.drops.get('reserved_frame')).toBe(9);
  expect(link.closed).toBeUndefined();
});
