/** The library in a real program: real time, node:net behind it, a client's stack before it. */
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt } from '../../src/base/time.js';
import { Engine, nodePlatform, SocketAddress } from '../../src/index.js';
import { Packetizer } from '../../src/netstack/packetizer.js';
import { Stack } from '../../src/netstack/stack.js';
import { createCrypto } from '../../src/os/crypto.js';
import { Arena } from '../../src/wire/arena.js';
import { nodeConnections } from './node-connections.js';

const BYTES = 2_000_000;

test('bytes both ways through real sockets, and a dial that is refused', async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const platform = nodePlatform();
  const now = () => instantAt(platform.now());
  let wake = (): void => {};
  const fromEngine: Uint8Array[] = [];
  const engine: Engine = new Engine({
    device: {
      packets: (packets) => {
        fromEngine.push(...packets.map((packet) => packet.slice()));
        wake();
      },
    },
    dialers: { direct: nodeConnections(() => engine, port), closed: nodeConnections(() => engine, 1) },
    platform,
    preset: 'mobile',
    hooks: {
      onFlow: ({ destination }) => (destination.port === 81 ? { action: 'allow', dialer: 'closed' } : undefined),
    },
  });
  const out = new Packetizer(new Arena(1 << 18), 256, (batch) => {
    const packets = Array.from({ length: batch.count }, (_, i) => {
      const at = batch.table[2 * i]!;
      return batch.arena.bytes.subarray(at, at + batch.table[2 * i + 1]!);
    });
    engine.packets(packets);
  });
  const client = new Stack({
    mtu: 1500,
    sink: out,
    handlers: {},
    entropy: new SeededEntropy(1),
    crypto: createCrypto(),
    localV4: IpAddress.parse('10.83.0.1')!,
  });
  const step = (): void => {
    for (const packet of fromEngine.splice(0)) {
      const arena = new Arena(packet.length + 4);
      arena.bytes.set(packet);
      client.handlePacket(now(), arena, 0, packet.length);
    }
    if ((client.pollTimeout() ?? Number.POSITIVE_INFINITY) <= now()) client.handleTimeout(now());
    client.flush(now());
    out.flush();
  };
  wake = () => void setImmediate(step);
  const ticking = setInterval(step, 5);
  engine.start();
  try {
    const data = new Uint8Array(BYTES).map((_, i) => i * 31);
    let sent = 0;
    const parts: Uint8Array[] = [];
    const over = new Promise<void>((resolve) => {
      const feed = (): void => {
        for (let n = -1; n !== 0 && sent < BYTES; sent += n) n = connection.write(data, sent, BYTES - sent);
        if (sent === BYTES) connection.shutdownWrite();
      };
      const connection = client.connect(now(), SocketAddress.parse('93.184.216.34:80')!, {
        onConnected: feed,
        onWritable: feed,
        onData: (bytes, offset, length) => {
          parts.push(bytes.slice(offset, offset + length));
          return length;
        },
        onPeerClosed: resolve,
        onClosed: () => resolve(),
      });
    });
    const refused = new Promise<string>((resolve) => {
      client.connect(now(), SocketAddress.parse('93.184.216.34:81')!, { onData: () => 0, onClosed: resolve });
    });
    step();
    await over;
    expect(Buffer.concat(parts).equals(data)).toBe(true);
    expect(await refused).toBe('refused');
    expect(engine.snapshot().values['hook_errors']).toBe(0);
  } finally {
    clearInterval(ticking);
    engine.stop();
    server.close();
  }
});
