/** Datagrams that arrive in batches and runs, over the loopback: each one as it was sent, in order, from whom it came. */
import fc from 'fast-check';
import { afterEach, expect, it } from 'vitest';
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../../src/base/address.js';
import {
  EMSGSIZE,
  type TakeDatagram,
  type UdpFlowSocket,
  type UdpPortSocket,
  type UdpSocket,
} from '../../../src/os/io.js';
import { IPPROTO_UDP, UDP_GRO } from '../../../src/os/linux/constants.js';
import { DatagramArrivals, RunReceiver } from '../../../src/os/linux/datagram-arrivals.js';
import { createLinuxSockets } from '../../../src/os/linux/linux.js';
import { localAddress } from '../../../src/os/linux/sockaddr.js';
import { tryOption } from '../../../src/os/linux/socket.js';

const sockets = createLinuxSockets();
const opened: { close(): void }[] = [];
const keep = <T extends { close(): void }>(socket: T): T => {
  opened.push(socket);
  return socket;
};

afterEach(() => {
  for (const socket of opened.splice(0)) socket.close();
});

/** A message of one call of the kernel's: datagrams of `size`, the last of them of what is left. */
interface Message {
  readonly length: number;
  readonly size: number;
}

class Sender {
  readonly #socket: UdpSocket;
  readonly #bytes = new Uint8Array(65_000);
  #mark = 0;
  readonly sent: string[] = [];

  constructor(host: string) {
    this.#socket = keep(sockets.udp(new SocketAddress(IpAddress.parse(host)!, 0), { bufferBytes: 4 << 20 }));
  }

  get local(): SocketAddress {
    return this.#socket.local;
  }

  send(to: SocketAddress, { length, size }: Message): void {
    const words = new Uint32Array(ADDRESS_WORDS);
    to.write(words, 0);
    for (let at = 0; at === 0 || at < length; at += size) {
      const mark = this.#mark++ & 0xff;
      this.#bytes[at] = mark;
      const own = Math.min(size, length - at);
      this.sent.push(`${this.local} ${own}:${own > 0 ? mark : '-'}`);
    }
    const memory = this.#socket.registerTransmit(this.#bytes);
    this.#socket.send(memory, 0, length, size, words, 0);
    this.#socket.flush();
    expect(this.#socket.counters).toMatchObject({ sendFailed: 0, sendBlocked: 0 });
  }
}

/** Takes everything; returns it and how many calls of the kernel's that took. */
function drain(socket: UdpFlowSocket | UdpPortSocket, from: () => string): { seen: string[]; calls: number } {
  const seen: string[] = [];
  const take: TakeDatagram = (bytes, offset, length) =>
    seen.push(`${from()} ${length}:${length > 0 ? bytes[offset] : '-'}`);
  for (let calls = 1; ; calls++) {
    const before = seen.length;
    const count = socket.receive(take);
    expect(seen.length - before).toBe(count);
    if (count === 0) return { seen, calls };
  }
}

const host = (family: 4 | 6) => (family === 4 ? '127.0.0.1' : '::1');
const localOf = (port: UdpPortSocket, family: 4 | 6) =>
  new SocketAddress(IpAddress.parse(host(family))!, localAddress(port.fd).port);

const message = fc
  .record({
    size: fc.oneof(fc.constantFrom(1, 40, 1200, 1372), fc.integer({ min: 1, max: 4000 })),
    count: fc.integer({ min: 1, max: 16 }),
    tail: fc.nat(4000),
  })
  .map(({ size, count, tail }) => ({ size, length: size * count - (tail % size) }));
const empty = fc.constant({ size: 1, length: 0 });

it.each([4, 6] as const)('runs are cut apart, sizes, order and senders kept (IPv%i)', (family) => {
  const messages = fc.array(fc.tuple(fc.nat(1), fc.oneof({ weight: 9, arbitrary: message }, empty)), { maxLength: 40 });
  fc.assert(
    fc.property(messages, (list) => {
      const port = keep(sockets.udpPort(family));
      const to = localOf(port, family);
      const senders = [new Sender(host(family)), new Sender(host(family))];
      const expected: string[] = [];
      for (const [who, one] of list) {
        const sender = senders[who]!;
        const before = sender.sent.length;
        sender.send(to, one);
        expected.push(...sender.sent.slice(before));
      }
      expect(drain(port, () => SocketAddress.read(port.source, 0).toString()).seen).toEqual(expected);
      for (const socket of opened.splice(0)) socket.close();
    }),
    { numRuns: 40 },
  );
});

it.each([4, 6] as const)('a connected socket takes runs with few calls, a share at a time (IPv%i)', (family) => {
  const sender = new Sender(host(family));
  const flow = keep(sockets.udpFlow(sender.local));
  const to = localAddress(flow.fd);
  for (let i = 0; i < 8; i++) sender.send(to, { size: 1000, length: 31_001 });
  const { seen, calls } = drain(flow, () => sender.local.toString());
  expect(seen).toEqual(sender.sent);
  expect(seen).toHaveLength(256);
  // Four messages are read first; then as many at once as make 64 datagrams; the last call finds nothing.
  expect(calls).toBe(4);
});

it('a kernel that keeps no runs together gives the same, message by message', () => {
  const sender = new Sender('127.0.0.1');
  const flow = keep(sockets.udpFlow(sender.local));
  expect(tryOption(flow.fd, IPPROTO_UDP, UDP_GRO, 0)).toBe(true);
  for (let i = 0; i < 4; i++) sender.send(localAddress(flow.fd), { size: 1000, length: 31_001 });
  const { seen, calls } = drain(flow, () => sender.local.toString());
  expect(seen).toEqual(sender.sent);
  // 4, 64 and 60 messages.
  expect(calls).toBe(4);
});

it('datagrams that are no runs arrive many at a call too', () => {
  const sender = new Sender('127.0.0.1');
  const port = keep(sockets.udpPort(4));
  const to = localOf(port, 4);
  for (let i = 0; i < 100; i++) sender.send(to, { size: 1300, length: 1300 - (i % 2) });
  const { seen, calls } = drain(port, () => SocketAddress.read(port.source, 0).toString());
  expect(seen).toEqual(sender.sent);
  expect(calls).toBe(4);
});

it('whoever closes the socket while taking gets nothing more', () => {
  const sender = new Sender('127.0.0.1');
  const port = keep(sockets.udpPort(4));
  sender.send(localOf(port, 4), { size: 100, length: 1000 });
  let taken = 0;
  const count = port.receive(() => {
    if (++taken === 3) port.close();
  });
  expect([count, taken]).toEqual([3, 3]);
});

it('tells of a message that had no room, and gives the others', () => {
  const sender = new Sender('127.0.0.1');
  const flow = keep(sockets.udpFlow(sender.local));
  const to = localAddress(flow.fd);
  const arrivals = new DatagramArrivals(2000);
  const receiver = new RunReceiver(flow.fd, arrivals);
  for (const length of [2000, 2001, 5]) sender.send(to, { size: 3000, length });
  const lengths: number[] = [];
  expect(receiver.receive((_bytes, _offset, length) => lengths.push(length))).toBe(-EMSGSIZE);
  expect(lengths).toEqual([2000, 5]);
  expect(arrivals.errors).toBe(1);
  expect(receiver.receive(() => {})).toBe(0);
});
