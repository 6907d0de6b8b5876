/** Payloads that stay where they came from: the pieces that a run names make the very packet that copying makes. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Arena } from '../../src/wire/arena.js';
import { type CoalescedPacket, Coalescer } from '../../src/wire/gro.js';
import { MOST_PIECES } from '../../src/wire/gro-flow.js';
import { readVnet, VnetFields } from '../../src/wire/vnet.js';
import { packet, pattern } from './packets.js';

const STRIDE = 4096;
const SAME = new Array<string>(16).fill('same');
const source = new Arena(64 * STRIDE);
/** Written over by every packet. */
const passing = new Arena(STRIDE);

interface Emitted {
  readonly what: string;
  readonly segments: number;
  readonly pieces: number;
}

function emitter(out: Emitted[]): { emit(one: CoalescedPacket): void } {
  return {
    emit: (one) => {
      const vnet = new VnetFields();
      readVnet(one.arena.bytes, one.writeVnetHeader(), vnet);
      const parts = [one.arena.bytes.subarray(one.offset, one.offset + one.head)];
      for (let i = 0; i < one.pieceCount * 2; i += 2) {
        parts.push(one.source!.bytes.subarray(one.pieces[i]!, one.pieces[i]! + one.pieces[i + 1]!));
      }
      const bytes = Buffer.concat(parts);
      expect(bytes.length).toBe(one.length);
      // An ICMP error, at most 1280 bytes long, quotes at most 1232 of them: all are this packet’s own.
      expect(one.head).toBeGreaterThanOrEqual(Math.min(one.length, 1232));
      expect(one.pieceCount).toBeLessThanOrEqual(MOST_PIECES);
      out.push({
        what: `${one.checked} ${JSON.stringify(vnet)} ${bytes.toString('hex')}`,
        segments: one.segments,
        pieces: one.pieceCount,
      });
    },
  };
}

const packets = fc
  .record({
    family: fc.constantFrom<4 | 6>(4, 6),
    udp: fc.boolean(),
    size: fc.constantFrom(100, 1231, 1232, 1348, 3000),
    sizes: fc.array(fc.constantFrom(...SAME, 'short', 'flip', 'gap', 'other port'), { minLength: 1, maxLength: 60 }),
    seed: fc.integer({ min: 1, max: 1 << 20 }),
  })
  .map(({ family, udp, size, sizes, seed }) => {
    let sequence = seed;
    return sizes.map((kind, i) => {
      const length = kind === 'short' ? size >>> 1 : size;
      if (kind === 'gap') sequence += 7;
      const bytes = packet({
        family,
        udp,
        payload: pattern(length, seed + i),
        sequence: sequence >>> 0,
        identification: (100 + i) & 0xffff,
        ...(kind === 'other port' ? { sourcePort: 1234 } : {}),
      });
      sequence += length;
      if (kind === 'flip') bytes[bytes.length - 1]! ^= 1;
      return bytes;
    });
  });

test('come out as if they had been copied', () => {
  let gathered = 0;
  fc.assert(
    fc.property(packets, fc.boolean(), (all, isOpen) => {
      const [copies, pieces]: [Emitted[], Emitted[]] = [[], []];
      const copying = new Coalescer(emitter(copies));
      const gathering = new Coalescer(emitter(pieces), { lasting: source });
      all.forEach((bytes, i) => {
        source.bytes.set(bytes, i * STRIDE + 4);
        for (const one of [copying, gathering]) one.push(source, i * STRIDE + 4, bytes.length, isOpen);
      });
      for (const one of [copying, gathering]) one.flush();
      expect(pieces.map(({ what, segments }) => [what, segments])).toEqual(
        copies.map(({ what, segments }) => [what, segments]),
      );
      gathered += pieces.reduce((sum, one) => sum + one.pieces, 0);
    }),
    { numRuns: 300 },
  );
  expect(gathered).toBeGreaterThan(300);
});

test('of memory that does not last are copied, whatever came before them', () => {
  fc.assert(
    fc.property(packets, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), (all, lasts) => {
      const out: Emitted[] = [];
      const coalescer = new Coalescer(emitter(out), { lasting: source });
      all.forEach((bytes, i) => {
        const [arena, offset] = lasts[i]! ? [source, i * STRIDE + 4] : [passing, 4];
        arena.bytes.set(bytes, offset);
        coalescer.push(arena, offset, bytes.length);
        passing.bytes.fill(0xee);
      });
      coalescer.flush();
      const text = out.map(({ what }) => what).join('');
      for (const bytes of all) {
        const payload = Buffer.from(bytes.subarray(bytes.length - 40)).toString('hex');
        expect(text).toContain(payload);
      }
      expect(out.reduce((sum, one) => sum + one.segments, 0)).toBe(all.length);
    }),
    { numRuns: 200 },
  );
});
