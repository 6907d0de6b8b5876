/** Packets of a suspect link: out on two links as copies, in once, whatever their size and whichever link loses them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { type Instant, instantAt, later, Millis, Seconds } from '../../src/base/time.js';
import { Inbound, InboundState } from '../../src/node/inbound.js';
import { Link } from '../../src/node/link.js';
import { LinkSet } from '../../src/node/link-set.js';
import { Outbound } from '../../src/node/outbound.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import type { QuicEndpoint } from '../../src/quic/endpoint.js';
import { Fragmenter } from '../../src/tunnel/fragments.js';
import { COPY_HEADER, LinkFrame } from '../../src/tunnel/links/frames.js';
import { Tier } from '../../src/tunnel/links/managed-link.js';
import { LINK_COUNTERS } from '../../src/tunnel/links/states.js';
import { Arena } from '../../src/wire/arena.js';
import { pattern } from '../support/app.js';
import { udpPacket } from '../support/packets.js';

const NOW = instantAt(5_000_000);
/** When links have been live for long: their size is known. */
const GROWN = later(NOW, Seconds(10));

/** An endpoint that holds memory, and connections that write down what is sent on them. */
class Wires {
  readonly outbound = { arena: new Arena(64 * 1024), table: new Uint32Array(256) };
  readonly #memories: Uint8Array[] = [this.outbound.arena.bytes];
  #connections = 1;

  attach(bytes: Uint8Array): number {
    return this.#memories.push(bytes) - 1;
  }

  connection(maxDatagramSize: number): { readonly connection: QuicConnection; readonly sent: Uint8Array[] } {
    const sent: Uint8Array[] = [];
    const connection = {
      id: this.#connections++,
      maxDatagramSize,
      silentFor: () => Seconds(5),
      stats: () => undefined,
      sendDatagram: (bytes: Uint8Array) => sent.push(bytes) > 0,
      writeDatagrams: (_now: Instant, count: number, memory = 0) => {
        const { table } = this.outbound;
        for (let i = 0; i < count; i++) {
          const length = table[i * 2 + 1]!;
          expect(length).toBeLessThanOrEqual(maxDatagramSize);
          sent.push(this.#memories[memory]!.slice(table[i * 2]!, table[i * 2]! + length));
        }
        return count;
      },
      lendDatagrams(now: Instant, count: number): number {
        return this.writeDatagrams(now, count);
      },
    };
    return { connection: connection as unknown as QuicConnection, sent };
  }
}

class End {
  readonly drops = new Counters(DROP_REASONS);
  readonly counters = new Counters(LINK_COUNTERS);
  readonly tooBig: number[] = [];
  readonly received: Uint8Array[] = [];
  readonly wires = new Wires();
  /** Sockets that take everything unless told otherwise. */
  readonly gate = { isBlocked: false, isMetered: false, batchBytes: 65_536, flushLinks: (): void => {} };
  readonly set: LinkSet;
  readonly links: readonly Link[];
  readonly sent: readonly Uint8Array[][];
  readonly #state = new InboundState();
  readonly #inbound: Inbound;
  readonly outbound: Outbound;

  constructor(sizes: readonly [number, number]) {
    const owner = { onActive: () => {}, onDead: () => {}, onWake: () => {} };
    this.set = new LinkSet({ decides: true, path: 'auto', counters: this.counters, owner });
    const ways = sizes.map((size) => this.wires.connection(size));
    this.sent = ways.map(({ sent }) => sent);
    const fragmenter = new Fragmenter();
    this.links = ways.map(
      ({ connection }, i) => new Link(NOW, connection, undefined as never, i, fragmenter, () => {}),
    );
    for (const [i, link] of this.links.entries()) {
      link.enter(NOW, 'live');
      this.set.add(NOW, link, i === 1 ? Tier.direct : Tier.relayUdp, false);
    }
    this.outbound = new Outbound(this.wires as unknown as QuicEndpoint, this.gate, this.drops, 1, {
      onTooBig: (_now, _arena, _offset, length) => this.tooBig.push(length),
    });
    this.#inbound = new Inbound(this.drops, {
      emit: ({ arena, offset, length }) => this.received.push(arena.bytes.slice(offset, offset + length)),
    });
  }

  /** The link in use, the direct one, becomes suspect: nothing has come on it for a while. */
  suspect(at: Instant): Instant {
    this.set.manager.traffic(at);
    this.set.manager.turn(at);
    const then = later(at, Millis(400));
    this.set.manager.traffic(then);
    this.links[0]!.managed!.health.heard(then);
    this.set.manager.turn(then);
    expect(this.set.active).toBe(this.links[1]);
    expect(this.set.active!.managed!.state).toBe('suspect');
    for (const sent of this.sent) sent.length = 0;
    return then;
  }

  send(now: Instant, packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.outbound.add(now, this.set.active!, packet, 0, packet.length, false);
    this.outbound.flush(now);
  }

  take(now: Instant, link: number, datagrams: readonly Uint8Array[]): void {
    for (const datagram of datagrams) {
      const arena = new Arena(4096);
      arena.bytes.set(datagram, 8);
      const table = Uint32Array.of(8, datagram.length);
      this.#inbound.handle(now, { arena, bytes: arena.bytes, table, count: 1 }, this.#state, this.links[link]!);
    }
  }
}

