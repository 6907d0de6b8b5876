import { afterEach, describe, expect, it } from 'vitest';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { EAGAIN, ECONNREFUSED, ECONNRESET, type TcpListener, type TcpStream, WRITABLE } from '../../../src/os/io.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';

const EPIPE = 32;
const sockets = createLinuxSockets();
const open: { close(): void }[] = [];
const keep = <T extends { close(): void }>(thing: T): T => {
  open.push(thing);
  return thing;
};

afterEach(() => {
  for (const thing of open.splice(0)) thing.close();
});

function listenOn(host: string): TcpListener {
  return keep(sockets.listen(new SocketAddress(IpAddress.parse(host)!, 0)));
}

/** Waits in a reactor until the connection attempt is decided. */
async function decided(stream: TcpStream): Promise<number> {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  let outcome = 1;
  const watch = reactor.watch(stream.fd, WRITABLE, () => {
    outcome = stream.connectResult();
    watch.close();
    reactor.stop();
  });
  await reactor.run();
  return outcome;
}

function pair(host: string): { client: TcpStream; server: TcpStream; peer: SocketAddress } {
  const listener = listenOn(host);
  const client = keep(sockets.connect(listener.local));
  const accepted = listener.accept()!;
  return { client, server: keep(accepted.stream), peer: accepted.peer };
}

describe.each(['127.0.0.1', '::1'])('TCP over %s', (host) => {
  it('connects, and tells both ends who the other is', async () => {
    const listener = listenOn(host);
    const client = keep(sockets.connect(listener.local));
    expect(await decided(client)).toBe(0);
    const accepted = listener.accept()!;
    keep(accepted.stream);
    expect(accepted.peer.ip.toString()).toBe(host);
    expect(accepted.peer.port).toBeGreaterThan(0);
    expect(listener.accept()).toBeUndefined();
  });

  it('reports a refused connection', async () => {
    const listener = listenOn(host);
    const target = listener.local;
    listener.close();
    expect(await decided(keep(sockets.connect(target)))).toBe(-ECONNREFUSED);
  });

  it('keeps reading after it has sent its end', () => {
    const { client, server } = pair(host);
    const buffer = new Uint8Array(100);
    expect(server.read(buffer, 0, 100)).toBe(-EAGAIN);
    expect(client.write(Buffer.from('..question'), 2, 8)).toBe(8);
    client.shutdownWrite();
    expect(server.read(buffer, 10, 90)).toBe(8);
    expect(Buffer.from(buffer.subarray(10, 18)).toString()).toBe('question');
    expect(server.read(buffer, 0, 100)).toBe(0);
    const answer = new Uint8Array(90).fill(7);
    expect(server.write(answer, 0, 90)).toBe(90);
    server.close();
    expect(client.read(buffer, 0, 100)).toBe(90);
    expect(buffer.subarray(0, 90)).toEqual(answer);
    expect(client.read(buffer, 0, 100)).toBe(0);
  });

  it('resets the other end when it aborts, unsent data forgotten', () => {
    const { client, server } = pair(host);
    const buffer = new Uint8Array(100);
    server.abort();
    expect(client.read(buffer, 0, 100)).toBe(-ECONNRESET);
  });

  it('moves bytes at any place of buffers large and small, and of parts of them', () => {
    const { client, server } = pair(host);
    const sizes = [10, 16_383, 16_384, 70_000];
    const buffers = sizes.flatMap((size) => [new Uint8Array(size), new Uint8Array(size + 5).subarray(5)]);
    for (const from of buffers) {
      for (const to of buffers.map((buffer) => buffer.slice())) {
        for (let i = 0; i < from.length; i++) from[i] = i * 7;
        expect(client.write(from, 3, 6)).toBe(6);
        expect(server.read(to, 2, 8)).toBe(6);
        expect([...to.subarray(0, 10)]).toEqual([0, 0, 21, 28, 35, 42, 49, 56, 0, 0].slice(0, to.length));
      }
      from.fill(0);
    }
  });

  it('takes what fits and asks to try again', () => {
    const { client, server } = pair(host);
    const data = new Uint8Array(65_536).fill(1);
    let sent = 0;
    let last = 0;
    while (last >= 0) {
      last = client.write(data, 0, data.length);
      if (last > 0) sent += last;
    }
    expect(last).toBe(-EAGAIN);
    let got = 0;
    for (let n = server.read(data, 0, data.length); got < sent; n = server.read(data, 0, data.length)) {
      if (n > 0) got += n;
    }
    expect(got).toBe(sent);
  });

  it('says that an address is taken', () => {
    const listener = listenOn(host);
    expect(() => sockets.listen(listener.local)).toThrow(
      expect.objectContaining({ code: 'ADDRESS_IN_USE', kind: 'environment' }),
    );
  });
});

it('answers a write on a dead connection with an error, not with a signal', () => {
  const { client, server } = pair('127.0.0.1');
  server.abort();
  const buffer = new Uint8Array(10);
  client.read(buffer, 0, 10);
  expect(client.write(buffer, 0, 10)).toBe(-EPIPE);
});

describe('UDP flows', () => {
  it.each(['127.0.0.1', '::1'])('carry datagrams over %s, empty ones too, and report a closed port', (host) => {
    const server = keep(sockets.udp(new SocketAddress(IpAddress.parse(host)!, 0)));
    const flow = keep(sockets.udpFlow(server.local));
    const buffer = new Uint8Array(2000);
    const seen: number[][] = [];
    const take = (bytes: Uint8Array, offset: number, length: number) =>
      seen.push([...bytes.subarray(offset, offset + length)]);
    expect(flow.receive(take)).toBe(0);
    expect(flow.write(new Uint8Array(1500).fill(3), 0, 1500)).toBe(1500);
    expect(flow.write(buffer, 0, 0)).toBe(0);
    sockets.flushDatagrams();
    expect(server.receive()).toBe(2);
    expect([server.rx.lengths[0], server.rx.lengths[1]]).toEqual([1500, 0]);
    server.send(server.registerTransmit(Uint8Array.of(1, 2, 3)), 0, 3, 3, server.rx.sources, 0);
    server.flush();
    expect(flow.receive(take)).toBe(1);
    expect(seen).toEqual([[1, 2, 3]]);
    server.close();
    expect(flow.write(buffer, 0, 1)).toBe(1);
    sockets.flushDatagrams();
    expect(flow.receive(take)).toBe(-ECONNREFUSED);
    expect(flow.receive(take)).toBe(0);
  });
});
