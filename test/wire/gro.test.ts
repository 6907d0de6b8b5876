import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import { Coalescer, type CoalescerOptions } from '../../src/wire/gro.js';
import { segment } from '../../src/wire/gso.js';
import { GSO_TCPV4, GSO_UDP_L4, readVnet, VNET_DATA_VALID, VNET_NEEDS_CSUM, VnetFields } from '../../src/wire/vnet.js';
import { fixChecksums, packet, pattern, type TcpShape } from './packets.js';

interface Emitted {
  readonly bytes: Uint8Array;
  readonly segments: number;
  readonly checked: boolean;
  readonly vnet: VnetFields;
}

/** Feeds packets, flushes once at the end, and gives what came out. */
function coalesce(packets: Uint8Array[], options?: CoalescerOptions): Emitted[] {
  const out: Emitted[] = [];
  const coalescer = new Coalescer(
    {
      emit(p) {
        const vnet = new VnetFields();
        readVnet(p.arena.bytes, p.writeVnetHeader(), vnet);
        expect(p.offset % 4).toBe(0);
        out.push({
          bytes: p.arena.bytes.slice(p.offset, p.offset + p.length),
          segments: p.segments,
          checked: p.checked,
          vnet,
        });
      },
    },
    options,
  );
  for (const bytes of packets) {
    const source = new Arena(bytes.length + 4);
    source.bytes.set(bytes, 4);
    expect(coalescer.push(source, 4, bytes.length)).toBe(Drop.none);
  }
  coalescer.flush();
  return out;
}

/** `count` segments of `size` bytes in sequence. */
function run(count: number, size: number, shape: Partial<TcpShape> = {}): Uint8Array[] {
  return Array.from({ length: count }, (_, i) =>
    packet({
      family: 4,
      payload: pattern(size, i + 1),
      sequence: 1000 + i * size,
      identification: 100 + i,
      ...shape,
    }),
  );
}

const counts = (emitted: Emitted[]): number[] => emitted.map((e) => e.segments);

