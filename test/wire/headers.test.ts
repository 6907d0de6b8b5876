import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import { ipv4HeaderIntact } from '../../src/wire/checksum.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { type Ipv4Fields, readIpv4, writeIpv4 } from '../../src/wire/ipv4.js';
import { type Ipv6Fields, readIpv6, writeIpv6 } from '../../src/wire/ipv6.js';
import { clampMss, mssFor } from '../../src/wire/mss.js';
import { readTcpOptions, TcpOptions, writeTcp, writeTcpOptions } from '../../src/wire/tcp.js';
import { completeUdp, writeUdp } from '../../src/wire/udp.js';
import { readVnet, VnetFields, writeVnet } from '../../src/wire/vnet.js';
import { fixChecksums, isValid, packet, pattern } from './packets.js';

const byte = fc.nat(255);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);

const ipv4Fields: fc.Arbitrary<Ipv4Fields> = fc.record({
  trafficClass: byte,
  totalLength: u16,
  identification: u16,
  dontFragment: fc.boolean(),
  moreFragments: fc.boolean(),
  fragmentOffset: fc.nat(0x1fff).map((n) => n * 8),
  hopLimit: byte,
  protocol: byte,
  source: u32,
  destination: u32,
});
const ipv6Fields: fc.Arbitrary<Ipv6Fields> = fc.record({
  trafficClass: byte,
  flowLabel: fc.nat(0xfffff),
  payloadLength: u16,
  nextHeader: byte,
  hopLimit: byte,
  source0: u32,
  source1: u32,
  source2: u32,
  source3: u32,
  destination0: u32,
  destination1: u32,
  destination2: u32,
  destination3: u32,
});

describe('headers', () => {
  it('IPv4 reads back as written, with a right checksum', () => {
    fc.assert(
      fc.property(ipv4Fields, (fields) => {
        const bytes = new Uint8Array(24).fill(0xee);
        expect(writeIpv4(bytes, 3, fields)).toBe(20);
        const back = { ...fields, source: 0, destination: 0, totalLength: 0 };
        readIpv4(bytes, 3, back);
        expect(back).toEqual(fields);
        expect(ipv4HeaderIntact(bytes, 3)).toBe(true);
        expect([bytes[2], bytes[23]]).toEqual([0xee, 0xee]);
      }),
    );
  });

  it('IPv6 reads back as written', () => {
    fc.assert(
      fc.property(ipv6Fields, (fields) => {
        const bytes = new Uint8Array(44);
        writeIpv6(bytes, 4, fields);
        const back = { ...fields, source0: 0, destination3: 0, flowLabel: 0 };
        readIpv6(bytes, 4, back);
        expect(back).toEqual(fields);
        expect(bytes[4]! >>> 4).toBe(6);
      }),
    );
  });

  it('UDP and TCP parse back as written', () => {
    const arena = new Arena(200);
    const out = new ParsedPacket();
    arena.bytes.set(packet({ family: 6, udp: true, payload: pattern(9) }));
    writeUdp(arena.bytes, 40, 53, 5353, 9);
    completeUdp(arena, 0, 40, 17);
    expect(parsePacket(arena.bytes, 0, 57, out)).toBe(Drop.none);
    expect([out.sourcePort, out.destinationPort, out.payloadLength]).toEqual([53, 5353, 9]);
    expect(isValid(arena.bytes.slice(0, 57))).toBe(true);

    arena.bytes.set(packet({ family: 4, payload: pattern(12) }));
    writeTcp(arena.bytes, 20, 1, 65_535, 0xfffffffe, 0x80000000, 0x12, 0xabcd, 12);
    expect(parsePacket(arena.bytes, 0, 52, out)).toBe(Drop.none);
    expect(out).toMatchObject({
      sourcePort: 1,
      destinationPort: 65_535,
      sequence: 0xfffffffe,
      acknowledgment: 0x80000000,
      tcpFlags: 0x12,
      window: 0xabcd,
      tcpHeaderLength: 32,
      payloadLength: 0,
    });
  });

  it('virtio-net header: the bytes of the kernel struct, and back', () => {
    const fields = new VnetFields();
    Object.assign(fields, { flags: 1, gsoType: 0x81, headerLength: 52, gsoSize: 1448, csumStart: 20, csumOffset: 16 });
    const bytes = new Uint8Array(12);
    writeVnet(bytes, 1, fields);
    expect([...bytes]).toEqual([0, 1, 0x81, 52, 0, 0xa8, 5, 20, 0, 16, 0, 0]);
    const back = new VnetFields();
    readVnet(bytes, 1, back);
    expect(back).toEqual(fields);
    back.clear();
    expect(back).toEqual(new VnetFields());
  });
});

