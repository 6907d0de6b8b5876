/** The proxy with the real reactor and real sockets on loopback; its clients are Node's. */
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { resolveTarget } from '../../../src/agent/proxy/resolve.js';
import { SocketAddress } from '../../../src/base/address.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import type { EpollReactor } from '../../../src/os/linux/reactor.js';
import { Network } from './network.js';
import { subject, view } from './policy.js';

const ANY = SocketAddress.parse('127.0.0.1:0')!;

describe.runIf(process.platform === 'linux')('the proxy on loopback', () => {
  let reactor: EpollReactor;
  let network: Network;
  let server: ProxyServer;
  let running: Promise<void>;
  const errors: unknown[] = [];

  beforeEach(() => {
    reactor = createReactor({ onError: (error) => errors.push(error) });
    network = new Network();
    server = new ProxyServer(
      {
        reactor,
        sockets: createLinuxSockets(),
        udp: network.udp,
        connect: (now, to, handlers) => network.agent.connect(now, to, handlers),
        resolve: (host, port) => resolveTarget(host, port, view, subject()),
        onActivity: () => {},
      },
      { socks: ANY, http: ANY, forwards: [{ protocol: 'tcp', listen: ANY, target: { host: 'db', port: undefined } }] },
    );
    reactor.onTurn((now) => {
      network.turn(now);
      return network.nextTimeout();
    });
    running = reactor.run();
  });

  afterEach(async () => {
    server.close();
    reactor.stop();
    await running;
    expect(errors.splice(0)).toEqual([]);
  });

  const dial = (index: number, options: { allowHalfOpen?: boolean } = {}): Socket =>
    connect({ port: server.listeners[index]!.local.port, host: '127.0.0.1', ...options });

  it('carries a megabyte each way through SOCKS, ends included', async () => {
    network.echo = true;
    const socket = dial(0);
    socket.write(Buffer.from([5, 1, 0, 5, 1, 0, 3, 2, 100, 98, 0x15, 0x38]));
    const sent = Buffer.from(Uint32Array.from({ length: 262_144 }, (_, i) => Math.imul(i, 2654435761)).buffer);
    socket.end(sent);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    const received = Buffer.concat(chunks);
    expect([...received.subarray(0, 10)]).toEqual([5, 0, 5, 0, 0, 1, 100, 64, 0, 2]);
    expect(received.length).toBe(12 + sent.length);
    expect(received.subarray(12).equals(sent)).toBe(true);
  });

  it('tells an HTTP client why it is refused, although the client has said more than was read', async () => {
    const socket = dial(1);
    socket.write(`CONNECT example.com:443 HTTP/1.1\r\n\r\n${'x'.repeat(40_000)}`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1\.1 403 [\s\S]*nothing else goes through this proxy\n$/);
  });

  it('resets the client of a forward whose service refuses', async () => {
    network.policy = 'reset';
    const socket = dial(2);
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    expect(error.code).toBe('ECONNRESET');
  });

  it('serves many clients at once', async () => {
    network.echo = true;
    const talks = Array.from({ length: 100 }, async (_, i) => {
      const socket = dial(2);
      socket.end(`client ${i}`);
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      return text;
    });
    expect(await Promise.all(talks)).toEqual(Array.from({ length: 100 }, (_, i) => `client ${i}`));
    expect(server.counters.get('finished')).toBe(100);
    expect(server.clients.size).toBe(0);
  });
});
