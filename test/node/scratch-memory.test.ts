/** What a thread at rest gives back to the kernel: memory whose content nobody misses, whatever is under way. */
import { expect, test } from 'vitest';
import { Micros } from '../../src/base/time.js';
import { type NodeEndpoints, scratchMemory } from '../../src/node/thread-setup.js';
import type { UdpSocket } from '../../src/os/io.js';
import { connected, scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { directScene } from './direct-scene.js';

const STEP = Micros(500);

test.each([
  ['the relay', scene],
  ['a direct link', directScene],
])('bytes arrive as they were when it is overwritten between any two turns, by way of %s', async (_, make) => {
  const it = await make();
  const { world, agent, connector } = it;
  const { app, stream } = connected(it);
  const [up, down] = [pattern(300_000), pattern(200_000).reverse()];
  app.say(up);
  stream.say(down);
  for (let i = 0; i < 20_000 && (stream.receivedBytes < up.length || app.receivedBytes < down.length); i++) {
    world.run(STEP);
    for (const { udp, endpoints } of [agent, connector]) {
      for (const bytes of scratchMemory(udp, endpoints)) bytes.fill(i);
    }
  }
  expect(Buffer.compare(stream.received, up)).toBe(0);
  expect(Buffer.compare(app.received, down)).toBe(0);
});

test('what a socket has said "later" of is left alone', () => {
  const bytes = (n: number): Uint8Array => new Uint8Array(n);
  const relay = { inbound: { bytes: bytes(1) }, tx: bytes(2) };
  const links = { inbound: { bytes: bytes(3) }, tx: bytes(4) };
  const sockets = [false, false].map((isBlocked, i) => ({ isBlocked, rx: { memory: bytes(5 + i) } }));
  const sizes = (): number[] =>
    scratchMemory(sockets as unknown as UdpSocket[], { relay, links } as unknown as NodeEndpoints)
      .map(({ length }) => length)
      .sort();
  expect(sizes()).toEqual([1, 2, 3, 4, 5, 6]);
  sockets[1]!.isBlocked = true;
  expect(sizes()).toEqual([1, 3, 5, 6]);
});
