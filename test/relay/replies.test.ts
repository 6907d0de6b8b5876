/** What nobody has vouched for is never answered by more than was sent: nobody's address can be flooded through a relay or a node. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { scene } from '../connector/fixtures.js';
import type { World } from '../support/world.js';

const VICTIM = SocketAddress.parse('203.0.113.99:9')!;
const SIZES = [1, 5, 9, 17, 21, 41, 64, 100, 600, 1199, 1200, 1400];
/** RFC 9000 §8.1: bytes that a server may send for each byte that an address which is not validated has sent. */
const QUIC_FACTOR = 3;

/** Sizes of what goes to the victim while `send` and what follows from it runs. */
function answers(world: World, send: () => void): number[] {
  const sizes: number[] = [];
  world.network.filter = ({ to, bytes }) => {
    if (!to.ip.equals(VICTIM.ip)) return true;
    sizes.push(bytes.length);
    return false;
  };
  send();
  for (const host of world.hosts) host.reactor.wake();
  world.run(Millis(20));
  world.network.filter = undefined;
  return sizes;
}

test('whatever comes from an address that has proved nothing, the answer is not larger', async () => {
  const { world, agent, connector } = await scene({
    agent: { direct: { path: 'auto' } },
    connector: { direct: { path: 'auto' } },
  });
  const entropy = new SeededEntropy(7);
  const socket = agent.udp[0]!;
  const places = [world.relay.addresses[0]!, connector.udp[0]!.external, agent.udp[0]!.external];
  let answered = 0;
  for (const to of places) {
    for (let first = 0; first < 256; first++) {
      for (const size of SIZES) {
        const bytes = new Uint8Array(size);
        entropy.fill(bytes);
        bytes[0] = first;
        const sizes = answers(world, () => socket.sendRaw(to, bytes, VICTIM));
        expect(sizes.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(size);
        answered += sizes.length;
      }
    }
  }
  // Probes are answered, and QUIC says which versions there are.
  expect(answered).toBeGreaterThan(0);
});

test('a real Initial sent again from another address gets no datagram larger than it, and what RFC 9000 allows in sum', async () => {
  const { world, agent } = await scene();
  const initials: Uint8Array[] = [];
  const relay = world.relay.addresses[0]!;
  world.network.filter = ({ to, bytes }) => {
    if (to.equals(relay) && bytes.length >= 1200 && (bytes[0]! & 0xf0) === 0xc0) initials.push(bytes.slice());
    return true;
  };
  await world.agent('bob');
  world.run(Seconds(1));
  world.network.filter = undefined;
  expect(initials.length).toBeGreaterThan(0);
  const initial = initials[0]!;
  // A connection id of its own, as the first is known by now.
  initial[6]! ^= 1;
  const sizes = answers(world, () => agent.udp[0]!.sendRaw(relay, initial, VICTIM));
  expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(initial.length);
  expect(sizes.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(QUIC_FACTOR * initial.length);
});
