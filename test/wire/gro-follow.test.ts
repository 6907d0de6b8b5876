/** The short way into a run, by words, does what the long one does: it is taken at multiples of 4 only. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Arena } from '../../src/wire/arena.js';
import { Coalescer } from '../../src/wire/gro.js';
import { readVnet, VnetFields } from '../../src/wire/vnet.js';
import { packet, pattern } from './packets.js';

const SIZE = 400;
const source = new Arena(8192);

const shapes = fc.record({
  /** What is not as in the packet before it, if anything. */
  change: fc.option(
    fc.constantFrom(
      'hopLimit',
      'trafficClass',
      'acknowledgment',
      'window',
      'flags',
      'sequence',
      'port',
      'options',
      'flip',
      'id',
    ),
    { freq: 4 },
  ),
  value: fc.integer({ min: 1, max: 255 }),
  size: fc.oneof(
    { weight: 6, arbitrary: fc.constant(SIZE) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 500 }) },
  ),
});

it('emits the same at every alignment, whatever comes', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<4 | 6>(4, 6),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      fc.array(shapes, { minLength: 1, maxLength: 60 }),
      (family, udp, dontFragment, isOpen, list) => {
        let sequence = 0xffff_f000;
        let identification = 0xfff8;
        const packets = list.map(({ change, value, size }) => {
          const bytes = packet({
            family,
            udp,
            dontFragment,
            payload: pattern(size, value),
            sequence: (sequence + (change === 'sequence' ? value : 0)) >>> 0,
            identification: change === 'id' ? value : identification,
            ...(change === 'hopLimit' ? { hopLimit: value } : {}),
            ...(change === 'trafficClass' ? { trafficClass: value } : {}),
            ...(change === 'acknowledgment' ? { acknowledgment: value } : {}),
            ...(change === 'window' ? { window: value } : {}),
            ...(change === 'flags' ? { flags: value } : {}),
            ...(change === 'port' ? { sourcePort: 1000 + (value & 1) } : {}),
            ...(change === 'options' ? { options: new Uint8Array([1, 1, 1, value]) } : {}),
          });
          sequence = (sequence + size) >>> 0;
          identification = (identification + 1) & 0xffff;
          if (change === 'flip') bytes[(value * 7) % Math.min(bytes.length, 64)]! ^= 1;
          return bytes;
        });
        expect(emitted(packets, 8, isOpen)).toEqual(emitted(packets, 10, isOpen));
      },
    ),
    { numRuns: 500 },
  );
});

function emitted(packets: readonly Uint8Array[], offset: number, isOpen: boolean): string[] {
  const out: string[] = [];
  const coalescer = new Coalescer({
    emit: (one) => {
      const vnet = new VnetFields();
      readVnet(one.arena.bytes, one.writeVnetHeader(), vnet);
      const bytes = Buffer.from(one.arena.bytes.subarray(one.offset, one.offset + one.length)).toString('hex');
      out.push(`${one.segments} ${one.checked} ${JSON.stringify(vnet)} ${bytes}`);
    },
  });
  for (const bytes of packets) {
    source.bytes.set(bytes, offset);
    coalescer.push(source, offset, bytes.length, isOpen);
  }
  coalescer.flush();
  return out;
}