const packetOf = (size: number, i: number): Uint8Array =>
  udpPacket({ from: '100.64.0.1', to: '10.100.0.1' }, 4000 + i, 53, pattern(size - 28));
const text = (packets: readonly Uint8Array[]): string[] =>
  packets.map((one) => Buffer.from(one).toString('hex')).sort();

test('packets of any size arrive once, over whichever link still works', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 28, max: 1400 }), fc.constantFrom(0, 1, 2)), { minLength: 1, maxLength: 40 }),
      fc.tuple(fc.integer({ min: 1150, max: 1420 }), fc.integer({ min: 1150, max: 1420 })),
      (shapes, sizes) => {
        const [sender, receiver] = [new End(sizes), new End(sizes)];
        const now = sender.suspect(NOW);
        const packets = shapes.map(([size], i) => packetOf(size, i));
        sender.send(now, packets);
        const [first, second] = sender.sent as [Uint8Array[], Uint8Array[]];
        expect(first).toEqual(second);
        // Of each copy the first link loses some, the second others, and some come on both.
        const fate = (i: number): number => shapes[i % shapes.length]![1];
        receiver.take(
          now,
          0,
          first.filter((_, i) => fate(i) !== 0),
        );
        receiver.take(
          now,
          1,
          second.filter((_, i) => fate(i) !== 1),
        );
        expect(text(receiver.received)).toEqual(text(packets));
      },
    ),
  );
});

test('of what a small standby does not carry, only packets up to 1280 bytes are copied once its size is known', () => {
  const end = new End([1200, 1420]);
  const now = end.suspect(GROWN);
  const carried = later(now, Seconds(3));
  end.send(carried, [packetOf(1400, 0), packetOf(1280, 1)]);
  expect(end.sent.map((sent) => sent.map((bytes) => [bytes[0], bytes.length]))).toEqual([
    [
      [LinkFrame.copy, COPY_HEADER + 5 + 640],
      [LinkFrame.copy, COPY_HEADER + 5 + 640],
    ],
    [
      [0x45, 1400],
      [LinkFrame.copy, COPY_HEADER + 5 + 640],
      [LinkFrame.copy, COPY_HEADER + 5 + 640],
    ],
  ]);
});

test('after a switch to a smaller link large packets go as fragments for 2 s, and their senders are told', () => {
  const end = new End([1200, 1420]);
  end.send(GROWN, [packetOf(1400, 0)]);
  expect(end.sent.map((sent) => sent.length)).toEqual([0, 1]);
  end.set.remove(GROWN, end.links[1]!, 'closed');
  end.send(GROWN, [packetOf(1400, 0)]);
  expect(end.sent[0]!.map((bytes) => bytes[0])).toEqual([0, 0]);
  expect(end.tooBig).toEqual([1400]);
  end.send(later(GROWN, Seconds(3)), [packetOf(1400, 0), packetOf(1280, 0)]);
  expect(end.sent[0]!.length).toBe(4);
  expect(end.tooBig).toEqual([1400, 1400]);
  expect(end.drops.get('too_big')).toBe(1);
});

