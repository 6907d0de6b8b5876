import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import { segment, segmentPayload } from '../../src/wire/gso.js';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP,
  GSO_UDP_L4,
  VNET_NEEDS_CSUM,
  VnetFields,
} from '../../src/wire/vnet.js';
import { isValid, makePartial, packet, pattern } from './packets.js';

const target = new Arena(200_000);
const table = new Uint32Array(512);

function fields(change: Partial<VnetFields>): VnetFields {
  return Object.assign(new VnetFields(), change);
}

function run(bytes: Uint8Array, header: VnetFields, into = target, at = 0, entries = table, index = 0): number {
  const source = new Arena(bytes.length + 8);
  source.bytes.set(bytes, 4);
  return segment(source, 4, bytes.length, header, into, at, entries, index);
}

const piece = (i: number): Uint8Array => target.bytes.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!);

describe('segment', () => {
  it('numbers segments: sequence and identification wrap, FIN and PSH last, CWR first, length of the rest', () => {
    const bytes = packet({
      family: 4,
      payload: pattern(2500),
      sequence: 0xfffffc00,
      identification: 0xffff,
      flags: 0x80 | 0x40 | 0x19,
    });
    expect(
      run(makePartial(bytes), fields({ gsoType: GSO_TCPV4 | GSO_ECN, gsoSize: 1000, flags: 1 }), target, 5, table, 3),
    ).toBe(3);
    const seen = [3, 4, 5].map(piece).map((p) => {
      const view = new DataView(p.buffer);
      expect(isValid(p)).toBe(true);
      return [view.getUint16(2), view.getUint16(4), view.getUint32(24), p[33]];
    });
    expect(seen).toEqual([
      [1040, 0xffff, 0xfffffc00, 0xd0],
      [1040, 0, 0xfffffc00 + 1000, 0x50],
      [540, 1, (0xfffffc00 + 2000) % 2 ** 32, 0x59],
    ]);
    expect([table[6], table[8], table[10]]).toEqual([8, 1048, 2088]);
  });

  it('cuts UDP into datagrams of their own length', () => {
    for (const family of [4, 6] as const) {
      const bytes = makePartial(packet({ family, udp: true, payload: pattern(2501) }));
      expect(run(bytes, fields({ gsoType: GSO_UDP_L4, gsoSize: 1200, flags: 1 }))).toBe(3);
      const at = family === 4 ? 20 : 40;
      expect([0, 1, 2].map(piece).map((p) => new DataView(p.buffer).getUint16(at + 4))).toEqual([1208, 1208, 109]);
      expect([0, 1, 2].map(piece).every(isValid)).toBe(true);
      expect(Buffer.concat([0, 1, 2].map(piece).map((p) => p.slice(at + 8)))).toEqual(Buffer.from(pattern(2501)));
    }
  });

  it('takes IPv4 options and IPv6 extension headers along', () => {
    const plain = packet({ family: 6, payload: pattern(3000) });
    const bytes = new Uint8Array(plain.length + 8);
    bytes.set(plain.subarray(0, 40));
    bytes.set([6, 0, 1, 4, 0, 0, 0, 0], 40);
    bytes.set(plain.subarray(40), 48);
    bytes[6] = 60;
    new DataView(bytes.buffer).setUint16(4, bytes.length - 40);
    expect(run(bytes, fields({ gsoType: GSO_TCPV6, gsoSize: 1400, csumStart: 48, csumOffset: 16, flags: 1 }))).toBe(3);
    for (const [i, size] of [1400, 1400, 200].entries()) {
      const p = piece(i);
      expect(new DataView(p.buffer).getUint16(4)).toBe(8 + 20 + size);
      expect([...p.slice(40, 48)]).toEqual([6, 0, 1, 4, 0, 0, 0, 0]);
      // Without the extension header it must be a valid plain packet.
      const bare = new Uint8Array([...p.slice(0, 40), ...p.slice(48)]);
      bare[6] = 6;
      new DataView(bare.buffer).setUint16(4, bare.length - 40);
      expect(isValid(bare)).toBe(true);
    }
  });

  it('copies a plain packet, completes a partial one, UDP never to zero', () => {
    const plain = packet({ family: 4, payload: pattern(77) });
    expect(run(plain, fields({}))).toBe(1);
    expect(piece(0)).toEqual(plain);
    for (const family of [4, 6] as const) {
      for (const udp of [false, true]) {
        const whole = packet({ family, udp, payload: pattern(78) });
        const partial = makePartial(whole.slice());
        expect(partial).not.toEqual(whole);
        const csumStart = family === 4 ? 20 : 40;
        expect(run(partial, fields({ flags: VNET_NEEDS_CSUM, csumStart, csumOffset: udp ? 6 : 16 }))).toBe(1);
        expect(piece(0)).toEqual(whole);
      }
    }
    const zero = packet({ family: 4, udp: true, payload: new Uint8Array(2) });
    const view = new DataView(zero.buffer);
    view.setUint16(28, view.getUint16(26));
    const partial = makePartial(zero);
    expect(run(partial, fields({ flags: VNET_NEEDS_CSUM, csumStart: 20, csumOffset: 6 }))).toBe(1);
    expect(new DataView(piece(0).buffer).getUint16(26)).toBe(0xffff);
  });

  it('a super-segment of one segment or none is one packet', () => {
    for (const size of [0, 1, 1000]) {
      const whole = packet({ family: 6, payload: pattern(size) });
      expect(run(makePartial(whole.slice()), fields({ gsoType: GSO_TCPV6, gsoSize: 1000, flags: 1 }))).toBe(1);
      expect(piece(0)).toEqual(whole);
    }
  });

  it('refuses what contradicts itself and what does not fit, without a throw', () => {
    const v4 = packet({ family: 4, payload: pattern(3000) });
    const v6 = packet({ family: 6, payload: pattern(3000) });
    const gso = (gsoType: number, gsoSize = 1000): VnetFields => fields({ gsoType, gsoSize });
    expect(run(v6, gso(GSO_TCPV4))).toBe(-Drop.malformed);
    expect(run(v4, gso(GSO_TCPV6))).toBe(-Drop.malformed);
    expect(run(v4, gso(GSO_UDP_L4))).toBe(-Drop.malformed);
    expect(run(packet({ family: 4, udp: true, payload: pattern(3000) }), gso(GSO_TCPV4))).toBe(-Drop.malformed);
    expect(run(v4, gso(GSO_UDP))).toBe(-Drop.protocol_not_allowed);
    expect(run(v4, gso(GSO_TCPV4, 0))).toBe(-Drop.malformed);
    expect(run(v4.slice(0, 19), gso(GSO_NONE))).toBe(-Drop.bad_length);
    expect(run(v4.slice(0, 39), gso(GSO_TCPV4))).toBe(-Drop.bad_length);
    expect(run(v4, fields({ flags: 1, csumStart: 3030, csumOffset: 16 }))).toBe(-Drop.malformed);
    expect(run(v4, gso(GSO_TCPV4), new Arena(3100))).toBe(-Drop.no_room);
    expect(run(v4, gso(GSO_NONE), new Arena(3000))).toBe(-Drop.no_room);
    expect(run(v4, gso(GSO_TCPV4), target, 0, new Uint32Array(6))).toBe(3);
    expect(run(v4, gso(GSO_TCPV4), target, 0, new Uint32Array(6), 1)).toBe(-Drop.no_room);
    expect(run(v4, gso(GSO_NONE), target, 0, new Uint32Array(6), 3)).toBe(-Drop.no_room);
  });

  it('never throws on random bytes and headers', () => {
    const small = new Arena(4096);
    const entries = new Uint32Array(64);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 120 }),
        fc.constantFrom(0x45, 0x60, 0x4f),
        fc.constantFrom(6, 17, 60),
        fc.constantFrom(0, 1, 4, 5, 0x81, 3, 77),
        fc.nat(200),
        fc.nat(0xffff),
        fc.nat(20),
        (bytes, first, protocol, gsoType, gsoSize, csumStart, csumOffset) => {
          if (bytes.length > 10) {
            bytes[0] = first;
            bytes[first === 0x60 ? 6 : 9] = protocol;
          }
          for (const start of [csumStart, csumStart % 70]) {
            const header = fields({ flags: 1, gsoType, gsoSize, csumStart: start, csumOffset });
            const count = run(bytes, header, small, 0, entries);
            for (let i = 0; i < count; i++)
              expect(entries[i * 2]! + entries[i * 2 + 1]!).toBeLessThanOrEqual(small.size);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('takes headers and payload from different places', () => {
    const whole = packet({ family: 4, payload: pattern(5000), flags: 0x18 });
    const headers = new Arena(whole.slice(0, 40));
    const ring = new Arena(8192);
    ring.bytes.set(pattern(5000), 1001);
    expect(segmentPayload(headers, 0, 20, 40, ring, 1001, 5000, 1360, false, target, 0, table, 0)).toBe(4);
    const separate = [0, 1, 2, 3].map(piece);
    expect(run(whole, fields({ gsoType: GSO_TCPV4, gsoSize: 1360 }))).toBe(4);
    expect(separate).toEqual([0, 1, 2, 3].map(piece));
    expect(segmentPayload(headers, 0, 20, 40, ring, 0, 8000, 65_520, false, target, 0, table, 0)).toBe(1);
    expect(segmentPayload(headers, 0, 20, 40, new Arena(70_000), 0, 66_000, 65_520, false, target, 0, table, 0)).toBe(
      -Drop.too_big,
    );
  });
});
