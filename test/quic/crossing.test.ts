/**
 * The shortcuts of a turn: what was received, is due and is to be told in one crossing (`process`), a write and its first run in
 * one (`send`), and the last run known for it.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { ADDRESS_WORDS } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import type { QuicEndpoint } from '../../src/quic/endpoint.js';
import { type Certificates, certificates, makeNet, type Net, type Side } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const SEGMENTS = 40;

/** Fills the outbound table with `count` datagrams of `size` bytes, each of its number. */
function fill(endpoint: QuicEndpoint, count: number, size: number): void {
  const { arena, table } = endpoint.outbound;
  for (let i = 0; i < count; i++) {
    arena.bytes.fill(i, i * size, (i + 1) * size);
    table[i * 2] = i * size;
    table[i * 2 + 1] = size;
  }
}

/** Everything that `from` has to send, put side by side into the other's receive memory as runs that it has not taken yet. */
function queue(net: Net, from: Side, to: Side, at = 0): number {
  const words = new Uint32Array(ADDRESS_WORDS);
  from.address.write(words, 0);
  let offset = at;
  while (from.endpoint.transmit(net.now, 0, SEGMENTS)) {
    const { length, segment } = from.endpoint.out;
    to.memory.set(from.endpoint.tx.subarray(0, length), offset);
    to.endpoint.queueRun(to.memoryId, offset, length, segment, 0, words, 0);
    offset += length;
  }
  return offset;
}

describe('one crossing', () => {
  it('takes in runs, and gives every connection its own datagrams, however many have some', () => {
    const net = makeNet(certs);
    const pairs = [net.establish(), net.establish(), net.establish()];
    net.run(Seconds(1));
    for (const [i, { client }] of pairs.entries()) {
      for (let n = 0; n <= i; n++) client.sendDatagram(new Uint8Array(100).fill(16 * i + n));
    }
    net.client.endpoint.process(net.now);
    queue(net, net.client, net.server);
    net.server.endpoint.process(net.now);
    const seen = pairs.map(({ serverSide }) => serverSide.datagrams.map((bytes) => [bytes.length, bytes[0]]));
    expect(seen).toEqual([
      [[100, 0]],
      [
        [100, 16],
        [100, 17],
      ],
      [
        [100, 32],
        [100, 33],
        [100, 34],
      ],
    ]);
  });

  it('gives nothing to a connection that was closed while the one before it was told', () => {
    const net = makeNet(certs);
    const [first, second] = [net.establish(), net.establish()];
    net.run(Seconds(1));
    first.serverSide.onDatagrams = () => second.server.close(net.now, 1, 'over');
    second.serverSide.onDatagrams = () => first.server.close(net.now, 1, 'over');
    for (const { client } of [first, second]) client.sendDatagram(new Uint8Array(100));
    net.client.endpoint.process(net.now);
    queue(net, net.client, net.server);
    net.server.endpoint.process(net.now);
    const closed = [first, second].map(({ serverSide }) => serverSide.closed.length);
    expect(closed.sort()).toEqual([0, 1]);
  });

  it('counts runs outside their memory', () => {
    const net = makeNet(certs);
    net.server.endpoint.queueRun(net.server.memoryId, 65_530, 10, 10, 0, new Uint32Array(ADDRESS_WORDS), 0);
    net.server.endpoint.queueRun(99, 0, 10, 10, 0, new Uint32Array(ADDRESS_WORDS), 0);
    net.server.endpoint.process(net.now);
    net.server.endpoint.process(net.now);
    expect(net.server.endpoint.counters().runsOutside).toBe(2);
  });

  it('runs timers: a lost datagram’s packet is asked after without anything having come', () => {
    const net = makeNet(certs);
    const { client } = net.establish();
    net.run(Seconds(1));
    client.sendDatagram(new Uint8Array(10));
    net.client.endpoint.process(net.now);
    while (net.client.endpoint.transmit(net.now, 0, SEGMENTS));
    const due = net.client.endpoint.nextTimeout()!;
    expect(due).toBeGreaterThan(net.now);
    net.client.endpoint.process(due);
    expect(net.client.endpoint.transmit(due, 0, SEGMENTS)).toBe(true);
  });
});

describe('send', () => {
  const open = (): { net: Net; client: QuicConnection; from: QuicEndpoint; datagrams: Uint8Array[] } => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    net.run(Seconds(1));
    return { net, client, from: net.client.endpoint, datagrams: serverSide.datagrams };
  };

  it('writes and leaves the first run for the next transmit', () => {
    const { net, client, from, datagrams } = open();
    fill(from, 100, 1000);
    expect(from.send(net.now, client, 100, SEGMENTS)).toBe(100);
    expect(from.transmit(net.now, 0, SEGMENTS)).toBe(true);
    expect(from.out.isLast).toBe(false);
    expect(Math.ceil(from.out.length / from.out.segment)).toBe(SEGMENTS);
    net.server.memory.set(from.tx.subarray(0, from.out.length));
    const words = new Uint32Array(ADDRESS_WORDS);
    net.client.address.write(words, 0);
    net.server.endpoint.queueRun(net.server.memoryId, 0, from.out.length, from.out.segment, 0, words, 0);
    net.server.endpoint.receive(net.now);
    net.run(Millis(50));
    expect(datagrams.map((bytes) => bytes[0])).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('says that nothing follows a lone connection’s only packet, and nothing of the kind where two have sent', () => {
    const { net, client, from } = open();
    fill(from, 1, 100);
    expect(from.send(net.now, client, 1, SEGMENTS)).toBe(1);
    expect(from.transmit(net.now, 0, SEGMENTS)).toBe(true);
    expect(from.out.isLast).toBe(true);
    expect(from.transmit(net.now, 0, SEGMENTS)).toBe(false);
    const other = net.establish();
    net.run(Seconds(1));
    client.sendDatagram(new Uint8Array(10));
    other.client.sendDatagram(new Uint8Array(10));
    const last: boolean[] = [];
    while (from.transmit(net.now, 0, SEGMENTS)) last.push(from.out.isLast);
    expect(last).toEqual([false, false]);
  });

  it('counts what it refuses, and refuses everything of a closed connection', () => {
    const { net, client, from } = open();
    fill(from, 2, 100);
    from.outbound.table[3] = 60_000;
    expect(from.send(net.now, client, 2, SEGMENTS)).toBe(1);
    expect(from.counters().datagramsTooLarge).toBe(1);
    while (from.transmit(net.now, 0, SEGMENTS));
    client.close(net.now, 0, '');
    expect(from.send(net.now, client, 1, SEGMENTS)).toBe(0);
  });
});
