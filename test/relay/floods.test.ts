/** Floods from strangers, counted: what they cost a relay is bounded, and nodes come and go on meanwhile. Idle nodes cost nearly nothing. */
import { expect, test } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { Millis, Minutes, Seconds } from '../../src/base/time.js';
import { Frame } from '../../src/tunnel/frames.js';
import { innerPacket } from '../support/rogue.js';
import { World } from '../support/world.js';
import { answering, channel, joined, register } from './fixtures.js';

/** An address of its own for each forged packet: 10.0.0.0/8 counts up. */
const forged = (i: number): SocketAddress => new SocketAddress(IpAddress.v4(0x0a000001 + i), 5000);

async function scene() {
  const world = await World.create();
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web');
  const agent = await joined(world, 'agent', 'alice');
  const { agentSide } = channel(world, agent, connector);
  const goesOn = (): void => {
    const before = connector.relayed.length;
    agent.relay1(agentSide, innerPacket(50, 1));
    expect(world.until(() => connector.relayed.length === before + 1, Millis(100))).toBe(true);
  };
  return { world, connector, agent, goesOn };
}

test('handshakes from forged addresses: 100 are begun, the others are asked to prove themselves, and nodes get in', async () => {
  const { world, agent, goesOn } = await scene();
  const stranger = await world.rogue(await world.operator.enrol('agent', 'mallory', ['staff']));
  const first: Uint8Array[] = [];
  world.network.filter = ({ from, bytes }) => {
    if (!from.equals(stranger.socket.external)) return true;
    first.push(bytes.slice());
    return false;
  };
  for (let i = 0; i < 400; i++) stranger.dial();
  expect(world.until(() => first.length >= 400, Millis(100))).toBe(true);
  world.network.filter = undefined;
  stranger.host.kill();
  const before = world.relay.endpoint.counters();
  first.slice(0, 400).forEach((bytes, i) => {
    agent.socket.sendRaw(world.relay.addresses[0]!, bytes, forged(i));
  });
  world.run(Millis(50));
  const after = world.relay.endpoint.counters();
  expect(after.accepted - before.accepted).toBe(100);
  expect(after.retried - before.retried).toBe(300);
  expect(after.handshakes).toBe(100);
  goesOn();
  // A node that answers its Retry is admitted while the flood is held.
  await joined(world, 'agent', 'bob');
  expect(world.relay.endpoint.counters().retried).toBe(after.retried + 1);
  // What never went on is forgotten.
  world.run(Seconds(11));
  expect(world.relay.endpoint.counters().handshakes).toBe(0);
  // Closed connections are kept for three probe time-outs more (RFC 9000 §10.2).
  world.run(Seconds(30));
  expect(world.relay.endpoint.counters().connections).toBe(3);
  goesOn();
});

test('PROBEs from thousands of addresses: 2,000 a second are answered, the others counted', async () => {
  const { world, agent, goesOn } = await scene();
  const probe = new Uint8Array(64);
  probe[0] = Frame.probe;
  for (let i = 0; i < 6000; i++) {
    agent.socket.sendRaw(world.relay.addresses[0]!, probe, forged(i));
    if (i % 300 === 299) world.run(Millis(50));
  }
  const { probes } = world.relay.core.probes.counters;
  // The burst, and what has flowed in within the second.
  expect(probes).toBeGreaterThan(2500);
  expect(probes).toBeLessThanOrEqual(4000);
  expect(world.relay.core.drops.get('rate_limited')).toBe(6000 - probes);
  goesOn();
});

test('an idle node costs its relay a keep-alive every 10 s, and its acknowledgement', async () => {
  const world = await World.create();
  const nodes = 20;
  for (let i = 0; i < nodes; i++) await joined(world, 'agent', `a${i}`);
  world.run(Seconds(10));
  const [socket] = world.relay.host.sockets.udpSockets;
  const { datagramsIn, datagramsOut } = socket!.counters;
  world.run(Minutes(10));
  expect(world.relay.core.registry.size).toBe(nodes);
  // 60 of each, and what the two changes of connection ids take.
  for (const count of [socket!.counters.datagramsIn - datagramsIn, socket!.counters.datagramsOut - datagramsOut]) {
    expect(count).toBeGreaterThanOrEqual(nodes * 55);
    expect(count).toBeLessThanOrEqual(nodes * 85);
  }
});
