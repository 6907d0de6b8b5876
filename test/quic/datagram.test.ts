/** Datagrams that do not get through, each for a reason that is counted; and the shape of what is handed over. */
import { beforeAll, describe, expect, it } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { instantAt, Millis, Seconds } from '../../src/base/time.js';
import type { DatagramBatch } from '../../src/quic/connection.js';
import { type Certificates, certificates, makeNet, Recorder, type Side, write } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const many = (count: number, size: number): Uint8Array[] => new Array<Uint8Array>(count).fill(new Uint8Array(size));

describe('writing', () => {
  it('takes what fits the send buffer, counts the rest, and says when there is room again', () => {
    const net = makeNet(certs, { client: { datagramSendBuffer: 64 * 1024 } });
    const { client, clientSide, serverSide } = net.establish();
    const queued = write(net, net.client.endpoint, client, many(100, 1000));
    expect(queued).toBeGreaterThan(50);
    expect(queued).toBeLessThan(66);
    expect(net.client.endpoint.counters().datagramsBlocked).toBe(100 - queued);
    expect(client.stats()!.sendSpace).toBeLessThan(1100);
    expect(write(net, net.client.endpoint, client, many(1, 1100))).toBe(0);
    net.run(Millis(50));
    expect(clientSide.unblocked).toBe(1);
    expect(serverSide.datagramCount).toBe(queued);
    expect(write(net, net.client.endpoint, client, many(1, 1100))).toBe(1);
  });

  it('refuses what no packet carries and takes its neighbours', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    net.run(Seconds(1));
    const most = client.maxDatagramSize;
    const sizes = [10, most + 1, most, 5000, 20];
    expect(
      write(
        net,
        net.client.endpoint,
        client,
        sizes.map((size) => new Uint8Array(size)),
      ),
    ).toBe(3);
    expect(net.client.endpoint.counters().datagramsTooLarge).toBe(2);
    net.run(Millis(50));
    expect(serverSide.datagrams.map((d) => d.length)).toEqual([10, most, 20]);
  });

  it('counts rows outside the memory and writes to dead connections', () => {
    const net = makeNet(certs);
    const { client } = net.establish();
    const { table, arena } = net.client.endpoint.outbound;
    table.set([arena.size - 10, 11, 0xffff_fff0, 100, 0, 8]);
    expect(client.writeDatagrams(net.now, 3)).toBe(1);
    expect(client.writeDatagrams(net.now, 1, 99)).toBe(0);
    expect(net.client.endpoint.counters().datagramsUnsendable).toBe(3);
    client.close(net.now, 0, '');
    expect(client.writeDatagrams(net.now, 1)).toBe(0);
    expect(client.sendDatagram(new Uint8Array(1))).toBe(false);
    net.run(Seconds(20));
    expect(client.stats()).toBeUndefined();
    expect(client.silentFor(net.now)).toBe(-1);
  });

  it('sends from any attached memory, and one at a time without touching a batch in the making', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    const memory = Uint8Array.from({ length: 64 }, (_, i) => i);
    const id = net.client.endpoint.attach(memory);
    const { table } = net.client.endpoint.outbound;
    table.set([3, 5, 60, 4]);
    expect(client.sendDatagram(Uint8Array.of(99))).toBe(true);
    expect(client.writeDatagrams(net.now, 2, id)).toBe(2);
    net.run(Millis(50));
    expect(serverSide.datagrams.map((d) => [...d])).toEqual([[99], [3, 4, 5, 6, 7], [60, 61, 62, 63]]);
  });
});

describe('reading', () => {
  it('hands over everything, in order, each at a multiple of four, however many there are', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    net.run(Seconds(1));
    const starts: number[] = [];
    const sequence: number[] = [];
    serverSide.onDatagrams = (_now: unknown, batch: DatagramBatch) => {
      for (let i = 0; i < batch.count; i++) {
        const offset = batch.table[i * 2]!;
        starts.push(offset);
        sequence.push(batch.arena.words[offset >>> 2]!);
      }
    };
    const payloads = Array.from({ length: 1000 }, (_, i) => {
      const bytes = new Uint8Array(1301 + (i % 3));
      new DataView(bytes.buffer).setUint32(0, i, true);
      return bytes;
    });
    // All packets arrive before the server is asked to process anything.
    for (const half of [payloads.slice(0, 500), payloads.slice(500)]) {
      expect(write(net, net.client.endpoint, client, half)).toBe(500);
    }
    net.pump(net.client);
    while (net.flying.length > 0) {
      const packet = net.flying.shift()!;
      if (packet.to === net.server) net.deliver(net.server, packet.bytes, packet.from);
    }
    net.server.endpoint.process(net.now);
    expect(sequence).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(starts.every((offset) => offset % 4 === 0)).toBe(true);
  });

  it('stops at once when the handler closes the connection', () => {
    const net = makeNet(certs);
    const { client, server, serverSide } = net.establish();
    let batches = 0;
    serverSide.onDatagrams = () => {
      batches++;
      server.close(net.now, 1, 'enough');
    };
    for (let i = 0; i < 5; i++) {
      client.sendDatagram(new Uint8Array(1000));
      net.run(Millis(20));
    }
    expect(batches).toBe(1);
    expect(serverSide.closed).toMatchObject([{ kind: 'local', code: 1 }]);
  });
});

