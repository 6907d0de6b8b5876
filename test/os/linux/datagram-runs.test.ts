/** Runs of datagrams over the loopback: whatever is written arrives as it was written, and what does not leave is told. */
import fc from 'fast-check';
import { afterEach, expect, it } from 'vitest';
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../../src/base/address.js';
import { ECONNREFUSED, EMSGSIZE, type UdpSocket } from '../../../src/os/io.js';
import { LONGEST_RUN } from '../../../src/os/linux/datagram-runs.js';
import { createLinuxSockets } from '../../../src/os/linux/linux.js';

const sockets = createLinuxSockets();
/** Datagrams of a property's run: three ways of them have numbers of their own in a byte. */
const WRITTEN = 85;
const opened: { close(): void }[] = [];
const keep = <T extends { close(): void }>(socket: T): T => {
  opened.push(socket);
  return socket;
};

afterEach(() => {
  for (const socket of opened.splice(0)) socket.close();
});

const receiver = (host = '127.0.0.1'): UdpSocket =>
  keep(sockets.udp(new SocketAddress(IpAddress.parse(host)!, 0), { offload: false, batch: 64, bufferBytes: 4 << 20 }));

/** Length and first byte of everything that has arrived. */
function arrived(socket: UdpSocket): string[] {
  const seen: string[] = [];
  for (;;) {
    const count = socket.receive();
    if (count <= 0) return seen;
    for (let i = 0; i < count; i++) {
      const length = socket.rx.lengths[i]!;
      seen.push(`${length}:${length > 0 ? socket.rx.memory[socket.rx.offsets[i]!]! : '-'}`);
    }
  }
}

it.each(['127.0.0.1', '::1'])(
  'every datagram arrives as it was written, in the order of its socket and peer (%s)',
  (host) => {
    const sizes = fc.array(
      fc.oneof(fc.constantFrom(0, 1, 200, 1372, 1372, 1372, 9000), fc.integer({ min: 0, max: 3000 })),
      { maxLength: WRITTEN },
    );
    fc.assert(
      fc.property(sizes, fc.array(fc.nat(2), { minLength: WRITTEN, maxLength: WRITTEN }), (lengths, ways) => {
        const servers = [receiver(host), receiver(host)];
        const flow = keep(sockets.udpFlow(servers[0]!.local));
        const port = keep(sockets.udpPort(servers[0]!.local.ip.family));
        const to = new Uint32Array(2 * ADDRESS_WORDS);
        for (const [index, server] of servers.entries()) server.local.write(to, index);
        // By way: the port to either receiver, the flow to the first one.
        const expected: string[][] = [[], [], []];
        const bytes = new Uint8Array(9000);
        lengths.forEach((length, i) => {
          const way = ways[i]!;
          bytes[0] = WRITTEN * way + i;
          const taken = way === 2 ? flow.write(bytes, 0, length) : port.sendTo(to, way, bytes, 0, length);
          expect(taken).toBe(length);
          expected[way]!.push(`${length}:${length > 0 ? bytes[0] : '-'}`);
        });
        sockets.flushDatagrams();
        const [first, second] = servers.map(arrived);
        expect(second).toEqual(expected[1]);
        // Two sockets send to the first receiver. Empty datagrams do not say which.
        const of = (seen: readonly string[], way: number): string[] =>
          seen.filter((one) => Math.floor(Number(one.split(':')[1]) / WRITTEN) === way);
        for (const way of [0, 2]) expect(of(first!, way)).toEqual(of(expected[way]!, way));
        expect(first).toHaveLength(expected[0]!.length + expected[2]!.length);
        for (const socket of opened.splice(0)) socket.close();
      }),
      { numRuns: 60 },
    );
  },
);

it('sends when the longest run is full, when the turn ends and when the socket closes, not before', () => {
  const server = receiver();
  const flow = sockets.udpFlow(server.local);
  const bytes = new Uint8Array(100);
  for (let i = 0; i < LONGEST_RUN - 1; i++) flow.write(bytes, 0, 100);
  expect(arrived(server)).toEqual([]);
  flow.write(bytes, 0, 100);
  expect(arrived(server)).toHaveLength(LONGEST_RUN);
  flow.write(bytes, 0, 100);
  sockets.flushDatagrams();
  expect(arrived(server)).toHaveLength(1);
  flow.write(bytes, 0, 100);
  flow.close();
  expect(arrived(server)).toHaveLength(1);
});

it('sockets that take turns: a run of each, and none is lost when more come than find room', () => {
  const server = receiver();
  const flows = Array.from({ length: 40 }, () => keep(sockets.udpFlow(server.local)));
  const bytes = new Uint8Array(1_000);
  const expected: string[] = [];
  // 320,000 bytes, and then 1,240 datagrams.
  for (const [rounds, size] of [
    [8, 1_000],
    [31, 100],
  ] as const) {
    for (let round = 0; round < rounds; round++) {
      flows.forEach((flow, i) => {
        bytes[0] = i;
        expect(flow.write(bytes, 0, size)).toBe(size);
        expected.push(`${size}:${i}`);
      });
    }
  }
  sockets.flushDatagrams();
  expect(arrived(server).sort()).toEqual(expected.sort());
});

it('a socket that closes between others sends its own run only', () => {
  const server = receiver();
  const [one, other] = [sockets.udpFlow(server.local), keep(sockets.udpFlow(server.local))];
  const bytes = new Uint8Array(100);
  for (let i = 0; i < 3; i++) for (const flow of [one, other]) flow.write(bytes, 0, 100);
  one!.close();
  expect(arrived(server)).toHaveLength(3);
  sockets.flushDatagrams();
  expect(arrived(server)).toHaveLength(3);
});

it('tells of each datagram that did not leave, and refuses one that is too long', () => {
  const gone = sockets.udp(new SocketAddress(IpAddress.parse('127.0.0.1')!, 0));
  const flow = keep(sockets.udpFlow(gone.local));
  const port = gone.local;
  gone.close();
  const bytes = new Uint8Array(65_508);
  expect(flow.write(bytes, 0, 65_508)).toBe(-EMSGSIZE);
  expect(flow.write(bytes, 0, 10)).toBe(10);
  sockets.flushDatagrams();
  // Nobody is there: the kernel says so instead of taking the next run, which is then offered again.
  expect(flow.write(bytes, 0, 10)).toBe(10);
  const server = keep(sockets.udp(port, { offload: false }));
  expect(flow.write(bytes, 0, 10)).toBe(10);
  sockets.flushDatagrams();
  expect(arrived(server)).toHaveLength(2);
  expect(flow.write(bytes, 0, 10)).toBe(-ECONNREFUSED);
  expect(flow.write(bytes, 0, 10)).toBe(10);
});