describe('TCP options', () => {
  const options = fc.record({
    mss: fc.nat(0xffff),
    windowScale: fc.integer({ min: -1, max: 14 }),
    sackPermitted: fc.boolean(),
    hasTimestamps: fc.boolean(),
    timestampValue: u32,
    timestampEcho: u32,
    edges: fc.array(u32, { maxLength: 8 }).map((e) => e.slice(0, e.length & ~1)),
  });

  it('read back as written: everything that fits, whole SACK blocks, in 40 bytes', () => {
    fc.assert(
      fc.property(options, (o) => {
        const written = new TcpOptions();
        Object.assign(written, o);
        if (!o.hasTimestamps) written.timestampValue = written.timestampEcho = 0;
        written.sackEdges.set(o.edges);
        written.sackCount = o.edges.length / 2;
        const bytes = new Uint8Array(48);
        const length = writeTcpOptions(bytes, 4, written);
        expect(length % 4).toBe(0);
        expect(length).toBeLessThanOrEqual(40);
        const back = new TcpOptions();
        expect(readTcpOptions(bytes, 4, 4 + length, back)).toBe(true);
        const used =
          (o.mss > 0 ? 4 : 0) + (o.hasTimestamps ? 12 : o.sackPermitted ? 4 : 0) + (o.windowScale >= 0 ? 4 : 0);
        const count = Math.min(written.sackCount, Math.max(0, Math.floor((40 - used - 4) / 8)));
        expect(back).toMatchObject({
          mss: o.mss,
          windowScale: o.windowScale,
          sackPermitted: o.sackPermitted,
          hasTimestamps: o.hasTimestamps,
          timestampValue: written.timestampValue,
          timestampEcho: written.timestampEcho,
          sackCount: count,
        });
        expect([...back.sackEdges.subarray(0, count * 2)]).toEqual(o.edges.slice(0, count * 2));
      }),
    );
  });

  it('what came before a broken option stands; wrong lengths and unknown kinds are skipped', () => {
    const out = new TcpOptions();
    const read = (...bytes: number[]): boolean => readTcpOptions(new Uint8Array(bytes), 0, bytes.length, out);
    expect([read(2, 4, 5, 180, 3, 0), out.mss]).toEqual([false, 1460]);
    expect([read(2, 4, 5, 180, 3), out.mss]).toEqual([false, 1460]);
    expect([read(3, 3, 15), out.windowScale]).toEqual([true, 14]);
    expect([read(2, 3, 9, 254, 4, 1, 2, 3, 3, 7), out.mss, out.windowScale]).toEqual([true, 0, 7]);
    expect([read(0, 2, 4, 5, 180), out.mss]).toEqual([true, 0]);
    expect([read(5, 9, 1, 1, 1, 1, 1, 1, 1), out.sackCount]).toEqual([true, 0]);
    expect(read(8, 40, 0)).toBe(false);
  });
});

describe('clampMss', () => {
  it('lowers the option, even or odd, and leaves a right checksum', () => {
    const out = new ParsedPacket();
    const shape = fc.record({
      family: fc.constantFrom<4 | 6>(4, 6),
      mss: u16,
      pad: fc.nat(3),
      mtu: fc.integer({ min: 1280, max: 9000 }),
    });
    fc.assert(
      fc.property(shape, ({ family, mss, pad, mtu }) => {
        const options = new Uint8Array(8).fill(1);
        options.set([2, 4, mss >>> 8, mss & 255], pad);
        const bytes = packet({ family, payload: pattern(3), flags: 0x12, options });
        expect(parsePacket(bytes, 0, bytes.length, out)).toBe(Drop.none);
        const most = mssFor(family, mtu);
        expect(most).toBe(mtu - (family === 4 ? 40 : 60));
        expect(clampMss(bytes, out, mtu)).toBe(mss > most);
        expect(isValid(bytes)).toBe(true);
        const back = new TcpOptions();
        readTcpOptions(bytes, out.transportOffset + 20, out.transportOffset + out.tcpHeaderLength, back);
        expect(back.mss).toBe(Math.min(mss, most));
      }),
    );
  });

  it('adds nothing and touches nothing else', () => {
    const out = new ParsedPacket();
    const big = new Uint8Array([2, 4, 0x23, 0x00]);
    const cases: { flags: number; options: Uint8Array; udp?: boolean }[] = [
      { flags: 0x10, options: big },
      { flags: 0x02, options: new Uint8Array([1, 1, 4, 2]) },
      { flags: 0x02, options: new Uint8Array(0) },
      { flags: 0x02, options: new Uint8Array([0, 4, 0x23, 0]) },
      { flags: 0x02, options: new Uint8Array([5, 0, 2, 4]) },
      { flags: 0x02, options: big, udp: true },
    ];
    for (const shape of cases) {
      const bytes = packet({ family: 4, payload: pattern(2), ...shape });
      fixChecksums(bytes);
      const before = bytes.slice();
      expect(parsePacket(bytes, 0, bytes.length, out)).toBe(Drop.none);
      expect(clampMss(bytes, out, 1400)).toBe(false);
      expect(bytes).toEqual(before);
    }
  });
});