describe('Coalescer', () => {
  it('joins a run, with the header that a TUN device needs', () => {
    const [whole, ...rest] = coalesce(run(4, 1000));
    expect(rest).toEqual([]);
    expect(whole!.segments).toBe(4);
    expect(whole!.vnet).toMatchObject({
      flags: VNET_NEEDS_CSUM,
      gsoType: GSO_TCPV4,
      gsoSize: 1000,
      headerLength: 40,
      csumStart: 20,
      csumOffset: 16,
    });
    expect(whole!.bytes.length).toBe(4040);
    expect(coalesce(run(3, 500, { udp: true }))[0]!.vnet).toMatchObject({
      gsoType: GSO_UDP_L4,
      gsoSize: 500,
      headerLength: 28,
      csumStart: 20,
      csumOffset: 6,
    });
  });

  it('leaves a lone packet as it came, vouched for when verified', () => {
    const bytes = packet({ family: 6, payload: pattern(100) });
    const [one] = coalesce([bytes]);
    expect(one!.bytes).toEqual(bytes);
    expect([one!.checked, one!.vnet.flags, one!.vnet.gsoType]).toEqual([true, VNET_DATA_VALID, 0]);
    const wrong = bytes.slice();
    wrong[70]! ^= 1;
    const [bad] = coalesce([wrong]);
    expect(bad!.bytes).toEqual(wrong);
    expect([bad!.checked, bad!.vnet.flags]).toEqual([false, 0]);
  });

  it('a difference in any field that must be equal ends the run, and nothing is lost', () => {
    const later = (change: Partial<TcpShape>): Uint8Array[] => {
      const [a, b] = run(2, 1000);
      const c = packet({ family: 4, payload: pattern(1000, 3), sequence: 3000, identification: 102, ...change });
      const d = packet({ family: 4, payload: pattern(1000, 4), sequence: 4000, identification: 103, ...change });
      return [a!, b!, c, d];
    };
    expect(counts(coalesce(later({})))).toEqual([4]);
    const changes: Partial<TcpShape>[] = [
      { acknowledgment: 78 },
      { window: 503 },
      { hopLimit: 63 },
      { trafficClass: 3 },
      { flags: 0x50 },
      { dontFragment: false },
      { options: new Uint8Array([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]) },
    ];
    for (const change of changes) {
      const packets = later(change);
      const emitted = coalesce(packets);
      expect([change, counts(emitted)]).toEqual([change, [2, 2]]);
    }
    expect(counts(coalesce(later({ sequence: 9000 })))).toEqual([2, 1, 1]);
    expect(counts(coalesce(later({ sourcePort: 7 })))).toEqual([2, 2]);
    expect(counts(coalesce(later({ flags: 0x90 })))).toEqual([2, 1, 1]);
  });

  it('timestamps must be equal; IPv6 flow labels too', () => {
    const stamp = (n: number): Uint8Array => new Uint8Array([1, 1, 8, 10, 0, 0, 0, n, 0, 0, 0, 2]);
    const packets = [1, 1, 2].map((n, i) =>
      packet({ family: 6, payload: pattern(400), sequence: i * 400, options: stamp(n) }),
    );
    expect(counts(coalesce(packets))).toEqual([2, 1]);
    const labels = run(3, 400, { family: 6 });
    labels[2]![3] = 9;
    expect(counts(coalesce(labels))).toEqual([2, 1]);
  });

  it('identification must count up where fragmentation is allowed, and is free with DF', () => {
    expect(counts(coalesce(run(3, 800, { dontFragment: false })))).toEqual([3]);
    expect(counts(coalesce(run(3, 800, { dontFragment: false, identification: 5 })))).toEqual([1, 1, 1]);
    expect(counts(coalesce(run(3, 800, { dontFragment: true, identification: 0 })))).toEqual([3]);
  });

  it('PSH, FIN and a shorter payload end a run; a longer one begins another', () => {
    const sizes = (...list: number[]): Uint8Array[] => {
      let sequence = 0;
      return list.map((size) => {
        const bytes = packet({ family: 4, payload: pattern(size), sequence });
        sequence += size;
        return bytes;
      });
    };
    expect(counts(coalesce(sizes(900, 900, 300, 900, 900)))).toEqual([3, 2]);
    expect(counts(coalesce(sizes(300, 900, 900)))).toEqual([1, 2]);
    for (const flags of [0x18, 0x11]) {
      const packets = run(5, 700);
      packets[1] = packet({ family: 4, payload: pattern(700, 2), sequence: 1700, identification: 101, flags });
      const emitted = coalesce(packets);
      expect(counts(emitted)).toEqual([2, 3]);
      expect([emitted[0]!.bytes[33], emitted[1]!.bytes[33]]).toEqual([flags, 0x10]);
    }
  });

  it('joins no packet with a wrong checksum, and does not repair it', () => {
    for (const at of [10, 25, 36, 600]) {
      const packets = run(4, 1000);
      packets[2]![at]! ^= 0x40;
      const emitted = coalesce(packets);
      const bad = emitted.find(
        (e) => e.bytes.length === packets[2]!.length && Buffer.compare(e.bytes, packets[2]!) === 0,
      );
      expect(bad).toMatchObject({ checked: false, segments: 1 });
      expect(counts(emitted).reduce((a, b) => a + b)).toBe(4);
    }
  });

  it('pure ACKs, SYNs, RSTs, URG, options, fragments and strangers go through as they are, behind their flow', () => {
    const special: Uint8Array[] = [
      packet({ family: 4, payload: pattern(0), sequence: 3000 }),
      packet({ family: 4, payload: pattern(5), sequence: 3000, flags: 0x12 }),
      packet({ family: 4, payload: pattern(5), sequence: 3000, flags: 0x14 }),
      packet({ family: 4, payload: pattern(5), sequence: 3000, flags: 0x30 }),
    ];
    const fragment = packet({ family: 4, payload: pattern(8), sequence: 3000, dontFragment: false });
    fragment[6] = 0x20;
    special.push(fragment);
    special.push(new Uint8Array([0x45, 1, 2, 3]), new Uint8Array([9]));
    const reserved = packet({ family: 4, payload: pattern(1000, 3), sequence: 3000 });
    reserved[32]! |= 2;
    fixChecksums(reserved);
    special.push(reserved);
    for (const bytes of special) {
      const emitted = coalesce([...run(2, 1000), bytes]);
      expect(counts(emitted)).toEqual([2, 1]);
      expect(emitted[1]!.bytes).toEqual(bytes);
      expect(emitted[1]!.checked).toBe(false);
    }
  });

  it('segments with the AE flag join as long as the counter in the flags is the same and CWR is not part of it', () => {
    const accurate = (flags: number, sequence: number): Uint8Array => {
      const bytes = packet({ family: 4, payload: pattern(1000), sequence, flags: flags & 255 });
      bytes[32]! |= flags >> 8;
      fixChecksums(bytes);
      return bytes;
    };
    expect(counts(coalesce([accurate(0x150, 0), accurate(0x150, 1000)]))).toEqual([2]);
    expect(counts(coalesce([accurate(0x150, 0), accurate(0x050, 1000)]))).toEqual([1, 1]);
    expect(counts(coalesce([accurate(0x150, 0), accurate(0x110, 1000)]))).toEqual([1, 1]);
    expect(counts(coalesce([accurate(0x190, 0), accurate(0x190, 1000)]))).toEqual([1, 1]);
    expect(counts(coalesce([accurate(0x190, 0), accurate(0x110, 1000)]))).toEqual([1, 1]);
  });

  it('a later fragment, which has no ports, does not overtake what came before it', () => {
    const fragment = packet({ family: 4, udp: true, payload: pattern(16), dontFragment: false });
    fragment[7] = 100;
    const emitted = coalesce([...run(2, 600, { udp: true }), fragment]);
    expect(counts(emitted)).toEqual([2, 1]);
    expect(emitted[1]!.bytes).toEqual(fragment);
  });

  it('UDP: no checksum, surplus bytes or an empty payload do not join; nothing does when switched off', () => {
    const zero = run(2, 300, { udp: true });
    for (const bytes of zero) bytes[26] = bytes[27] = 0;
    expect(counts(coalesce(zero))).toEqual([1, 1]);
    expect(counts(coalesce(run(2, 0, { udp: true })))).toEqual([1, 1]);
    expect(counts(coalesce(run(2, 300, { udp: true }), { udp: false }))).toEqual([1, 1]);
    expect(counts(coalesce(run(70, 300, { udp: true })))).toEqual([64, 6]);
  });

  it('keeps several flows apart while they interleave, and gives up the oldest when there are too many', () => {
    const flows = Array.from({ length: 9 }, (_, host) => run(6, 900, { host: host + 1 }));
    const interleaved = (n: number): Uint8Array[] =>
      Array.from({ length: 6 }, (_, i) => flows.slice(0, n).map((f) => f[i]!)).flat();
    expect(counts(coalesce(interleaved(8)))).toEqual(new Array<number>(8).fill(6));
    expect(counts(coalesce(interleaved(9))).reduce((a, b) => a + b)).toBe(54);
    expect(counts(coalesce(interleaved(3), { flows: 3 }))).toEqual([6, 6, 6]);
  });

  it('a super-segment ends at 65,535 bytes', () => {
    const emitted = coalesce(run(60, 1400));
    expect(emitted.map((e) => e.bytes.length)).toEqual([46 * 1400 + 40, 14 * 1400 + 40]);
    expect(coalesce([]).length).toBe(0);
  });

  it('refuses what no slot can hold', () => {
    const coalescer = new Coalescer({ emit: () => expect.unreachable() });
    expect(coalescer.push(new Arena(70_000), 0, 65_536)).toBe(Drop.bad_length);
    expect(coalescer.push(new Arena(8), 0, 0)).toBe(Drop.bad_length);
  });

  it('delivers every byte of every flow in order, whatever comes', () => {
    const step = fc.record({
      host: fc.integer({ min: 1, max: 11 }),
      family: fc.constantFrom<4 | 6>(4, 6),
      udp: fc.boolean(),
      size: fc.constantFrom(0, 1, 400, 400, 400, 401),
      flags: fc.constantFrom(0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x12, 0x90),
      gap: fc.constantFrom(0, 0, 0, 0, 0, 5),
      corrupt: fc.constantFrom(false, false, false, false, false, true),
    });
    const target = new Arena(1 << 20);
    const table = new Uint32Array(512);
    const flowOf = (bytes: Uint8Array): string => {
      const isV4 = bytes[0]! >>> 4 === 4;
      return `${bytes[0]! >>> 4} ${isV4 ? bytes[9] : bytes[6]} ${isV4 ? bytes[15] : bytes[23]}`;
    };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const next = new Map<string, number>();
        const packets = steps.map((s, i) => {
          const key = `${s.host} ${s.family} ${s.udp}`;
          const sequence = (next.get(key) ?? 0) + s.gap;
          next.set(key, sequence + s.size);
          const bytes = packet({
            ...s,
            sequence,
            identification: i,
            payload: pattern(s.size, i + 1),
            dontFragment: true,
          });
          if (s.corrupt) bytes[bytes.length - 1]! ^= 1;
          return bytes;
        });
        const want = new Map<string, Uint8Array[]>();
        for (const bytes of packets) want.set(flowOf(bytes), [...(want.get(flowOf(bytes)) ?? []), bytes]);
        const got = new Map<string, Uint8Array[]>();
        for (const { bytes, vnet } of coalesce(packets)) {
          const source = new Arena(bytes.slice());
          const count = segment(source, 0, bytes.length, vnet, target, 0, table, 0);
          const pieces = Array.from({ length: count }, (_, i) =>
            target.bytes.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!),
          );
          got.set(flowOf(bytes), [...(got.get(flowOf(bytes)) ?? []), ...pieces]);
        }
        // With DF the identification means nothing, and segments number it anew.
        const plain = (list: Uint8Array[]): string[] =>
          list.map((bytes) => {
            const copy = bytes.slice();
            if (copy[0]! >>> 4 === 4) copy[4] = copy[5] = copy[10] = copy[11] = 0;
            return Buffer.from(copy).toString('hex');
          });
        expect([...got.keys()].sort()).toEqual([...want.keys()].sort());
        for (const [key, list] of want) expect(plain(got.get(key)!)).toEqual(plain(list));
      }),
      { numRuns: 300 },
    );
  });
});
