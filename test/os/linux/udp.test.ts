import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../../src/base/address.js';
import { SallyportError } from '../../../src/base/error.js';
import type { UdpOptions, UdpSocket } from '../../../src/os/io.js';
import { connect } from '../../../src/os/linux/libc.js';
import { SockaddrBuffer } from '../../../src/os/linux/sockaddr.js';
import { openUdp } from '../../../src/os/linux/udp.js';

const open: UdpSocket[] = [];

function udp(host: string, options?: UdpOptions): UdpSocket {
  const socket = openUdp(new SocketAddress(IpAddress.parse(host)!, 0), options);
  open.push(socket);
  return socket;
}

afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
});

function packed(...addresses: SocketAddress[]): Uint32Array {
  const words = new Uint32Array(addresses.length * ADDRESS_WORDS);
  addresses.forEach((address, i) => {
    address.write(words, i);
  });
  return words;
}

interface Datagram {
  readonly bytes: Uint8Array;
  readonly from: string;
  readonly to: string;
  readonly entry: number;
}

/** Everything that waits, datagram by datagram. Loopback delivers during the send, so nothing needs to be waited for. */
function drain(socket: UdpSocket): Datagram[] {
  const out: Datagram[] = [];
  const { rx } = socket;
  for (let entry = 0; ; ) {
    const count = socket.receive();
    expect(count).toBeGreaterThanOrEqual(0);
    if (count === 0) return out;
    for (let i = 0; i < count; i++, entry++) {
      const from = SocketAddress.read(rx.sources, i).toString();
      const to = SocketAddress.read(rx.locals, i).toString();
      const start = rx.offsets[i]!;
      const end = start + rx.lengths[i]!;
      let at = start;
      do {
        const stop = Math.min(end, at + rx.segments[i]!);
        out.push({ bytes: rx.memory.slice(at, stop), from, to, entry });
        at = stop;
      } while (at < end);
    }
  }
}

const digest = (bytes: Uint8Array): string => `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`;

/** Payload whose bytes tell where they came from. */
function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >>> 8)) & 0xff);
}

