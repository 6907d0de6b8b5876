import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import { type CoalescedPacket, Coalescer } from '../../src/wire/gro.js';
import { segment } from '../../src/wire/gso.js';
import { closeChecksum, isOpen, OPEN_MARK } from '../../src/wire/open-checksum.js';
import {
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  readVnet,
  VNET_NEEDS_CSUM,
  VnetFields,
} from '../../src/wire/vnet.js';
import { isValid, makePartial, packet, pattern } from './packets.js';

const source = new Arena(70_000);
const whole = new Arena(1 << 18);
const open = new Arena(1 << 18);
const wholeTable = new Uint32Array(512);
const openTable = new Uint32Array(512);

const shapes = fc.record({
  family: fc.constantFrom<4 | 6>(4, 6),
  length: fc.integer({ min: 2, max: 60_000 }),
  size: fc.integer({ min: 500, max: 3000 }),
  timestamps: fc.boolean(),
  flags: fc.constantFrom(0x10, 0x18, 0x11, 0x19, 0x50),
  sequence: fc.integer({ min: 0, max: 0xffffffff }),
  identification: fc.integer({ min: 0, max: 0xffff }),
  seed: fc.integer({ min: 1, max: 1 << 30 }),
});
type Shape = (typeof shapes extends fc.Arbitrary<infer T> ? T : never) & { readonly udp?: boolean };

interface Emitted {
  readonly bytes: Uint8Array;
  readonly vnet: VnetFields;
  readonly segments: number;
  readonly isChecked: boolean;
}

function collect(): { readonly emitted: Emitted[]; readonly coalescer: Coalescer } {
  const emitted: Emitted[] = [];
  const emit = (p: CoalescedPacket): void => {
    const vnet = new VnetFields();
    const at = p.writeVnetHeader();
    readVnet(p.arena.bytes, at, vnet);
    emitted.push({
      bytes: p.arena.bytes.slice(p.offset, p.offset + p.length),
      vnet,
      segments: p.segments,
      isChecked: p.checked,
    });
  };
  return { emitted, coalescer: new Coalescer({ emit }) };
}

/** Cuts the super-segment of this shape twice, with checksums and without; returns it and how many packets it became. */
function cut(s: Shape): { readonly superSegment: Uint8Array; readonly count: number } {
  const options =
    s.timestamps && s.udp !== true ? new Uint8Array([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]) : new Uint8Array(0);
  const superSegment = makePartial(
    packet({ ...s, options, udp: s.udp === true, payload: pattern(Math.max(s.length, s.size + 1), s.seed) }),
  );
  const header = new VnetFields();
  header.flags = VNET_NEEDS_CSUM;
  header.gsoType = s.udp === true ? GSO_UDP_L4 : s.family === 4 ? GSO_TCPV4 : GSO_TCPV6;
  header.gsoSize = s.size;
  source.bytes.set(superSegment, 2);
  const count = segment(source, 2, superSegment.length, header, whole, 0, wholeTable, 0);
  expect(segment(source, 2, superSegment.length, header, open, 0, openTable, 0, true)).toBe(count);
  return { superSegment, count };
}

const pieceOf = (arena: Arena, table: Uint32Array, i: number): Uint8Array =>
  arena.bytes.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!);

/** Takes the mark off, as whoever receives the packet does. */
function unmark(i: number): [Arena, number, number] {
  const offset = openTable[i * 2]!;
  expect(isOpen(open.bytes, offset)).toBe(true);
  open.bytes[offset]! &= ~OPEN_MARK;
  return [open, offset, openTable[i * 2 + 1]!];
}

