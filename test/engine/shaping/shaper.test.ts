/** Lanes in virtual time: order, rate and burst whatever the jitter; rings that grow within what all share. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Instant, instantAt, Millis } from '../../../src/base/time.js';
import { DelayRing, SharedMemory } from '../../../src/engine/shaping/delay-ring.js';
import { type FlowShape, sameShape } from '../../../src/engine/shaping/rate.js';
import { type Lane, Shaper } from '../../../src/engine/shaping/shaper.js';

const at = (millis: number): Instant => instantAt(millis * 1000);
const shape = (more: Partial<FlowShape>): FlowShape => ({
  up: Number.POSITIVE_INFINITY,
  down: Number.POSITIVE_INFINITY,
  latency: Millis(0),
  jitter: Millis(0),
  key: undefined,
  ...more,
});
const make = (shapedBytes = 1e6): Shaper => new Shaper({ shapedFlowBytes: 65_536, shapedBytes }, new SeededEntropy(5));

/** One lane whose datagrams are told with the time they left at. */
function laneOf(shaper: Shaper, of: FlowShape): { lane: Lane; left: [number, number][] } {
  const left: [number, number][] = [];
  const { up: lane } = shaper.lanes(
    of,
    false,
    (now) => {
      while ((lane.ring.firstDue() ?? Number.POSITIVE_INFINITY) <= now) {
        left.push([now / 1000, lane.ring.bytes[lane.ring.firstOffset]!]);
        lane.ring.consume(lane.ring.firstLength);
      }
      lane.arm();
    },
    () => {},
  );
  return { lane, left };
}

function drain(shaper: Shaper): void {
  for (let due = shaper.nextDue(); due !== undefined; due = shaper.nextDue()) shaper.expire(due);
}

const bytes = (tag: number, length: number): Uint8Array => new Uint8Array(length).fill(tag);