describe.each(['127.0.0.1', '::1'])('UDP over %s', (host) => {
  it('reports everything it can do on this system', () => {
    expect(udp(host).capabilities).toEqual({
      batch: true,
      segmentationOffload: true,
      receiveOffload: true,
      dontFragment: true,
      sourceAddress: true,
    });
  });

  it.each([true, false])('carries runs of equal datagrams, the last shorter (sender offload %s)', (offload) => {
    const sender = udp(host, { offload });
    const receiver = udp(host);
    const data = pattern(1300 * 19 + 77, 1);
    const memory = sender.registerTransmit(data);
    sender.send(memory, 0, data.length, 1300, packed(receiver.local), 0);
    sender.flush();
    const got = drain(receiver);
    expect(got.map((d) => d.bytes.length)).toEqual([...new Array<number>(19).fill(1300), 77]);
    expect(Buffer.concat(got.map((d) => d.bytes)).equals(data)).toBe(true);
    expect(new Set(got.map((d) => d.from))).toEqual(new Set([sender.local.toString()]));
    if (offload) expect(new Set(got.map((d) => d.entry)).size).toBe(1);
    else expect(new Set(got.map((d) => d.entry)).size).toBe(20);
    expect(sender.counters).toMatchObject({ datagramsOut: 20, bytesOut: data.length, sendFailed: 0, sendBlocked: 0 });
    expect(receiver.counters).toMatchObject({ datagramsIn: 20, bytesIn: data.length, receiveErrors: 0 });
  });

  it('gives a receiver without coalescing the same datagrams one by one', () => {
    const sender = udp(host);
    const receiver = udp(host, { offload: false });
    expect(receiver.capabilities.receiveOffload).toBe(false);
    const data = pattern(1200 * 40, 2);
    sender.send(sender.registerTransmit(data), 0, data.length, 1200, packed(receiver.local), 0);
    sender.flush();
    const got = drain(receiver);
    expect(got).toHaveLength(40);
    expect(new Set(got.map((d) => d.entry)).size).toBe(40);
    expect(Buffer.concat(got.map((d) => d.bytes)).equals(data)).toBe(true);
  });

  it('keeps sizes and order in one batch from several senders, empty and largest datagrams included', () => {
    const receiver = udp(host);
    const to = packed(receiver.local);
    // One packet may hold 65,507 bytes of IPv4 payload; with the don't-fragment bit IPv6 is limited by loopback's MTU.
    const largest = host === '::1' ? 65_536 - 48 : 65_507;
    const sizes = [0, 1, 1452, 0, largest, 9000, 2];
    const senders = [udp(host), udp(host), udp(host)];
    const expected: string[] = [];
    for (const [n, sender] of senders.entries()) {
      for (const [i, size] of sizes.entries()) {
        const data = pattern(size, n * 10 + i);
        sender.send(sender.registerTransmit(data), 0, size, size, to, 0);
        expected.push(`${sender.local} ${digest(data)}`);
      }
      sender.flush();
    }
    const got = drain(receiver).map((d) => `${d.from} ${digest(d.bytes)}`);
    expect(got).toEqual(expected);
  });

  it('sends from the middle of its memory to several destinations in one flush, more than the queue holds', () => {
    const sender = udp(host);
    const receivers = [udp(host), udp(host), udp(host)];
    const to = packed(...receivers.map((r) => r.local));
    const data = pattern(100 * 150, 3);
    const memory = sender.registerTransmit(data);
    for (let i = 0; i < 150; i++) sender.send(memory, i * 100, 100, 100, to, i % 3);
    sender.flush();
    for (const [r, receiver] of receivers.entries()) {
      const got = drain(receiver);
      expect(got).toHaveLength(50);
      got.forEach((d, i) => {
        expect(Buffer.from(d.bytes).equals(data.subarray((i * 3 + r) * 100, (i * 3 + r + 1) * 100))).toBe(true);
      });
    }
  });

  it('loses no state when the receiver is full: later datagrams still arrive', () => {
    const sender = udp(host);
    const receiver = udp(host, { bufferBytes: 4096 });
    const data = pattern(1000, 4);
    const memory = sender.registerTransmit(data);
    for (let i = 0; i < 1000; i++) sender.send(memory, 0, 1000, 1000, packed(receiver.local), 0);
    sender.flush();
    const first = drain(receiver).length;
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(1000);
    sender.send(memory, 0, 1000, 1000, packed(receiver.local), 0);
    sender.flush();
    expect(drain(receiver)).toHaveLength(1);
    const { datagramsOut, sendBlocked, sendFailed } = sender.counters;
    expect([datagramsOut + sendBlocked, sendFailed]).toEqual([1001, 0]);
  });

  it('drops and counts what is longer than an entry, and goes on', () => {
    const sender = udp(host);
    const receiver = udp(host, { entryBytes: 2048, batch: 4 });
    const data = pattern(3000, 5);
    const memory = sender.registerTransmit(data);
    for (const size of [100, 3000, 200, 2048]) sender.send(memory, 0, size, size, packed(receiver.local), 0);
    sender.flush();
    expect(drain(receiver).map((d) => d.bytes.length)).toEqual([100, 200, 2048]);
    expect(receiver.counters.receiveErrors).toBe(1);
  });

  it('drops only the datagram the kernel refuses', () => {
    const sender = udp(host);
    const receiver = udp(host);
    const data = pattern(70_000, 6);
    const memory = sender.registerTransmit(data);
    const to = packed(receiver.local, new SocketAddress(receiver.local.ip, 0));
    sender.send(memory, 0, 100, 100, to, 0);
    sender.send(memory, 0, 65_600, 65_600, to, 0);
    sender.send(memory, 0, 300, 100, to, 1);
    sender.send(memory, 0, 200, 200, to, 0);
    sender.flush();
    expect(drain(receiver).map((d) => d.bytes.length)).toEqual([100, 200]);
    expect(sender.counters).toMatchObject({ datagramsOut: 2, sendFailed: 4, sendBlocked: 0 });
  });

  it('consumes and counts queued network errors', () => {
    const gone = udp(host);
    const target = gone.local;
    gone.close();
    const socket = udp(host);
    const name = new SockaddrBuffer();
    expect(connect(socket.fd, name.address, name.set(target))).toBe(0);
    const memory = socket.registerTransmit(pattern(10, 7));
    socket.send(memory, 0, 10, 10, packed(target), 0);
    socket.flush();
    expect(socket.receive()).toBe(0);
    expect(socket.counters.receiveErrors).toBe(1);
    expect(socket.receive()).toBe(0);
    expect(socket.counters.receiveErrors).toBe(1);
  });

  it('answers on another port when the asked one is taken, or says so', () => {
    const taken = udp(host);
    const other = openUdp(taken.local, { anyPortIfTaken: true });
    open.push(other);
    expect(other.local.port).not.toBe(taken.local.port);
    expect(other.local.ip.equals(taken.local.ip)).toBe(true);
    try {
      openUdp(taken.local);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(SallyportError);
      expect((error as SallyportError).code).toBe('ADDRESS_IN_USE');
    }
  });
});

