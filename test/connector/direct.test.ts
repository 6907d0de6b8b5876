/** What a connector takes from addresses other than its relay's: what a PUNCH of this session has opened, and no more. */
import { expect, test } from 'vitest';
import type { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { isAnswer, isPunch, PUNCH_LENGTH, putPunchRequest } from '../../src/tunnel/punch/punch-frame.js';
import { joined } from '../relay/fixtures.js';
import { udpPacket } from '../support/packets.js';
import type { RogueNode } from '../support/rogue.js';
import { RogueConnection } from '../support/rogue-connection.js';
import { at, type SimConnector } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { ready, SERVICES } from './fixtures.js';

const SESSION = 'ab'.repeat(16);
const STRANGER = at('203.0.113.77:7777');

interface Scene {
  readonly world: World;
  readonly connector: SimConnector;
  readonly node: RogueNode;
  readonly link: RogueConnection;
  /** The connector's address, and the token to be used towards it. */
  readonly to: SocketAddress;
  readonly token: Uint8Array;
  /** Datagrams that the connector has sent to anybody but the relay. */
  readonly sprayed: { readonly to: string; readonly bytes: Uint8Array }[];
}

/** An agent with a live link through the relay, which has told the connector where it is and been told the same. */
async function told(name = 'alice', world?: World, connector?: SimConnector): Promise<Scene> {
  const inside = world ?? (await World.create());
  const office = connector ?? (await inside.connector('c1', { services: SERVICES, direct: { path: 'auto' } }));
  expect(inside.until(() => ready(office))).toBe(true);
  const node = await joined(inside, 'agent', name);
  node.say({ type: 'open', id: 1, service: 'web' });
  expect(inside.until(() => node.relay.of('opened').length === 1)).toBe(true);
  const link = node.link(node.openChannel(node.relay.of('opened')[0]!['channel'] as string), 'c1.connector.acme');
  expect(inside.until(() => link.connected)).toBe(true);
  hello(node, link, 0);
  expect(inside.until(() => link.of('punch').length === 1, Seconds(2))).toBe(true);
  const to = office.udp[0]!.external;
  const { ip, port } = node.socket.external;
  const candidates = [{ kind: 'host', address: String(ip), port, priority: 1 }];
  link.say({ type: 'punch', n: 0, token: '0f'.repeat(16), candidates });
  node.host.reactor.wake();
  // Size discovery has its say first, and what the connector learns of its NAT, with which it tells another token.
  inside.run(Seconds(5));
  const punch = link.of('punch').at(-1) as unknown as {
    token: string;
    candidates: { address: string; port: number }[];
  };
  expect(punch.candidates).toContainEqual(expect.objectContaining({ address: String(to.ip), port: to.port }));
  const sprayed: Scene['sprayed'] = [];
  inside.network.filter = ({ from, to: target, bytes }) => {
    const isSprayed = from.equals(to) && !target.equals(inside.relay.addresses[0]!);
    if (isSprayed) sprayed.push({ to: String(target), bytes });
    return true;
  };
  return { world: inside, connector: office, node, link, to, token: Buffer.from(punch.token, 'hex'), sprayed };
}

function hello(node: RogueNode, link: RogueConnection, number: number, session = SESSION): void {
  const { proof } = node.credentials;
  link.say({ type: 'hello', version: 1, session, link: number, proof, capabilities: [] });
  node.host.reactor.wake();
}

function punch({ world, node, to }: Scene, token: Uint8Array, from?: SocketAddress, seq = 1): void {
  const frame = new Uint8Array(PUNCH_LENGTH);
  putPunchRequest(frame, token, seq, 1);
  node.socket.sendRaw(to, frame, from);
  world.run(Millis(50));
}

/** Begins a direct link; says hello when its handshake is complete. */
function dial({ world, node, to }: Scene, session = SESSION): RogueConnection {
  const link = new RogueConnection();
  node.underlay.direct.hold(world.now, to);
  link.connection = node.endpoints.links.connect(world.now, to, 'c1.connector.acme', link);
  node.host.reactor.wake();
  world.until(() => link.connected || link.closed !== undefined, Seconds(1));
  if (link.connected) hello(node, link, 1, session);
  world.until(() => link.of('welcome').length > 0 || link.closed !== undefined, Seconds(1));
  return link;
}

const refusals = ({ connector }: Scene) => connector.eventsOf('link-refused').map(({ code }) => code);

test('a direct link from a proved address belongs to its session, beside the first', async () => {
  const it = await told();
  punch(it, it.token);
  const link = dial(it);
  expect(link.of('welcome')).toMatchObject([{ session: SESSION, resumed: true }]);
  const [session] = it.connector.sessions;
  expect([...session!.links].map(({ isDirect }) => isDirect)).toEqual([false, true]);
  // Packets are taken from any link; they go out on the one the agent names.
  expect(session!.link!.isDirect).toBe(false);
  link.say({ type: 'active', n: 1, link: 1, reason: 'test' });
  link.say({ type: 'active', n: 1, link: 0, reason: 'not newer' });
  link.say({ type: 'active', n: 2, link: 9, reason: 'no such link' });
  it.node.host.reactor.wake();
  it.world.run(Millis(50));
  expect(session!.links.size).toBe(2);
  link.say({ type: 'active', n: 3, link: 1, reason: 'test' });
  it.node.host.reactor.wake();
  it.world.run(Millis(50));
  expect(session!.link!.isDirect).toBe(true);
});

test('QUIC from an address that has proved nothing never reaches the endpoint, and gets no answer', async () => {
  const it = await told();
  const before = it.connector.endpoints.links.counters().packets;
  const link = dial(it);
  expect(link.connected).toBe(false);
  expect(it.connector.endpoints.links.counters().packets).toBe(before);
  expect(it.connector.core.drops.get('unknown_source')).toBeGreaterThan(0);
  expect(it.sprayed).toEqual([]);
});

test('an address is open for 10 s after its PUNCH', async () => {
  const it = await told();
  punch(it, it.token);
  it.world.run(Seconds(10));
  expect(dial(it).connected).toBe(false);
  punch(it, it.token);
  expect(dial(it).of('welcome').length).toBe(1);
});

test('three new connections in 10 s from one address, no fourth', async () => {
  const it = await told();
  punch(it, it.token);
  for (let i = 0; i < 3; i++) expect(dial(it).connected).toBe(true);
  expect(dial(it).connected).toBe(false);
  expect(it.connector.core.drops.get('rate_limited')).toBeGreaterThan(0);
  it.world.run(Seconds(10));
  punch(it, it.token);
  expect(dial(it).connected).toBe(true);
});

test('a link that shows another session is refused, and the session goes on', async () => {
  const it = await told();
  punch(it, it.token);
  const link = dial(it, 'cd'.repeat(16));
  expect(link.closed?.text).toMatch(/^NO_SUCH_SESSION/);
  expect(refusals(it)).toEqual(['NO_SUCH_SESSION']);
  expect(it.connector.sessions.map(({ id, links }) => [id, links.size])).toEqual([[SESSION, 1]]);
});

test('another agent that has got hold of the token opens its own address, and no session', async () => {
  const it = await told();
  const mallory = await told('mallory', it.world, it.connector);
  punch(mallory, it.token);
  const link = dial(mallory);
  expect(link.closed?.text).toMatch(/^NOT_PROVED/);
  expect(it.connector.sessions.every(({ links }) => links.size === 1)).toBe(true);
});

test('forged PUNCHes are counted and not answered', async () => {
  const it = await told();
  for (let i = 0; i < 100; i++) punch(it, new Uint8Array(16).fill(i));
  const nearly = Uint8Array.from(it.token);
  nearly[15]! ^= 1;
  punch(it, nearly);
  it.node.socket.sendRaw(it.to, new Uint8Array(48).fill(0x11));
  it.world.run(Millis(50));
  expect(it.sprayed).toEqual([]);
  expect(it.connector.core.punching.counters.snapshot()).toMatchObject({ forged: 101, malformed: 1 });
  expect(dial(it).connected).toBe(false);
});

test('a PUNCH copied from another address is answered there by as many bytes, and moves nothing', async () => {
  const it = await told();
  punch(it, it.token);
  const link = dial(it);
  link.say({ type: 'active', n: 1, link: 1, reason: 'test' });
  it.node.host.reactor.wake();
  it.world.run(Millis(100));
  it.sprayed.length = 0;
  for (let i = 0; i < 200; i++) {
    const frame = new Uint8Array(PUNCH_LENGTH);
    putPunchRequest(frame, it.token, 1, 1);
    it.node.socket.sendRaw(it.to, frame, STRANGER);
  }
  it.world.run(Seconds(1));
  const there = it.sprayed.filter(({ to }) => to === String(STRANGER));
  expect(there.every(({ bytes }) => isPunch(bytes, 0, bytes.length))).toBe(true);
  const answers = there.filter(({ bytes }) => isAnswer(bytes, 0)).length;
  expect(answers).toBeLessThanOrEqual(50);
  expect(there.length - answers).toBe(1);
  const [session] = it.connector.sessions;
  expect(session!.link!.connection.remote.equals(it.node.socket.external)).toBe(true);
});

test('packets of a direct link copied from another address are dropped', async () => {
  const it = await told();
  punch(it, it.token);
  const link = dial(it);
  it.world.run(Seconds(5));
  const copies: Uint8Array[] = [];
  it.world.network.filter = ({ from, to, bytes }) => {
    if (from.equals(it.node.socket.external) && to.equals(it.to)) copies.push(bytes.slice());
    return true;
  };
  for (let i = 0; i < 10; i++) {
    link.connection.sendDatagram(udpPacket({ from: '100.64.0.1', to: '10.100.0.2' }, 4000, 53, 'x'));
  }
  it.node.host.reactor.wake();
  it.world.run(Millis(200));
  it.world.network.filter = undefined;
  expect(copies.length).toBeGreaterThan(0);
  const taken = it.connector.endpoints.links.counters().packets;
  const before = it.connector.core.drops.get('unknown_source');
  for (const bytes of copies) it.node.socket.sendRaw(it.to, bytes, STRANGER);
  it.world.run(Millis(50));
  expect(it.connector.core.drops.get('unknown_source') - before).toBe(copies.length);
  expect(it.connector.endpoints.links.counters().packets).toBe(taken);
  expect(link.closed).toBeUndefined();
});

test('a connector told --path relay takes no direct link, and tells nobody where it is', async () => {
  const world = await World.create();
  const connector = await world.connector('c1', { services: SERVICES });
  expect(world.until(() => ready(connector))).toBe(true);
  const node = await joined(world, 'agent', 'alice');
  node.say({ type: 'open', id: 1, service: 'web' });
  expect(world.until(() => node.relay.of('opened').length === 1)).toBe(true);
  const link = node.link(node.openChannel(node.relay.of('opened')[0]!['channel'] as string), 'c1.connector.acme');
  expect(world.until(() => link.connected)).toBe(true);
  hello(node, link, 0);
  expect(world.until(() => link.of('welcome').length === 1)).toBe(true);
  world.run(Seconds(5));
  expect(link.of('punch')).toEqual([]);
});
