import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { instantAt, later, Millis, Seconds } from '../../src/base/time.js';
import { FRAGMENT_HEADER, Fragmenter, REASSEMBLY_PACKETS, Reassembler } from '../../src/tunnel/fragments.js';

const start = instantAt(1_000_000);

function packetOf(length: number, salt = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + salt * 7) & 255);
}

function cut(packet: Uint8Array, room: number, fragmenter = new Fragmenter()): Uint8Array[] {
  const target = new Uint8Array(8192);
  const table = new Uint32Array(16);
  const parts = fragmenter.cut(packet, 0, packet.length, room, target, 0, table, 0);
  if (parts < 0) throw new Error(`not cut: ${parts}`);
  return Array.from({ length: parts }, (_, i) => target.slice(table[i * 2], table[i * 2]! + table[i * 2 + 1]!));
}

describe('fragments', () => {
  it('come together in any order, byte for byte', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4000 }),
        fc.integer({ min: 1050, max: 1500 }),
        fc.infiniteStream(fc.nat()),
        (length, room, order) => {
          const packet = packetOf(length);
          const parts = cut(packet, room).map((part) => ({ part, key: order.next().value as number }));
          expect(parts.length).toBeLessThanOrEqual(4);
          for (const { part } of parts) expect(part.length).toBeLessThanOrEqual(room);
          parts.sort((a, b) => a.key - b.key);
          const reassembler = new Reassembler();
          const results = parts.map(({ part }) => reassembler.add(start, part, 0, part.length));
          expect(results.slice(0, -1).every((result) => result === 0)).toBe(true);
          expect(results.at(-1)).toBe(length);
          expect(reassembler.memory.slice(reassembler.offset, reassembler.offset + length)).toEqual(packet);
        },
      ),
    );
  });

  it('of packets that need more than four parts are not made', () => {
    const target = new Uint8Array(65536);
    const table = new Uint32Array(64);
    const room = 100;
    const most = 4 * (room - FRAGMENT_HEADER);
    const fragmenter = new Fragmenter();
    expect(fragmenter.cut(packetOf(most), 0, most, room, target, 0, table, 0)).toBe(4);
    expect(fragmenter.cut(packetOf(most + 1), 0, most + 1, room, target, 0, table, 0)).toBe(-Drop.too_big);
    expect(fragmenter.cut(packetOf(10), 0, 10, FRAGMENT_HEADER, target, 0, table, 0)).toBe(-Drop.too_big);
  });

  it('that overlap drop the whole packet', () => {
    const [first, second] = cut(packetOf(2000), 1200);
    const reassembler = new Reassembler();
    expect(reassembler.add(start, first!, 0, first!.length)).toBe(0);
    expect(reassembler.add(start, first!, 0, first!.length)).toBe(-Drop.reassembly_overlap);
    expect(reassembler.add(start, second!, 0, second!.length)).toBe(0);
  });

  it('are held for 64 packets and one second, no more; the oldest gives way', () => {
    const fragmenter = new Fragmenter(65530);
    const reassembler = new Reassembler();
    const waiting = Array.from({ length: REASSEMBLY_PACKETS + 1 }, (_, i) => cut(packetOf(2000, i), 1200, fragmenter));
    for (const parts of waiting.slice(0, REASSEMBLY_PACKETS)) {
      expect(reassembler.add(start, parts[0]!, 0, parts[0]!.length)).toBe(0);
    }
    const extra = waiting[REASSEMBLY_PACKETS]!;
    expect(reassembler.displaced).toBe(0);
    expect(reassembler.add(later(start, Millis(1)), extra[0]!, 0, extra[0]!.length)).toBe(0);
    expect(reassembler.displaced).toBe(1);
    expect(reassembler.add(later(start, Millis(1)), extra[1]!, 0, extra[1]!.length)).toBe(2000);
    const oldest = waiting[0]!;
    expect(reassembler.add(later(start, Millis(2)), oldest[1]!, 0, oldest[1]!.length)).toBe(0);
    const inTime = waiting[3]!;
    expect(reassembler.add(later(start, Millis(999)), inTime[1]!, 0, inTime[1]!.length)).toBe(2000);
    const late = waiting[4]!;
    expect(reassembler.add(later(start, Seconds(1)), late[1]!, 0, late[1]!.length)).toBe(0);
    expect(reassembler.expired).toBeGreaterThan(0);
  });

  it('that are random bytes never throw and never make a packet out of bounds', () => {
    const reassembler = new Reassembler();
    let now = start;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), (bytes) => {
        now = later(now, Millis(50));
        const result = reassembler.add(now, bytes, 0, bytes.length);
        if (result > 0) expect(reassembler.offset + result).toBeLessThanOrEqual(reassembler.memory.length);
      }),
      { numRuns: 2000 },
    );
  });
});