/** Packets of one flow, all different. */
const flow = (sizes: readonly number[]): Uint8Array[] =>
  sizes.map((size, i) => udpPacket({ from: '100.64.0.1', to: '10.100.0.1' }, 4000, 53, pattern(size - 28, i + 1)));
const inOrder = (packets: readonly Uint8Array[]): string[] => packets.map((one) => Buffer.from(one).toString('hex'));
const sizesOf = fc.array(fc.constantFrom(60, 700, 1190, 1210, 1280, 1400), { minLength: 1, maxLength: 60 });

test('packets of one flow leave a young link in their order, whole and cut ones', () => {
  fc.assert(
    fc.property(sizesOf, fc.boolean(), (sizes, isBlocked) => {
      const [sender, receiver] = [new End([1200, 1200]), new End([1200, 1200])];
      const packets = flow(sizes);
      sender.gate.isBlocked = isBlocked;
      sender.send(NOW, packets);
      sender.gate.isBlocked = false;
      sender.outbound.drain(NOW);
      expect(sender.sent[0]).toEqual([]);
      receiver.take(NOW, 1, sender.sent[1]!);
      expect(inOrder(receiver.received)).toEqual(inOrder(packets));
    }),
  );
});

test('packets of one flow leave a suspect link in their order, copied ones and those beyond the limit', () => {
  fc.assert(
    fc.property(sizesOf, fc.integer({ min: 0, max: 20 }), (sizes, copied) => {
      const [sender, receiver] = [new End([1200, 1200]), new End([1200, 1200])];
      const now = sender.suspect(NOW);
      const { manager } = sender.set;
      let asked = 0;
      manager.mayCopy = () => asked++ % 3 !== 0 || asked < copied;
      const packets = flow(sizes);
      sender.send(now, packets);
      receiver.take(now, 1, sender.sent[1]!);
      expect(inOrder(receiver.received)).toEqual(inOrder(packets));
    }),
  );
});

test('a batch that is too much for one writing leaves in its order and whole', () => {
  const [sender, receiver] = [new End([1200, 1200]), new End([1200, 1200])];
  // More packets and fragments than the table has room for.
  const packets = flow(Array.from({ length: 40 }, () => 1400)).concat(flow(Array.from({ length: 80 }, () => 60)));
  const now = sender.suspect(NOW);
  sender.send(now, packets);
  receiver.take(now, 0, sender.sent[0]!);
  expect(inOrder(receiver.received)).toEqual(inOrder(packets));
});

test('copies beyond the limit go out once', () => {
  const end = new End([1420, 1420]);
  end.set.manager.traffic(NOW);
  end.set.manager.turn(NOW);
  end.take(NOW, 0, [Uint8Array.of(LinkFrame.copy, 0, 0, 0, 0)]);
  expect(end.set.manager.isMirroring(NOW)).toBe(true);
  for (let i = 0; i < 20; i++)
    end.send(
      NOW,
      Array.from({ length: 20 }, (_, k) => packetOf(1400, k)),
    );
  const copies = end.sent[1]!.filter((bytes) => bytes[0] === LinkFrame.mirroredCopy);
  expect(copies.length).toBe(Math.floor(250_000 / 1400));
  expect(end.sent[0]!.filter((bytes) => bytes[0] === LinkFrame.mirroredCopy).length).toBe(copies.length);
  expect(end.sent[1]!.filter((bytes) => bytes[0] === 0x45).length).toBe(400 - copies.length);
  expect(end.counters.get('copies_over_limit')).toBe(400 - copies.length);
});

test('whatever comes is taken, or dropped and counted', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 20 }),
      fc.constantFrom(0, 0x10, 0x11, 0x20, 0x45),
      (all, type) => {
        const end = new End([1420, 1420]);
        for (const bytes of all) {
          end.take(NOW, 0, [Uint8Array.of(type, ...bytes)]);
          const isFragment =
            type === 0 || (type >>> 4 === 1 && bytes.length > COPY_HEADER - 1 && bytes[COPY_HEADER - 1]! >>> 4 === 0);
          const dropped = Object.values(end.drops.snapshot()).reduce((sum, count) => sum + count, 0);
          const known = end.received.length + dropped + end.counters.get('beats_in') + end.counters.get('copies_in');
          if (!isFragment) expect(known).toBeGreaterThan(0);
        }
      },
    ),
  );
});
