import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena } from '../../src/wire/arena.js';
import { type CoalescedPacket, Coalescer } from '../../src/wire/gro.js';
import { segment } from '../../src/wire/gso.js';
import {
  GSO_ECN,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  readVnet,
  VNET_NEEDS_CSUM,
  VnetFields,
} from '../../src/wire/vnet.js';
import { isValid, makePartial, packet, pattern } from './packets.js';

const source = new Arena(70_000);
const target = new Arena(1 << 21);
const table = new Uint32Array(2 * 4096);

interface Emitted {
  readonly bytes: Uint8Array;
  readonly vnet: VnetFields;
  readonly segments: number;
}

function collect(into: Emitted[]): Coalescer {
  return new Coalescer({
    emit(p: CoalescedPacket) {
      const vnet = new VnetFields();
      const at = p.writeVnetHeader();
      readVnet(p.arena.bytes, at, vnet);
      into.push({ bytes: p.arena.bytes.slice(at + 10, at + 10 + p.length), vnet, segments: p.segments });
    },
  });
}

const shapes = fc.record({
  family: fc.constantFrom<4 | 6>(4, 6),
  udp: fc.boolean(),
  length: fc.integer({ min: 2, max: 64_000 }),
  size: fc.integer({ min: 500, max: 9000 }),
  at: fc.integer({ min: 0, max: 7 }),
  timestamps: fc.boolean(),
  flags: fc.constantFrom(0x10, 0x18, 0x11, 0x19, 0x50, 0x90, 0xd8),
  sequence: fc.integer({ min: 0, max: 0xffffffff }),
  identification: fc.integer({ min: 0, max: 0xffff }),
  dontFragment: fc.boolean(),
  trafficClass: fc.integer({ min: 0, max: 255 }),
  seed: fc.integer({ min: 1, max: 1 << 30 }),
});

describe('segment and coalesce', () => {
  it('gives the super-segment back byte by byte, through segments with right checksums', () => {
    fc.assert(
      fc.property(shapes, (s) => {
        const options =
          s.timestamps && !s.udp ? new Uint8Array([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]) : new Uint8Array(0);
        const size = s.udp ? Math.max(s.size, Math.ceil(s.length / 64)) : s.size;
        const length = Math.max(s.length, size + 1);
        const whole = makePartial(packet({ ...s, options, payload: pattern(length, s.seed) }));
        const header = new VnetFields();
        header.flags = VNET_NEEDS_CSUM;
        header.gsoType = s.udp ? GSO_UDP_L4 : s.family === 4 ? GSO_TCPV4 : GSO_TCPV6;
        if (!s.udp && s.flags & 0x80) header.gsoType |= GSO_ECN;
        header.gsoSize = size;
        source.bytes.set(whole, s.at);
        const count = segment(source, s.at, whole.length, header, target, 0, table, 0);
        expect(count).toBe(Math.ceil(length / size));
        const emitted: Emitted[] = [];
        const coalescer = collect(emitted);
        for (let i = 0; i < count; i++) {
          expect(table[i * 2]! % 4).toBe(0);
          const piece = target.bytes.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!);
          expect(isValid(piece)).toBe(true);
          coalescer.push(target, table[i * 2]!, table[i * 2 + 1]!);
        }
        coalescer.flush();
        expect(emitted.length).toBe(1);
        expect(Buffer.compare(emitted[0]!.bytes, whole)).toBe(0);
        expect(emitted[0]!.segments).toBe(count);
        expect(emitted[0]!.vnet.gsoSize).toBe(size);
        expect(emitted[0]!.vnet.gsoType).toBe(header.gsoType);
        expect(emitted[0]!.vnet.flags).toBe(VNET_NEEDS_CSUM);
      }),
      { numRuns: 300 },
    );
  });
});
