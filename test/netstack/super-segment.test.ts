/** Super-segments in and out mean the same as the packets they stand for. */
import { describe, expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Seconds } from '../../src/base/time.js';
import { Stack } from '../../src/netstack/stack.js';
import type { StackSink } from '../../src/netstack/types.js';
import { Arena } from '../../src/wire/arena.js';
import { Coalescer } from '../../src/wire/gro.js';
import { Collector, crypto, Network, pattern, SERVER, socket } from './harness.js';
import { tcpPacket, WirePeer } from './wire-peer.js';

describe('in', () => {
  test('a coalesced segment counts as its parts: two or more are acknowledged at once, one is not', () => {
    for (const [parts, acks] of [
      [1, 0],
      [2, 1],
      [40, 1],
    ] as const) {
      const w = new WirePeer();
      w.open();
      const data = pattern(1, parts * 1000);
      const packet = tcpPacket(w.remote, w.local, 'PA', { seq: w.iss + 1, ack: w.irs + 1, data });
      const arena = new Arena(packet.length);
      arena.bytes.set(packet);
      expect(w.stack.handlePacket(w.now, arena, 0, packet.length, 1000, true)).toBe(0);
      expect(w.take().length).toBe(acks);
      expect(Buffer.compare(w.app.bytes(), data)).toBe(0);
      expect(w.count('tcp_segments_in')).toBe(2 + parts);
    }
  });

  test('behind a coalescer the stream is the same as packet by packet', () => {
    const run = (coalesce: boolean): Buffer => {
      const net = new Network();
      const server = new Collector();
      net.server.handlers.onSyn = (request) => {
        request.accept(server);
      };
      const c = net.client.stack.connect(net.now, socket(`${SERVER}:80`), new Collector());
      const coalescer = new Coalescer({
        emit: (p) => {
          net.server.stack.handlePacket(net.now, p.arena, p.offset, p.length, p.gsoSize, p.checked);
        },
      });
      if (coalesce) {
        net.server.receive = (_now, packet) => {
          const arena = new Arena(packet.length);
          arena.bytes.set(packet);
          coalescer.push(arena, 0, packet.length);
          return 0;
        };
        const take = net.server.take.bind(net.server);
        net.server.take = (now) => {
          coalescer.flush();
          return take(now);
        };
      }
      const data = pattern(7, 1_500_000);
      let at = 0;
      net.run(Seconds(20), () => {
        at += c.write(data, at, data.length - at);
        return server.total === data.length;
      });
      expect(net.server.stack.counters.drops.snapshot()).toEqual({});
      return Buffer.from(server.bytes());
    };
    const plain = run(false);
    expect(plain.equals(Buffer.from(pattern(7, 1_500_000)))).toBe(true);
    expect(run(true).equals(plain)).toBe(true);
  });
});

/** Notes what it is given. */
class Recorder implements StackSink {
  readonly supers: { length: number; size: number; total: number; flags: number }[] = [];
  readonly payload: Uint8Array[] = [];
  packets: Uint8Array[] = [];

  emit(packet: Arena, offset: number, length: number): void {
    this.packets.push(packet.bytes.slice(offset, offset + length));
  }

  emitTcp(
    h: Arena,
    at: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    size: number,
  ): void {
    expect(at % 4).toBe(0);
    expect(headerLength % 4).toBe(0);
    const total = (h.bytes[at + 2]! << 8) | h.bytes[at + 3]!;
    expect(total).toBe(headerLength + length);
    this.supers.push({ length, size, total, flags: h.bytes[at + 33]! });
    this.payload.push(payload.bytes.slice(offset, offset + length));
  }
}

describe('out', () => {
  test('the sink gets long runs in whole segments, never beyond the IP length field', () => {
    const sink = new Recorder();
    const w = new WirePeer();
    const collector = new Collector();
    const stack = new Stack({
      mtu: 1500,
      sink,
      entropy: new SeededEntropy(3),
      crypto,
      tcp: { congestion: 'cubic' },
      handlers: {
        onSyn: (request) => {
          collector.connection = request.accept(collector);
        },
      },
    });
    const give = (flags: string, fields: object): void => {
      const packet = tcpPacket(w.remote, w.local, flags, fields);
      const arena = new Arena(packet.length);
      arena.bytes.set(packet);
      stack.handlePacket(w.now, arena, 0, packet.length);
      stack.flush(w.now);
    };
    give('S', { seq: 0, mss: 1460, scale: 10 });
    const irs = new DataView(sink.packets[0]!.buffer).getUint32(24);
    give('A', { seq: 1, ack: irs + 1, window: 60_000 });
    const data = pattern(8, 400_000);
    let at = 0;
    let acked = 0;
    while (acked < data.length) {
      at += collector.connection!.write(data, at, data.length - at);
      stack.flush(w.now);
      acked = sink.supers.reduce((sum, s) => sum + s.length, 0);
      give('A', { seq: 1, ack: (irs + 1 + acked) >>> 0, window: 60_000 });
    }
    expect(Buffer.concat(sink.payload).equals(Buffer.from(data))).toBe(true);
    expect(Math.max(...sink.supers.map((s) => s.length))).toBe(44 * 1460);
    for (const s of sink.supers) {
      expect(s.size).toBe(1460);
      expect(s.total).toBeLessThanOrEqual(65_535);
    }
    // Short pieces come only where the stream or the ring ends.
    expect(sink.supers.filter((s) => s.length % 1460 !== 0).length).toBeLessThan(sink.supers.length / 2);
    expect(sink.supers.length).toBeLessThan(40);
  });
});