describe('Shaper', () => {
  it('holds back by latency, and by rate after a burst', () => {
    const shaper = make();
    const slow = laneOf(shaper, shape({ latency: Millis(50) }));
    const narrow = laneOf(shaper, shape({ up: 100_000 }));
    for (let i = 0; i < 2; i++) slow.lane.hold(at(i), bytes(i, 1000), 0, 1000);
    for (let i = 0; i < 8; i++) narrow.lane.hold(at(0), bytes(i, 1000), 0, 1000);
    shaper.expire(at(-1));
    expect([slow.left, narrow.left]).toEqual([[], []]);
    drain(shaper);
    expect(slow.left).toEqual([
      [50, 0],
      [51, 1],
    ]);
    // 50 ms of the rate at once, then 10 ms each.
    expect(narrow.left.map(([when]) => when)).toEqual([0, 0, 0, 0, 0, 10, 20, 30]);
  });

  it('shares the rates of a key, each direction by itself, and begins anew when they are others', () => {
    const shaper = make();
    const [first, second] = [1, 2].map(() => laneOf(shaper, shape({ up: 100_000, key: 'a' })));
    const other = laneOf(shaper, shape({ up: 100_000, key: 'b' }));
    for (const { lane } of [first!, second!, other])
      for (let i = 0; i < 5; i++) lane.hold(at(0), bytes(i, 1000), 0, 1000);
    drain(shaper);
    expect([first, second, other].map((one) => one!.left.at(-1)![0])).toEqual([0, 50, 0]);
    const faster = laneOf(shaper, shape({ up: 1e6, key: 'a' }));
    faster.lane.hold(at(10), bytes(0, 1000), 0, 1000);
    drain(shaper);
    // The old bucket is paid at 50 ms.
    expect(faster.left).toEqual([[10, 0]]);
  });

  it('adds jitter at random, up to all of it', () => {
    const shaper = make();
    const late: number[] = [];
    for (let i = 0; i < 100; i++) {
      const { lane, left } = laneOf(shaper, shape({ latency: Millis(20), jitter: Millis(40) }));
      lane.hold(at(0), bytes(0, 10), 0, 10);
      drain(shaper);
      late.push(left[0]![0]);
    }
    expect(Math.min(...late)).toBeGreaterThanOrEqual(20);
    expect(Math.max(...late)).toBeLessThanOrEqual(60);
    expect(late.filter((when) => when < 30).length).toBeGreaterThan(10);
    expect(late.filter((when) => when > 50).length).toBeGreaterThan(10);
  });

  it('saves up no more than one burst, however long nothing came', () => {
    const shaper = make();
    const { lane, left } = laneOf(shaper, shape({ up: 100_000 }));
    lane.hold(at(0), bytes(0, 1000), 0, 1000);
    drain(shaper);
    for (let i = 1; i <= 7; i++) lane.hold(at(60_000), bytes(i, 1000), 0, 1000);
    drain(shaper);
    expect(left.slice(1).map(([when]) => when - 60_000)).toEqual([0, 0, 0, 0, 0, 10, 20]);
  });

  it('remembers 4,096 keys, and forgets the oldest', () => {
    const shaper = make();
    const first = () => laneOf(shaper, shape({ up: 100_000, key: 'first' }));
    const use = (): number => {
      const { lane, left } = first();
      for (let i = 0; i < 6; i++) lane.hold(at(0), bytes(i, 1000), 0, 1000);
      drain(shaper);
      return left[0]![0];
    };
    expect([use(), use()]).toEqual([0, 20]);
    for (let i = 1; i < 4096; i++) laneOf(shaper, shape({ up: 100_000, key: `${i}` }));
    expect(use()).toBe(80);
    laneOf(shaper, shape({ up: 100_000, key: 'one more' }));
    expect(use()).toBe(0);
  });

  it('lets of a stream wait what its rate carries in its latency and a tenth of a second, in pieces of 10 ms', () => {
    const of = (more: Partial<FlowShape>) => {
      const { lane } = laneOf(make(), shape(more));
      return [lane.limit, lane.piece];
    };
    expect(of({ up: 1e6 })).toEqual([100_000, 10_000]);
    expect(of({ up: 1e6, latency: Millis(300), jitter: Millis(50) })).toEqual([450_000, 10_000]);
    expect(of({ up: 1000, latency: Millis(300) })).toEqual([16_384, 1400]);
    expect(of({})).toEqual([Number.POSITIVE_INFINITY, 65_536]);
  });

  it('gives an empty datagram a byte, so that it takes no other one’s place', () => {
    const shaper = make();
    const { lane } = laneOf(shaper, shape({ latency: Millis(10) }));
    expect(lane.hold(at(0), bytes(0, 0), 0, 0)).toBe(true);
    const { used } = shaper.memory;
    expect(lane.hold(at(0), bytes(1, 1000), 0, 1000)).toBe(true);
    expect(shaper.memory.used).toBe(used);
  });

  it('never lets a record overtake another of its lane, never exceeds rate and burst, whatever the jitter', () => {
    const arrival = fc.record({ wait: fc.nat(30), length: fc.integer({ min: 1, max: 1500 }), lane: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 150 }), fc.nat(200), (arrivals, jitter) => {
        const shaper = make();
        const of = shape({ up: 500_000, latency: Millis(20), jitter: Millis(jitter), key: 'all' });
        const lanes = [0, 1, 2].map(() => laneOf(shaper, of));
        const sent: number[][] = [[], [], []];
        const total: [number, number][] = [];
        let now = 0;
        for (const [i, { wait, length, lane }] of arrivals.entries()) {
          now += wait;
          shaper.expire(at(now));
          if (lanes[lane]!.lane.hold(at(now), bytes(i, length), 0, length)) sent[lane]!.push(i);
        }
        drain(shaper);
        for (const [i, { left }] of lanes.entries()) {
          expect(left.map(([, tag]) => tag)).toEqual(sent[i]);
          for (const [when, tag] of left) total.push([when, arrivals[tag]!.length]);
        }
        let passed = 0;
        for (const [when, length] of total.sort((a, b) => a[0] - b[0])) {
          passed += length;
          expect(passed).toBeLessThanOrEqual(25_000 + 500 * (when + 1));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('drops datagrams that would wait half a second for their rate, and those that find no memory', () => {
    const roomy = laneOf(make(), shape({ up: 10_000 }));
    // A burst of 3 kB, then half a second of 10 kB/s.
    const kept = Array.from({ length: 20 }, (_, i) => roomy.lane.hold(at(0), bytes(i, 1000), 0, 1000));
    expect(kept.filter(Boolean)).toHaveLength(8);
    const shaper = make(10_000);
    const narrow = laneOf(shaper, shape({ up: 10_000 }));
    const held = Array.from({ length: 20 }, (_, i) => narrow.lane.hold(at(0), bytes(i, 1000), 0, 1000));
    expect(held.filter(Boolean)).toHaveLength(8);
    const late = laneOf(shaper, shape({ latency: Millis(100) }));
    const more = Array.from({ length: 20 }, (_, i) => late.lane.hold(at(0), bytes(i, 1000), 0, 1000));
    expect(more.filter(Boolean).length).toBeLessThan(10);
    expect(shaper.memory.used).toBeLessThanOrEqual(10_000);
    drain(shaper);
    expect(narrow.left.map(([, tag]) => tag)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const { lane } of [narrow, late]) lane.close();
    expect([shaper.memory.used, shaper.nextDue()]).toEqual([0, undefined]);
  });
});

test.each([
  ['up', 1],
  ['down', 1],
  ['latency', Millis(1)],
  ['jitter', Millis(1)],
  ['loss', 0.1],
  ['key', 'k'],
] as const)('two shapes that differ in %s are not the same', (field, value) => {
  const one = shape({});
  expect([sameShape(one, shape({ loss: 0 })), sameShape(one, { ...one, [field]: value })]).toEqual([true, false]);
});

describe('DelayRing', () => {
  it('gives back every byte in order, however records are cut, and stays within its bounds', () => {
    const step = fc.record({ want: fc.integer({ min: 0, max: 900 }), whole: fc.boolean(), takes: fc.nat(1200) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const memory = new SharedMemory(6000);
        const ring = new DelayRing(memory, 500, 4000);
        let [next, seen, due, wrong] = [0, 0, 0, 0];
        for (const { want, whole, takes } of steps) {
          const n = ring.room(want, whole);
          expect(n === want || (!whole && n < want) || n === 0).toBe(true);
          for (let i = 0; i < n; i++) ring.bytes[ring.tail + i] = next++ & 255;
          if (n > 0) ring.commit(n, instantAt(due++));
          for (let left = takes; left > 0 && ring.count > 0; ) {
            const part = Math.min(left, ring.firstLength);
            const from = ring.firstOffset;
            for (let i = 0; i < part; i++) if (ring.bytes[from + i] !== (seen++ & 255)) wrong++;
            ring.consume(part);
            left -= part;
          }
          expect([ring.held, wrong]).toEqual([next - seen, 0]);
          expect(ring.bytes.length).toBeLessThanOrEqual(4000);
          expect(memory.used).toBeLessThanOrEqual(6000);
        }
        ring.close();
        expect([memory.used, ring.held, ring.firstDue()]).toEqual([0, 0, undefined]);
      }),
      { numRuns: 200 },
    );
  });

  it('has 4,096 records at most, and pays for more than its first 16 of the memory that all share', () => {
    const fill = (memory: SharedMemory): number => {
      const ring = new DelayRing(memory, 10_000, 10_000);
      while (ring.room(1, true) === 1) ring.commit(1, at(0));
      return ring.count;
    };
    expect(fill(new SharedMemory(1e6))).toBe(4096);
    // 16 and 32 records more, at 16 bytes; 64 would be too many.
    expect(fill(new SharedMemory(768 + 1023))).toBe(64);
  });
});
