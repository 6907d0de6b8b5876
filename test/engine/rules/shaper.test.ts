import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../../src/base/drop.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { instantAt, Millis } from '../../../src/base/time.js';
import { NOT_DUE, type ShapeRate, Shaper } from '../../../src/engine/rules/shaper.js';
import { Arena } from '../../../src/wire/arena.js';

const source = new Arena(2048);
const at = (millis: number) => instantAt(millis * 1000);
const make = (slots = 100, slotsPerKey = 100) =>
  new Shaper({ slots, slotsPerKey, mtu: 1500, entropy: new SeededEntropy(5) });
const rate = (more: Partial<ShapeRate>): ShapeRate => ({
  bytesPerSecond: Number.POSITIVE_INFINITY,
  burstBytes: 0,
  latency: Millis(0),
  jitter: Millis(0),
  ...more,
});

/** When each packet leaves, in milliseconds, with its tag. */
function drain(shaper: Shaper): [number, number][] {
  const out: [number, number][] = [];
  for (let due = shaper.nextDue(); due !== undefined; due = shaper.nextDue()) {
    const slot = shaper.dequeue(due);
    expect(slot).not.toBe(NOT_DUE);
    out.push([Math.round(due / 1000), shaper.tagOf(slot)]);
    shaper.release(slot);
  }
  return out;
}

describe('Shaper', () => {
  it('holds back by latency, and by rate after a burst', () => {
    const shaper = make();
    shaper.shape('slow', rate({ latency: Millis(50) }));
    shaper.shape('narrow', rate({ bytesPerSecond: 100_000, burstBytes: 2000 }));
    for (let i = 0; i < 2; i++) shaper.enqueue(at(i), 'slow', source, 0, 1000, i);
    for (let i = 0; i < 4; i++) shaper.enqueue(at(0), 'narrow', source, 0, 1000, 10 + i);
    expect(shaper.dequeue(at(-1))).toBe(NOT_DUE);
    expect(drain(shaper)).toEqual([
      [0, 10],
      [0, 11],
      [10, 12],
      [20, 13],
      [50, 0],
      [51, 1],
    ]);
    expect(shaper.enqueue(at(0), 'other', source, 0, 10)).toBe(Drop.no_handler);
  });

  it('never lets a packet overtake another of its key, never exceeds rate and burst, whatever the jitter', () => {
    const arrival = fc.record({ wait: fc.nat(30), length: fc.integer({ min: 1, max: 1500 }), key: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 150 }), fc.nat(200), (arrivals, jitter) => {
        const shaper = make(200, 200);
        for (let key = 0; key < 3; key++) {
          shaper.shape(
            `${key}`,
            rate({ bytesPerSecond: 50_000, burstBytes: 3000, latency: Millis(20), jitter: Millis(jitter) }),
          );
        }
        let now = 0;
        for (const [i, { wait, length, key }] of arrivals.entries()) {
          now += wait;
          shaper.enqueue(at(now), `${key}`, source, 0, length, i);
        }
        const left = new Map<number, number>();
        const bytes = [0, 0, 0];
        for (const [when, tag] of drain(shaper)) {
          const { key, length } = arrivals[tag]!;
          expect(tag).toBeGreaterThan(left.get(key) ?? -1);
          left.set(key, tag);
          bytes[key]! += length;
          expect(bytes[key]!).toBeLessThanOrEqual(3000 + 50 * (when + 1));
        }
        expect(shaper.size).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  it('is bounded, of one key and of all, and new parameters leave waiting packets where they are', () => {
    const shaper = make(3, 2);
    shaper.shape('a', rate({ latency: Millis(100) }));
    shaper.shape('b', rate({ latency: Millis(100) }));
    const results = ['a', 'a', 'a', 'b', 'b'].map((key, i) => shaper.enqueue(at(0), key, source, 0, 100, i));
    expect(results).toEqual([Drop.none, Drop.none, Drop.queue_full, Drop.none, Drop.queue_full]);
    expect(shaper.enqueue(at(0), 'b', source, 0, 1501)).toBe(Drop.too_big);
    expect([shaper.dropped, shaper.size]).toEqual([3, 3]);
    shaper.shape('a', rate({}));
    shaper.forget('b');
    expect(drain(shaper)).toEqual([
      [100, 0],
      [100, 1],
      [100, 3],
    ]);
    shaper.enqueue(at(101), 'a', source, 0, 100, 9);
    expect(drain(shaper)).toEqual([[101, 9]]);
  });
});
