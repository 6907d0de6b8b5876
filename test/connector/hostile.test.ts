/** An enrolled but hostile agent, on its own link and its own relay connection: the others do not notice. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, Millis, Seconds } from '../../src/base/time.js';
import { Frame } from '../../src/tunnel/frames.js';
import { joined } from '../relay/fixtures.js';
import { udpPacket } from '../support/packets.js';
import { innerPacket, type RogueNode } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import { connected, hostileLink, type Scene, scene } from './fixtures.js';

/** How long an echo of the good agent may take: two ways of 20 ms each, and a turn or two. */
const ECHO_LIMIT = Millis(150);

async function withMallory(): Promise<{
  it: Scene;
  mallory: RogueNode;
  link: RogueConnection;
  othersGoOn: () => void;
}> {
  const it = await scene();
  const { world, connector } = it;
  const { app, stream } = connected(it);
  const { node: mallory, link } = await hostileLink(world);
  let said = 0;
  const othersGoOn = (): void => {
    const since = world.now;
    app.say('x');
    said++;
    expect(world.until(() => stream.text().length === said, Seconds(2))).toBe(true);
    expect(elapsed(since, world.now)).toBeLessThan(ECHO_LIMIT);
    expect(it.agent.core.relay.state).toBe('ready');
    expect(connector.core.relay.state).toBe('ready');
    expect(connector.sessions.some((session) => session.identity.name === 'alice')).toBe(true);
  };
  othersGoOn();
  return { it, mallory, link, othersGoOn };
}

test('malformed packets, fragments and kinds that do not exist, in thousands', async () => {
  const { it, mallory, link, othersGoOn } = await withMallory();
  const entropy = new SeededEntropy(5);
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 100; i++) {
      const bytes = new Uint8Array(1 + (entropy.uint32() % 1100));
      for (let at = 0; at < bytes.length; at++) bytes[at] = entropy.uint32();
      // Every kind of first nibble: IPv4 and IPv6 that are none, fragments, reserved kinds.
      bytes[0] = ((i % 16) << 4) | (bytes[0]! & 15);
      link.connection.sendDatagram(bytes);
    }
    // Somebody else's address, as far as the packet says.
    link.connection.sendDatagram(udpPacket({ from: '100.64.0.1', to: '10.100.0.2' }, 4000, 53, 'forged'));
    mallory.host.reactor.wake();
    it.world.run(Millis(20));
    othersGoOn();
  }
  const { drops } = it.connector.core;
  const counted = Object.values(drops.snapshot()).reduce((sum, count) => sum + (count ?? 0), 0);
  expect(counted).toBeGreaterThan(1500);
  expect(drops.get('source_not_allowed')).toBeGreaterThanOrEqual(20);
  expect(it.connector.host.sockets.udpBackend('10.0.0.5:5353').flows).toEqual([]);
});

test('more messages than allowed on its link end that link, and no other', async () => {
  const { it, mallory, link, othersGoOn } = await withMallory();
  for (let i = 0; i < 200; i++) link.say({ type: 'error', code: 'noise', message: '' });
  mallory.host.reactor.wake();
  expect(it.world.until(() => link.closed !== undefined, Seconds(1))).toBe(true);
  othersGoOn();
});

test('REVALIDATEs, PROBEs and RELAYED frames of nobody, at the relay and at the nodes', async () => {
  const { it, mallory, othersGoOn } = await withMallory();
  const { world, agent, connector } = it;
  const revalidate = new Uint8Array(9).fill(7);
  revalidate[0] = Frame.revalidate;
  const probe = new Uint8Array(64);
  probe[0] = Frame.probe;
  const asked = agent.core.drops.get('unknown_source');
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 100; i++) {
      mallory.socket.sendRaw(mallory.relayAddress, revalidate);
      mallory.socket.sendRaw(mallory.relayAddress, probe);
      mallory.relay1(`00000000${i.toString(16).padStart(8, '0')}`, innerPacket(100, 1));
      for (const node of [agent, connector]) mallory.socket.sendRaw(node.udp[0]!.external, revalidate);
    }
    world.run(Millis(20));
    othersGoOn();
  }
  expect(world.relay.core.drops.get('unknown_frame')).toBe(2000);
  expect(world.relay.core.drops.get('unknown_channel')).toBe(2000);
  expect(agent.core.drops.get('unknown_source') - asked).toBe(2000);
  expect(world.relay.core.probes.counters.probes).toBeLessThan(100);
  expect(agent.core.relay.lies).toBe(0);
});

test('opens and closes as fast as it may, and faster: it is closed, the connector serves the others', async () => {
  const { it, mallory, othersGoOn } = await withMallory();
  const { world } = it;
  for (let second = 0; second < 5; second++) {
    for (let i = 0; i < 40; i++) mallory.say({ type: 'open', id: 100 * second + i + 10, service: 'web' });
    world.run(Seconds(1));
    othersGoOn();
  }
  expect(mallory.relay.closed).toBeUndefined();
  for (let i = 0; i < 500; i++) mallory.say({ type: 'open', id: 5000 + i, service: 'web' });
  expect(world.until(() => mallory.relay.closed !== undefined, Seconds(1))).toBe(true);
  othersGoOn();
  world.run(Seconds(2));
  expect([...world.relay.core.registry.nodes].map((node) => node.identity.name).sort()).toEqual(['alice', 'c1']);
  const bob = await joined(world, 'agent', 'bob');
  const c1 = world.relay.core.registry.connector('c1')!;
  bob.say({ type: 'open', id: 1, service: 'web' });
  expect(world.until(() => bob.relay.of('opened').length === 1, Seconds(2))).toBe(true);
  expect(c1.channels.size).toBe(2);
});
