/** Forwarding: what comes out, in which batches, and what moves a node's forwarding address. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { decodeObserved, Frame } from '../../src/tunnel/frames.js';
import { innerPacket, type RogueNode } from '../support/rogue.js';
import { at } from '../support/sim-nodes.js';
import { World, type WorldOptions } from '../support/world.js';
import { answering, channel, joined, register } from './fixtures.js';

interface Pair {
  readonly world: World;
  readonly agent: RogueNode;
  readonly connector: RogueNode;
  readonly agentSide: string;
  readonly connectorSide: string;
}

async function pair(options: WorldOptions & { readonly agentV6?: string } = {}): Promise<Pair> {
  const world = await World.create(options);
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice', options.agentV6 === undefined ? {} : { v6: options.agentV6 });
  return { world, agent, connector, ...channel(world, agent, connector) };
}

const drops = (world: World) => world.relay.core.drops;
const marks = (node: RogueNode): number[] => node.relayed.map(({ inner }) => inner[1]!);
const observed = (node: RogueNode): (string | undefined)[] =>
  node.relay.datagrams.map((bytes) => decodeObserved(bytes, 0, bytes.length)?.toString());

test('a packet leaves with the other side’s channel id and otherwise as it came, and is counted', async () => {
  const { world, agent, connector, agentSide, connectorSide } = await pair();
  agent.relay1(agentSide, innerPacket(1200, 1));
  agent.relay1(agentSide, innerPacket(1200, 2));
  connector.relay1(connectorSide, innerPacket(21, 3));
  world.run(Seconds(1));
  expect(connector.relayed).toEqual([1, 2].map((mark) => ({ channel: connectorSide, inner: innerPacket(1200, mark) })));
  expect(agent.relayed).toEqual([{ channel: agentSide, inner: innerPacket(21, 3) }]);
  const side = [...world.relay.core.registry.agent('alice')!.channels][0]!;
  expect([side.packets, side.bytes, side.peer.packets, side.peer.bytes]).toEqual([2, 2400, 1, 21]);
  expect(world.relay.core.forwarder.counters).toMatchObject({ forwardedPackets: 3, revalidates: 0 });
});

test('one received run may hold several channels, QUIC and rubbish: each is judged by itself', async () => {
  const { world, agent, connector, agentSide } = await pair();
  const second = channel(world, agent, connector);
  const third = channel(world, agent, connector);
  const frame = (id: string, mark: number): Uint8Array => {
    const bytes = new Uint8Array(109).fill(mark);
    bytes[0] = Frame.relayed;
    bytes.set(Buffer.from(id, 'hex'), 1);
    bytes[9] = 0x40;
    return bytes;
  };
  const rubbish = new Uint8Array(109).fill(0x80);
  const quic = new Uint8Array(109).fill(0x45);
  const before = world.relay.endpoint.counters().packets;
  // Equal sizes from one source in one instant arrive as one entry.
  for (const bytes of [
    frame(agentSide, 1),
    frame(agentSide, 2),
    // Half of an id is no id.
    frame(`${agentSide.slice(0, 8)}00000000`, 7),
    frame(agentSide, 8),
    frame(second.agentSide, 3),
    quic,
    quic,
    rubbish,
    frame(third.agentSide, 4),
    frame('0123456789abcdef', 5),
    frame(agentSide, 6),
  ]) {
    agent.socket.sendRaw(agent.relayAddress, bytes);
  }
  world.run(Millis(100));
  expect(marks(connector)).toEqual([1, 2, 8, 3, 4, 6]);
  expect(drops(world).get('unknown_frame')).toBe(1);
  expect(drops(world).get('unknown_channel')).toBe(2);
  expect(world.relay.endpoint.counters().packets - before).toBeGreaterThanOrEqual(2);
});

test('a run ends at a change of size', async () => {
  const { world, agent, connector, agentSide } = await pair();
  for (const [mark, length] of [500, 500, 400, 500, 30, 21].entries())
    agent.relay1(agentSide, innerPacket(length, mark));
  world.run(Millis(100));
  expect(connector.relayed.map(({ inner }) => [inner[1], inner.length])).toEqual([
    [0, 500],
    [1, 500],
    [2, 400],
    [3, 500],
    [4, 30],
    [5, 21],
  ]);
});

test('frames that are cut short, hold no QUIC, or are of no known kind are counted and go nowhere', async () => {
  const { world, agent, connector, agentSide } = await pair();
  const send = (bytes: Uint8Array): void => {
    agent.socket.sendRaw(agent.relayAddress, bytes);
    world.run(Millis(20));
  };
  agent.relay1(agentSide, innerPacket(20));
  agent.relay1(agentSide, new Uint8Array(100).fill(0x10));
  agent.relay1(agentSide, new Uint8Array(100));
  world.run(Millis(20));
  send(Uint8Array.of(Frame.relayed));
  send(Uint8Array.of(Frame.relayed, 1, 2, 3));
  expect(drops(world).get('malformed')).toBe(5);
  send(new Uint8Array(47).fill(0x11));
  send(Uint8Array.of(Frame.probe, 0));
  send(Uint8Array.of(0x3f));
  send(Uint8Array.of(0xbf));
  expect(drops(world).get('unknown_frame')).toBe(4);
  expect(connector.relayed).toEqual([]);
  expect(world.relay.core.counts.admitted).toBe(2);
});

test('a source the relay does not know gets REVALIDATE, and 50 packets a second pass meanwhile', async () => {
  const { world, agent, connector, agentSide, connectorSide } = await pair();
  const moved = at('203.0.113.9:1234');
  for (let i = 0; i < 400; i++) {
    agent.relay1(agentSide, innerPacket(60), moved);
    world.run(Millis(5));
  }
  world.run(Millis(50));
  // The burst of 50, and 50 a second for two seconds.
  expect(connector.relayed.length).toBeGreaterThanOrEqual(145);
  expect(connector.relayed.length).toBeLessThanOrEqual(155);
  expect(drops(world).get('unknown_source')).toBe(400 - connector.relayed.length);
  // ≤ 1 per 100 ms.
  expect(world.relay.core.forwarder.counters.revalidates).toBeLessThanOrEqual(21);
  expect(world.relay.core.forwarder.counters.revalidates).toBeGreaterThanOrEqual(19);
  // Downlink still goes where the relay connection is.
  connector.relay1(connectorSide, innerPacket(60, 7));
  world.run(Millis(50));
  expect(marks(agent)).toEqual([7]);
  // And the known source has its own measure: nothing of it was spent.
  const before = connector.relayed.length;
  for (let i = 0; i < 100; i++) agent.relay1(agentSide, innerPacket(60));
  world.run(Millis(50));
  expect(connector.relayed.length - before).toBe(100);
});

test('the forwarding address moves when, and only when, the nonce comes back on the relay connection', async () => {
  const { world, agent, connector, agentSide, connectorSide } = await pair();
  const before = agent.socket.external;
  const after = new SocketAddress(before.ip, 50_123);
  agent.socket.rebind(after);
  agent.relay1(agentSide, innerPacket(60));
  expect(world.until(() => agent.nonces.length === 1)).toBe(true);
  const node = world.relay.core.registry.agent('alice')!;
  // The relay connection itself may migrate (QUIC): that alone moves nothing.
  agent.relay.connection.ping();
  world.run(Seconds(1));
  expect(node.forwardingAddress.toString()).toBe(before.toString());
  const { high, low } = agent.nonces[0]!;
  agent.echo({ high, low: (low ^ 1) >>> 0 });
  agent.echo({ high: 0, low: 0 });
  world.run(Millis(200));
  expect(node.forwardingAddress.toString()).toBe(before.toString());

  agent.echo({ high, low });
  expect(world.until(() => node.forwardingAddress.equals(after), Millis(200))).toBe(true);
  expect(world.relay.core.forwarder.counters.revalidated).toBe(1);
  connector.relay1(connectorSide, innerPacket(60, 8));
  world.run(Millis(50));
  expect(marks(agent)).toEqual([8]);
  // The node is told where it is seen now, and its new source is a known one.
  expect(observed(agent).at(-1)).toBe(after.toString());
  for (let i = 0; i < 100; i++) agent.relay1(agentSide, innerPacket(60));
  world.run(Millis(50));
  expect(connector.relayed.length).toBe(101);
  // A nonce counts once.
  agent.socket.rebind(before);
  agent.echo({ high, low });
  world.run(Millis(200));
  expect(node.forwardingAddress.toString()).toBe(after.toString());
});

test('a nonce echoed by another node, or by the channel’s other side, does nothing', async () => {
  const { world, agent, connector, agentSide } = await pair();
  const stranger = await joined(world, 'agent', 'bob');
  const nonces: { high: number; low: number }[] = [];
  world.network.filter = ({ to, bytes }) => {
    if (bytes[0] === Frame.revalidate && to.port === 999) {
      const view = new DataView(bytes.buffer);
      nonces.push({ high: view.getUint32(1), low: view.getUint32(5) });
    }
    return true;
  };
  // An attacker on the way who has seen the channel id sends from its own address and reads the nonce.
  stranger.relay1(agentSide, innerPacket(60), at('203.0.113.66:999'));
  expect(world.until(() => nonces.length === 1)).toBe(true);
  stranger.echo(nonces[0]!);
  connector.echo(nonces[0]!);
  world.run(Millis(200));
  const node = world.relay.core.registry.agent('alice')!;
  expect(node.forwardingAddress.toString()).toBe(agent.socket.external.toString());
  expect(world.relay.core.forwarder.counters.revalidated).toBe(0);
});

test('RELAYED on a channel the relay does not know is answered by REVALIDATE, at a bounded rate', async () => {
  const { world, agent } = await pair();
  for (let i = 0; i < 200; i++) {
    agent.relay1('ffffffff00000001', innerPacket(60));
    world.run(Millis(5));
  }
  world.run(Millis(50));
  expect(agent.nonces.length).toBeGreaterThanOrEqual(9);
  expect(agent.nonces.length).toBeLessThanOrEqual(11);
  expect(drops(world).get('unknown_channel')).toBe(200);
  agent.echo(agent.nonces[0]!);
  world.run(Millis(100));
  expect(world.relay.core.forwarder.counters.revalidated).toBe(0);
});

test('nodes are told where they are seen, after the handshake and after a move, in either family', async () => {
  const { world, agent, connector, agentSide, connectorSide } = await pair({
    dualStack: true,
    agentV6: '2001:db8:7::5',
  });
  expect(observed(agent)).toEqual([agent.socket.external.toString()]);
  expect(agent.relay.datagrams[0]!.length).toBe(19);
  expect(observed(connector)).toEqual([connector.socket.external.toString()]);
  expect(connector.relay.datagrams[0]!.length).toBe(7);
  // One side on IPv6, the other on IPv4.
  agent.relay1(agentSide, innerPacket(60, 1));
  connector.relay1(connectorSide, innerPacket(60, 2));
  world.run(Millis(100));
  expect([marks(connector), marks(agent)]).toEqual([[1], [2]]);

  agent.revalidates = true;
  const after = at('[2001:db8:7::6]:6000');
  agent.socket.rebind(after);
  agent.relay1(agentSide, innerPacket(60, 3));
  expect(world.until(() => observed(agent).length === 2)).toBe(true);
  expect(observed(agent)[1]).toBe(after.toString());
});

test('PROBE is answered with where it came from, never longer than it was, at a bounded rate', async () => {
  const { world, agent } = await pair();
  const answers: Uint8Array[] = [];
  agent.socket.arrivals.push((_from, bytes) => {
    if (bytes[0] === Frame.probeReply) answers.push(bytes);
  });
  const probe = new Uint8Array(64);
  probe.set([Frame.probe, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
  for (let i = 0; i < 100; i++) {
    agent.socket.sendRaw(agent.relayAddress, probe);
    world.run(Millis(2));
  }
  world.run(Millis(50));
  expect(answers.length).toBeGreaterThanOrEqual(1);
  expect(answers.length).toBeLessThanOrEqual(20);
  expect(answers[0]!.length).toBeLessThanOrEqual(64);
  expect([...answers[0]!.subarray(0, 9)]).toEqual([Frame.probeReply, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(drops(world).get('rate_limited')).toBe(100 - answers.length);
});

test('a node that has nothing to relay is asked too when its relay connection moves, again until it answers', async () => {
  const { world, agent, connector, agentSide } = await pair();
  const before = connector.socket.external;
  const after = new SocketAddress(before.ip, 50_777);
  const node = world.relay.core.registry.connector('c1')!;
  // The NAT in front of the connector forgets it; only a keep-alive tells the relay.
  connector.socket.rebind(after);
  connector.relay.connection.ping();
  connector.host.reactor.wake();
  expect(world.until(() => connector.nonces.length === 1, Seconds(1))).toBe(true);
  world.run(Seconds(1));
  expect(node.forwardingAddress.toString()).toBe(before.toString());
  agent.relay1(agentSide, innerPacket(60, 1));
  world.run(Millis(100));
  expect(connector.relayed).toEqual([]);

  connector.revalidates = true;
  expect(world.until(() => node.forwardingAddress.equals(after), Seconds(6))).toBe(true);
  agent.relay1(agentSide, innerPacket(60, 2));
  world.run(Millis(100));
  expect(marks(connector)).toEqual([2]);
  expect(observed(connector).at(-1)).toBe(after.toString());
  const asked = world.relay.core.forwarder.counters.revalidates;
  world.run(Seconds(30));
  expect(world.relay.core.forwarder.counters.revalidates).toBe(asked);
});