describe('packets with an open checksum', () => {
  it('are those with a checksum but for the mark and the field, and become them when closed', () => {
    fc.assert(
      fc.property(shapes, (s) => {
        const { count } = cut(s);
        for (let i = 0; i < count; i++) {
          const expected = pieceOf(whole, wholeTable, i);
          const found = pieceOf(open, openTable, i);
          expect(found[0]! >>> 4).toBe(s.family + 1);
          expect(isValid(found)).toBe(false);
          closeChecksum(open, openTable[i * 2]!, openTable[i * 2 + 1]!);
          expect(Buffer.compare(pieceOf(open, openTable, i), expected)).toBe(0);
        }
      }),
    );
  });

  it('are coalesced to the super-segment they come from', () => {
    fc.assert(
      fc.property(shapes, (s) => {
        const { superSegment, count } = cut(s);
        const { emitted, coalescer } = collect();
        for (let i = 0; i < count; i++) expect(coalescer.push(...unmark(i), true)).toBe(Drop.none);
        coalescer.flush();
        expect(emitted.map((one) => one.segments)).toEqual([count]);
        expect(Buffer.compare(emitted[0]!.bytes, superSegment)).toBe(0);
        expect(emitted[0]!.vnet.flags).toBe(VNET_NEEDS_CSUM);
        expect(emitted[0]!.isChecked).toBe(true);
      }),
    );
  });

  it('come out alone with a partial checksum for the device to complete', () => {
    fc.assert(
      fc.property(shapes, fc.nat(), (s, which) => {
        const { count } = cut(s);
        const i = which % count;
        const { emitted, coalescer } = collect();
        coalescer.push(...unmark(i), true);
        coalescer.flush();
        const [{ vnet, bytes, isChecked }] = emitted as [Emitted];
        expect([vnet.flags, vnet.gsoType, vnet.gsoSize, isChecked]).toEqual([VNET_NEEDS_CSUM, GSO_NONE, 0, true]);
        expect([vnet.csumStart, vnet.csumOffset]).toEqual([s.family === 4 ? 20 : 40, 16]);
        // What a device does with it is what `segment` does with a packet of the device.
        source.bytes.set(bytes, 2);
        expect(segment(source, 2, bytes.length, vnet, open, 0, openTable, 0)).toBe(1);
        expect(Buffer.compare(pieceOf(open, openTable, 0), pieceOf(whole, wholeTable, i))).toBe(0);
      }),
    );
  });

  it('join a run of packets whose checksums were verified, and the other way round', () => {
    for (const first of [0, 1]) {
      const { superSegment, count } = cut({
        family: 4,
        length: 8000,
        size: 1000,
        timestamps: true,
        flags: 0x10,
        sequence: 1,
        identification: 1,
        seed: 5,
      });
      const { emitted, coalescer } = collect();
      for (let i = 0; i < count; i++) {
        if (i % 2 === first) coalescer.push(whole, wholeTable[i * 2]!, wholeTable[i * 2 + 1]!);
        else coalescer.push(...unmark(i), true);
      }
      coalescer.flush();
      expect(emitted.map((one) => one.segments)).toEqual([count]);
      expect(Buffer.compare(emitted[0]!.bytes, superSegment)).toBe(0);
    }
  });

  it('get their checksum where nothing can join them', () => {
    const length = packet({ family: 4, flags: 0x04, payload: pattern(100, 3) }).length;
    source.bytes.set(packet({ family: 4, flags: 0x04, payload: pattern(100, 3) }), 4);
    source.bytes[4 + 36]! ^= 0xff;
    const { emitted, coalescer } = collect();
    coalescer.push(source, 4, length, true);
    expect(isValid(emitted[0]!.bytes)).toBe(true);
    expect(emitted[0]!.vnet.flags).toBe(0);
  });

  it('are of TCP only: UDP is never cut into any, and one that is marked is summed like any other', () => {
    const { count } = cut({
      family: 6,
      udp: true,
      length: 4000,
      size: 1000,
      timestamps: false,
      flags: 0x10,
      sequence: 0,
      identification: 0,
      seed: 7,
    });
    for (let i = 0; i < count; i++) {
      expect(Buffer.compare(pieceOf(open, openTable, i), pieceOf(whole, wholeTable, i))).toBe(0);
    }
    const { emitted, coalescer } = collect();
    open.bytes[openTable[0]! + 60]! ^= 1;
    coalescer.push(open, openTable[0]!, openTable[1]!, true);
    coalescer.flush();
    expect([emitted[0]!.isChecked, emitted[0]!.vnet.flags]).toEqual([false, 0]);
  });

  it('whatever a peer marks comes out whole or not at all', () => {
    const { emitted, coalescer } = collect();
    const header = fc.constantFrom(0x45, 0x46, 0x60, 0x4f);
    fc.assert(
      fc.property(header, fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.boolean(), (first, bytes, isTcp) => {
        emitted.length = 0;
        source.bytes.set(bytes, 8);
        source.bytes[8] = first;
        if (isTcp && bytes.length > 9) source.bytes[8 + (first === 0x60 ? 6 : 9)] = 6;
        if (bytes.length > 5) {
          const size = first === 0x60 ? bytes.length - 40 : bytes.length;
          source.bytes[8 + (first === 0x60 ? 4 : 2)] = size >>> 8;
          source.bytes[8 + (first === 0x60 ? 5 : 3)] = size;
        }
        expect(coalescer.push(source, 8, bytes.length, true)).toBe(Drop.none);
        coalescer.flush();
        expect(emitted.map((one) => one.bytes.length)).toEqual([bytes.length]);
      }),
      { numRuns: 2000 },
    );
  });
});
