/** The TUN device as an engine's: runs in whole, runs out whole, checksums left to the kernel, what it cannot take counted. */
import { expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { TunPackets } from '../../src/engine/tun-packets.js';
import { EAGAIN, VNET_HEADER_SIZE } from '../../src/os/io.js';
import { Arena } from '../../src/wire/arena.js';
import { readVnet, VnetFields } from '../../src/wire/vnet.js';
import { tcpPacket, udpPacket } from '../support/packets.js';
import { SimClock, SimReactor } from '../support/sim-reactor.js';
import { SimTun } from '../support/sim-tun.js';

const ends = { from: '10.83.0.1', to: '1.2.3.4' };
const ends6 = { from: 'fd53::1', to: '2001:db8::1' };

class Tun extends SimTun {
  takesNothing = false;
  override readonly udpOffload: boolean;
  constructor(udpOffload = false) {
    super(new SimReactor(new SimClock()));
    this.udpOffload = udpOffload;
  }
  override write(...args: Parameters<SimTun['write']>): number {
    return this.takesNothing ? -EAGAIN : super.write(...args);
  }
}

function setup(udpOffload = false) {
  const tun = new Tun(udpOffload);
  const drops = new Counters(DROP_REASONS);
  return { tun, drops, packets: new TunPackets(tun, drops) };
}
const arenaOf = (bytes: Uint8Array): Arena => {
  const arena = new Arena(bytes.length + 8);
  arena.bytes.set(bytes);
  return arena;
};
const fieldsOf = (packet: Uint8Array): VnetFields => {
  const fields = new VnetFields();
  readVnet(packet, 0, fields);
  return fields;
};

test('reads: a packet, a run with its segment size, one whose sum the kernel vouches for, and a kind never asked for', () => {
  const { tun, drops, packets } = setup();
  const header = (flags: number, type: number, size: number): Uint8Array =>
    Uint8Array.of(flags, type, 40, 0, size & 255, size >> 8, 20, 0, 16, 0);
  tun.send(tcpPacket(ends, 1, 2));
  tun.send(tcpPacket(ends, 1, 2), header(1, 0, 0));
  tun.send(tcpPacket(ends, 1, 2), header(1, 1, 1360));
  tun.send(tcpPacket(ends6, 1, 2), header(1, 4 | 0x80, 1340));
  tun.send(udpPacket(ends, 1, 2, 'x'), header(1, 3, 1000));
  tun.send(new Uint8Array(0));
  const seen: [number, number, boolean][] = [];
  packets.read((_arena, offset, length, segmentSize, checked) => {
    expect(offset % 4).toBe(0);
    seen.push([length, segmentSize, checked]);
  });
  expect(seen).toEqual([
    [40, 0, false],
    [40, 0, true],
    [40, 1360, true],
    [60, 1340, true],
  ]);
  expect(drops.snapshot()).toEqual({ protocol_not_allowed: 1 });
});

test.each([
  [ends, 1, 20],
  [ends6, 4, 40],
])('writes a run of TCP as one, to be cut by the kernel (%o)', (of, type, start) => {
  const { tun, packets } = setup();
  const header = tcpPacket(of, 1, 2, 0x10);
  const payload = new Arena(4000);
  packets.emitTcp(arenaOf(header), 0, header.length, payload, 0, 3000, 1360);
  packets.emitTcp(arenaOf(header), 0, header.length, payload, 0, 1000, 1360);
  const [run, single] = tun.delivered;
  expect(fieldsOf(run!)).toMatchObject({
    flags: 1,
    gsoType: type,
    gsoSize: 1360,
    headerLength: header.length,
    csumStart: start,
  });
  expect(fieldsOf(single!)).toMatchObject({ flags: 1, gsoType: 0, csumStart: start, csumOffset: 16 });
  expect(run!.length).toBe(VNET_HEADER_SIZE + header.length + 3000);
  const view = new DataView(run!.buffer, run!.byteOffset + VNET_HEADER_SIZE);
  expect(start === 20 ? view.getUint16(2) : view.getUint16(4) + 40).toBe(header.length + 3000);
});

test('joins datagrams of one flow where the device cuts them, and not where it does not', () => {
  for (const offload of [false, true]) {
    const { tun, packets } = setup(offload);
    for (let n = 0; n < 5; n++) {
      const packet = udpPacket(ends, 1, 2, new Uint8Array(500).fill(n));
      packets.emit(arenaOf(packet), 0, packet.length);
    }
    packets.flush();
    expect(tun.delivered.length).toBe(offload ? 1 : 5);
    if (offload) expect(fieldsOf(tun.delivered[0]!)).toMatchObject({ gsoType: 5, gsoSize: 500 });
  }
});

test.each([
  ['512 short packets', 10, 512],
  ['256 KB', 60_000, 5],
])('one turn takes %s, the next one goes on', (_what, size, most) => {
  const { tun, packets } = setup();
  for (let i = 0; i < most + 3; i++) tun.send(udpPacket(ends, i, 2, new Uint8Array(size)));
  const seen: number[] = [];
  const take = (arena: Arena, offset: number): void => {
    seen.push((arena.bytes[offset + 20]! << 8) | arena.bytes[offset + 21]!);
  };
  packets.read(take);
  expect(seen).toHaveLength(most);
  packets.read(take);
  expect(seen).toEqual(Array.from({ length: most + 3 }, (_, i) => i));
});

test('datagrams wait neither for a long packet nor for what the device has', () => {
  const { tun, packets } = setup(true);
  const order: string[] = [];
  const beside = new TunPackets(tun, new Counters(DROP_REASONS), () => order.push('before'));
  const header = tcpPacket(ends, 1, 2, 0x10);
  const datagram = udpPacket(ends, 1, 2, new Uint8Array(500));
  const payload = new Arena(40_000);
  const kinds = (): (string | undefined)[] =>
    tun.delivered.splice(0).map((packet) => (packet[VNET_HEADER_SIZE + 9] === 17 ? 'udp' : 'tcp'));
  packets.emit(arenaOf(datagram), 0, datagram.length);
  packets.emitTcp(arenaOf(header), 0, header.length, payload, 0, 1_000, 1_360);
  expect(kinds()).toEqual(['tcp']);
  packets.emitTcp(arenaOf(header), 0, header.length, payload, 0, 20_000, 1_360);
  expect(kinds()).toEqual(['udp', 'tcp']);
  packets.emit(arenaOf(datagram), 0, datagram.length);
  packets.read(() => {});
  expect(kinds()).toEqual(['udp']);
  tun.send(tcpPacket(ends, 1, 2));
  tun.send(tcpPacket(ends, 1, 2, 0x10, new Uint8Array(20_000)));
  beside.read((_arena, _offset, length) => order.push(`${length}`));
  expect(order).toEqual(['40', 'before', '20040']);
});

test('a device that takes nothing: every packet is counted, also those of a run of datagrams', () => {
  const { tun, drops, packets } = setup(true);
  tun.takesNothing = true;
  const tcp = tcpPacket(ends, 1, 2);
  packets.emit(arenaOf(tcp), 0, tcp.length);
  for (let n = 0; n < 3; n++) {
    const packet = udpPacket(ends, 1, 2, new Uint8Array(500));
    packets.emit(arenaOf(packet), 0, packet.length);
  }
  packets.flush();
  expect(drops.snapshot()).toEqual({ tun_full: 4 });
});
