import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena, copyBytes } from '../../src/wire/arena.js';
import * as checksum from '../../src/wire/checksum.js';
import { slowSum } from './packets.js';

/** The example of RFC 1071 §3: its words sum to 0xddf2. */
const RFC_1071 = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
/** A real IPv4 header with checksum 0xb861 (a widely published example). */
const HEADER = [69, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

const range = fc.record({
  data: fc.uint8Array({ maxLength: 300 }),
  at: fc.integer({ min: 0, max: 9 }),
  to: fc.integer({ min: 0, max: 9 }),
});

function arenaWith(data: Uint8Array, at: number): Arena {
  const arena = new Arena(1024);
  arena.bytes.fill(0xa5);
  arena.bytes.set(data, at);
  return arena;
}

describe('checksum', () => {
  it('matches the vectors', () => {
    const arena = arenaWith(new Uint8Array(RFC_1071), 0);
    expect(checksum.fold(checksum.sumRange(arena, 0, 8))).toBe(0xddf2);
    expect(checksum.fold(checksum.sumBytes(arena.bytes, 0, 8))).toBe(0xddf2);
    expect(checksum.finish(checksum.sumRange(arena, 0, 8))).toBe(0x220d);
    const header = new Uint8Array(HEADER);
    expect(checksum.ipv4HeaderIntact(header, 0)).toBe(true);
    header[10] = 7;
    expect(checksum.ipv4HeaderIntact(header, 0)).toBe(false);
    checksum.writeIpv4Checksum(header, 0);
    expect([...header]).toEqual(HEADER);
  });

  it('equals the slow sum at every alignment, by words, by bytes and while copying', () => {
    fc.assert(
      fc.property(range, ({ data, at, to }) => {
        const arena = arenaWith(data, at);
        const want = slowSum(data, 0, data.length);
        expect(checksum.fold(checksum.sumRange(arena, at, data.length))).toBe(want);
        expect(checksum.fold(checksum.sumBytes(arena.bytes, at, data.length))).toBe(want);
        const target = arenaWith(new Uint8Array(0), 0);
        expect(checksum.fold(checksum.copyAndSum(arena, at, target, to, data.length))).toBe(want);
        expect(Buffer.compare(target.bytes.subarray(to, to + data.length), data)).toBe(0);
        expect(target.bytes[to + data.length]).toBe(0xa5);
        if (to > 0) expect(target.bytes[to - 1]).toBe(0xa5);
        const copy = arenaWith(new Uint8Array(0), 0);
        copyBytes(arena, at, copy, to, data.length);
        expect(Buffer.compare(copy.bytes, target.bytes)).toBe(0);
      }),
      { numRuns: 500 },
    );
  });

  it('sums of consecutive ranges add up, and long ones do not lose carries', () => {
    const arena = new Arena(65_536);
    arena.bytes.fill(0xff);
    expect(checksum.fold(checksum.sumRange(arena, 0, 65_536))).toBe(0xffff);
    arena.bytes.forEach((_, i) => {
      arena.bytes[i] = (i * 7) ^ (i >> 5);
    });
    const want = slowSum(arena.bytes, 0, 65_535);
    for (const cut of [2, 1000, 1002, 65_534]) {
      const sum = checksum.sumRange(arena, cut, 65_535 - cut, checksum.sumRange(arena, 0, cut));
      expect(checksum.fold(sum)).toBe(want);
    }
    expect(checksum.fold(checksum.sumRange(arena, 1, 65_535))).toBe(slowSum(arena.bytes, 1, 65_535));
  });

  it('updates incrementally to what a full computation gives', () => {
    const words = fc.uint8Array({ minLength: 24, maxLength: 24 });
    fc.assert(
      fc.property(words, fc.nat(0xffff), fc.nat(0xffffffff), (data, word, long) => {
        const view = new DataView(data.buffer, data.byteOffset);
        data[0] = 1;
        const before = ~slowSum(data, 0, 24) & 0xffff;
        const old16 = view.getUint16(6);
        view.setUint16(6, word);
        const middle = checksum.updateChecksum(before, old16, word);
        expect(middle).toBe(~slowSum(data, 0, 24) & 0xffff);
        const old32 = view.getUint32(10);
        view.setUint32(10, long);
        expect(checksum.updateChecksum32(middle, old32, long)).toBe(~slowSum(data, 0, 24) & 0xffff);
      }),
    );
  });

  it('never sends zero for UDP, and knows an intact sum', () => {
    expect(checksum.finish(0xffff)).toBe(0);
    expect(checksum.finishUdp(0xffff)).toBe(0xffff);
    expect(checksum.finishUdp(1)).toBe(0xfffe);
    expect([checksum.isIntact(0xffff), checksum.isIntact(0x1fffe), checksum.isIntact(0xfffe)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(checksum.fold(0)).toBe(0);
    expect(checksum.swap16(0x1234)).toBe(0x3412);
  });

  it('an arena over foreign memory sees the same bytes, and refuses memory it cannot align', () => {
    const memory = new Uint8Array(64);
    const arena = new Arena(memory.subarray(8, 41));
    arena.bytes[4] = 9;
    expect([arena.words[1], memory[12], arena.words.length, arena.size]).toEqual([9, 9, 8, 33]);
    expect(() => new Arena(memory.subarray(1))).toThrow(RangeError);
  });
});