describe('runs', () => {
  const VIRTUAL = SocketAddress.parse('[fd53:616c:6c79::1:2]:1')!;
  const PREFIX = 9;

  it('to a relay channel leave room before each packet, and received ones skip it', () => {
    const net = makeNet(certs, { client: { virtualPrefixBytes: PREFIX }, server: { virtualPrefixBytes: PREFIX } });
    net.server.address = VIRTUAL;
    net.client.address = SocketAddress.parse('[fd53:616c:6c79::7]:1')!;
    const accepted: Recorder[] = net.accepted;
    const words = new Uint32Array(5);
    let largestRun = 0;
    const move = (from: Side, to: Side): boolean => {
      from.endpoint.process(net.now);
      let moved = false;
      while (from.endpoint.transmit(net.now, 64, 40)) {
        const { length, segment, isVirtual } = from.endpoint.out;
        expect(isVirtual).toBe(true);
        largestRun = Math.max(largestRun, Math.ceil(length / segment));
        const run = from.endpoint.tx.subarray(64, 64 + length);
        for (let at = 0; at < length; at += segment) {
          run.fill(0xee, at, at + PREFIX);
          expect(run[at + PREFIX]! & 0x40).toBe(0x40);
        }
        to.memory.set(run);
        from.address.write(words, 0);
        to.endpoint.queueRun(to.memoryId, 0, length, segment, PREFIX, words, 0);
        to.endpoint.receive(net.now);
        moved = true;
      }
      return moved;
    };
    const recorder = new Recorder();
    const client = net.client.endpoint.connect(net.now, VIRTUAL, 'server.test', recorder);
    for (let i = 0; i < 50; i++) {
      const moved = [move(net.client, net.server), move(net.server, net.client)];
      if (!moved.includes(true)) net.now = instantAt(net.now + 25_000);
    }
    expect(client.state).toBe('open');
    expect(write(net, net.client.endpoint, client, many(100, client.maxDatagramSize))).toBe(100);
    move(net.client, net.server);
    net.server.endpoint.process(net.now);
    expect(accepted[0]!.datagramCount).toBe(100);
    expect(largestRun).toBe(40);
  });

  it('are never larger than one send, nor than the room there is', () => {
    const net = makeNet(certs, { client: { transmitBytes: 100_000 } });
    const { client } = net.establish();
    net.run(Seconds(1));
    write(net, net.client.endpoint, client, many(200, 1400));
    net.client.endpoint.process(net.now);
    expect(net.client.endpoint.transmit(net.now, 0, 64)).toBe(true);
    expect(net.client.endpoint.out.length).toBeLessThanOrEqual(65_000);
    const { length } = net.client.endpoint.out;
    expect(length).toBeGreaterThan(60_000);
    expect(net.client.endpoint.transmit(net.now, 80_000, 64)).toBe(true);
    expect(net.client.endpoint.out.length).toBeLessThanOrEqual(20_000);
    expect(net.client.endpoint.transmit(net.now, 99_000, 64)).toBe(false);
    expect(net.client.endpoint.transmit(net.now, 0xffff_ffff, 64)).toBe(false);
    expect(net.client.endpoint.transmit(net.now, 0, 1)).toBe(true);
    expect(net.client.endpoint.out.length).toBe(net.client.endpoint.out.segment);
  });

  it('of memory that is not there are counted', () => {
    const net = makeNet(certs);
    const words = new Uint32Array(5);
    for (const [memory, offset, length] of [
      [99, 0, 10],
      [net.server.memoryId, 65_530, 10],
      [net.server.memoryId, 0xffff_ffff, 10],
    ]) {
      net.server.endpoint.queueRun(memory!, offset!, length!, 10, 0, words, 0);
    }
    net.server.endpoint.queueRun(net.server.memoryId, 0, 10, 0, 20, words, 0);
    net.server.endpoint.queueRun(net.server.memoryId, 0, 0, 0, 0, words, 0);
    net.server.endpoint.receive(net.now);
    expect(net.server.endpoint.counters()).toMatchObject({ runsOutside: 3, packets: 1, ignored: 1 });
  });

  it('may be more than one crossing takes', () => {
    const net = makeNet(certs);
    const words = new Uint32Array(5);
    for (let i = 0; i < 2000; i++) net.server.endpoint.queueRun(net.server.memoryId, 0, 100, 100, 0, words, 0);
    net.server.endpoint.receive(net.now);
    expect(net.server.endpoint.counters().packets).toBe(2000);
  });
});

describe('deadlines', () => {
  it('are over once they have been processed, whatever fraction of a microsecond they fall on', () => {
    const net = makeNet(certs);
    net.now = instantAt(1234.567);
    net.path = () => (5_000.123 + 0.001 * (net.now % 1)) as ReturnType<typeof Millis>;
    const { client } = net.establish();
    for (let i = 0; i < 200; i++) {
      client.sendDatagram(new Uint8Array(10));
      net.pump(net.client);
      const due = net.client.endpoint.nextTimeout()!;
      net.now = due;
      net.client.endpoint.process(net.now);
      while (net.client.endpoint.transmit(net.now, 0, 10));
      expect(net.client.endpoint.nextTimeout()).toBeGreaterThan(due);
    }
  });
});