describe('addresses of one host', () => {
  it('tells which address was asked, and answers from it', () => {
    const server = udp('0.0.0.0');
    const client = udp('127.0.0.1');
    const asked = ['127.0.0.7', '127.3.2.1', '127.0.0.1'].map(
      (ip) => new SocketAddress(IpAddress.parse(ip)!, server.local.port),
    );
    const memory = client.registerTransmit(pattern(50, 8));
    asked.forEach((_, i) => {
      client.send(memory, 0, 50, 25, packed(...asked), i);
    });
    client.flush();
    const answer = server.registerTransmit(pattern(60, 9));
    const count = server.receive();
    expect(count).toBe(3);
    for (let i = 0; i < count; i++) {
      expect(SocketAddress.read(server.rx.locals, i).toString()).toBe(asked[i]!.toString());
      // Once as one datagram and once as a run: both carry the source.
      server.send(answer, 0, 10, 10, server.rx.sources, i, server.rx.locals, i);
      server.send(answer, 0, 60, 20, server.rx.sources, i, server.rx.locals, i);
    }
    server.flush();
    const got = drain(client);
    expect(got.map((d) => `${d.from} ${d.bytes.length}`)).toEqual(
      asked.flatMap((address) => [10, 20, 20, 20].map((size) => `${address} ${size}`)),
    );
  });

  it('ignores an unspecified source and one of the other family', () => {
    const sender = udp('127.0.0.1');
    const receiver = udp('127.0.0.1');
    const sources = packed(
      new SocketAddress(IpAddress.parse('0.0.0.0')!, 0),
      new SocketAddress(IpAddress.parse('::1')!, 0),
    );
    const memory = sender.registerTransmit(pattern(5, 1));
    sender.send(memory, 0, 5, 5, packed(receiver.local), 0, sources, 0);
    sender.send(memory, 0, 5, 5, packed(receiver.local), 0, sources, 1);
    sender.flush();
    expect(drain(receiver)).toHaveLength(2);
  });

  it('counts a source that is not ours as a failed datagram', () => {
    const sender = udp('0.0.0.0');
    const receiver = udp('127.0.0.1');
    const memory = sender.registerTransmit(pattern(5, 1));
    const foreign = packed(new SocketAddress(IpAddress.parse('192.0.2.1')!, 0));
    sender.send(memory, 0, 5, 5, packed(receiver.local), 0, foreign, 0);
    sender.send(memory, 0, 4, 4, packed(receiver.local), 0);
    sender.flush();
    expect(drain(receiver).map((d) => d.bytes.length)).toEqual([4]);
    expect(sender.counters.sendFailed).toBe(1);
  });

  it('refuses an address that this host does not have', () => {
    expect(() => openUdp(SocketAddress.parse('192.0.2.1:0')!)).toThrow(
      expect.objectContaining({ code: 'ADDRESS_NOT_AVAILABLE', kind: 'environment' }),
    );
  });
});
