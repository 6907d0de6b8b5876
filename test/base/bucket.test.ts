import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/base/bucket.js';
import { type Instant, instantAt } from '../../src/base/time.js';

const at = (micros: number): Instant => instantAt(micros);

describe('TokenBucket', () => {
  it('starts full, gives all or nothing, refills up to the burst', () => {
    const bucket = new TokenBucket(10, 5);
    expect(bucket.take(at(0), 6)).toBe(false);
    expect(bucket.take(at(0), 5)).toBe(true);
    expect(bucket.take(at(99_999))).toBe(false);
    expect(bucket.take(at(100_000))).toBe(true);
    expect(bucket.available(at(60_000_000))).toBe(5);
    expect(bucket.take(at(0), 1)).toBe(true);
    expect(bucket.available(at(1))).toBe(4);
  });

  it('loses no time however often it is asked', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 900, noNaN: true }), { minLength: 1, maxLength: 300 }), (steps) => {
        const often = new TokenBucket(1000, 1e9);
        often.take(at(0), 1e9);
        let now = 0;
        for (const step of steps) {
          now += step;
          often.take(at(now), 1e12);
        }
        expect(often.available(at(now))).toBeCloseTo((now * 1000) / 1e6, 6);
      }),
    );
  });

  it('says how long to wait, and time going back gives nothing', () => {
    const bucket = new TokenBucket(4, 2);
    bucket.take(at(1_000_000), 2);
    expect(bucket.wait(at(1_000_000))).toBe(250_000);
    expect(bucket.wait(at(1_000_000), 3)).toBe(Number.POSITIVE_INFINITY);
    expect(bucket.available(at(0))).toBe(0);
    expect(bucket.wait(at(1_250_000))).toBe(0);
    bucket.spend(at(1_250_000), 3);
    expect(bucket.available(at(1_250_000))).toBe(-2);
    expect(bucket.wait(at(1_250_000))).toBe(750_000);
    expect(new TokenBucket(0, 1).wait(at(9_250_000), 2)).toBe(Number.POSITIVE_INFINITY);
    expect([bucket.rate, bucket.burst]).toEqual([4, 2]);
  });
});
