/** Random bytes and damaged packets: nothing throws, nothing hangs, and the stack still works afterwards. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt, Millis, Seconds } from '../../src/base/time.js';
import { Arena } from '../../src/wire/arena.js';
import { writeU16 } from '../../src/wire/bytes.js';
import { Collector, Network, type Peer, pattern, SERVER, socket } from './harness.js';

const ROUNDS = Number(process.env['FUZZ'] ?? 20_000);

/** The harness's usual pair, then one more transfer must go through. */
function stillWorks(net: Network): void {
  const server = new Collector();
  net.server.handlers.onSyn = (request) => {
    request.accept(server);
  };
  const c = net.client.stack.connect(net.now, socket(`${SERVER}:9999`), new Collector(), socket('10.0.0.1:9998'));
  c.write(pattern(1, 30_000), 0, 30_000);
  net.run(Seconds(20), () => server.total === 30_000);
  expect(Buffer.compare(server.bytes(), pattern(1, 30_000))).toBe(0);
}

test('random bytes', () => {
  const random = new SeededEntropy(11);
  const net = new Network();
  for (let i = 0; i < ROUNDS; i++) {
    const packet = new Uint8Array(random.uint32() % 120);
    random.fill(packet);
    // Half of them get past the version and length checks.
    if (packet.length > 40 && i % 2 === 0) {
      packet[0] = i % 4 === 0 ? 0x45 : 0x60;
      writeU16(packet, i % 4 === 0 ? 2 : 4, i % 4 === 0 ? packet.length : packet.length - 40);
      packet[i % 4 === 0 ? 9 : 6] = [6, 17, 1, 58, 44, 0, 43][random.uint32() % 7]!;
    }
    const arena = new Arena(packet.length + 4);
    arena.bytes.set(packet);
    net.server.stack.handlePacket(net.now, arena, 0, packet.length, random.uint32() % 3 === 0 ? 7 : 0, i % 3 !== 0);
    net.server.take(net.now);
    if (i % 50 === 0) {
      net.now = instantAt(net.now + Millis(20));
      net.server.stack.handleTimeout(net.now);
    }
  }
  stillWorks(net);
});

test('packets of a live connection with bytes changed, headers above all, checksums taken on trust', () => {
  const random = new SeededEntropy(12);
  for (let round = 0; round < ROUNDS / 500; round++) {
    const net = new Network({ seed: round }, { seed: round + 1000 }, Millis(1));
    const ends: Collector[] = [];
    net.server.handlers.onSyn = (request) => {
      const end = new Collector();
      ends.push(end);
      end.connection = request.accept(end);
    };
    const client = new Collector();
    const c = net.client.stack.connect(net.now, socket(`${SERVER}:80`), client);
    const trusting = (peer: Peer): void => {
      peer.receive = (now, packet) => {
        const arena = new Arena(packet.length);
        arena.bytes.set(packet);
        return peer.stack.handlePacket(now, arena, 0, packet.length, 0, true);
      };
    };
    trusting(net.client);
    trusting(net.server);
    net.impair = (packet) => {
      const copies = [{ packet, delay: Millis(1) }];
      if (random.uint32() % 3 === 0) {
        const damaged = packet.slice();
        const flips = 1 + (random.uint32() % 4);
        for (let k = 0; k < flips; k++) {
          const at = 20 + (random.uint32() % Math.min(packet.length - 20, 44));
          damaged[at] = random.uint32();
        }
        copies.push({ packet: damaged, delay: Millis(1) });
      }
      return copies;
    };
    for (let i = 0; i < 30; i++) {
      c.write(pattern(1, 8000), 0, 8000);
      for (const end of ends) end.connection?.write(pattern(2, 8000), 0, 8000);
      net.run(Millis(20));
    }
    c.shutdownWrite();
    net.run(Seconds(3));
    net.impair = (packet) => [{ packet, delay: Millis(1) }];
    stillWorks(net);
  }
});
