import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compare, jainIndex, quantile, spreadPercent, summarize } from '../../bench/statistics.js';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e9, max: 1e9 });

describe('quantile', () => {
  it('is the middle value, or between the two middle ones', () => {
    expect(quantile([3, 1, 2], 0.5)).toBe(2);
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([7], 0.99)).toBe(7);
    expect(quantile([], 0.5)).toBeNaN();
    const hundred = Array.from({ length: 101 }, (_, index) => index);
    expect(quantile(hundred, 0.95)).toBe(95);
  });

  it('stays within the values, grows with q, and changes nothing', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1 }), fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
        const copy = [...values];
        const result = quantile(values, q);
        expect(values).toEqual(copy);
        expect(result).toBeGreaterThanOrEqual(Math.min(...values));
        expect(result).toBeLessThanOrEqual(Math.max(...values));
        expect(result).toBeLessThanOrEqual(quantile(values, 1));
      }),
    );
  });
});

describe('compare', () => {
  const range = (min: number, max: number) => ({ runs: 3, median: (min + max) / 2, min, max });

  it('calls a winner only when the ranges do not touch', () => {
    expect(compare(range(5, 6), range(1, 4), 'higher')).toBe('better');
    expect(compare(range(5, 6), range(1, 4), 'lower')).toBe('worse');
    expect(compare(range(1, 4), range(5, 6), 'higher')).toBe('worse');
    expect(compare(range(1, 4), range(5, 6), 'lower')).toBe('better');
    expect(compare(range(1, 5), range(5, 6), 'higher')).toBe('same');
    expect(compare({ ...range(5, 6), runs: 2 }, range(1, 4), 'higher')).toBe('unknown');
    expect(compare(undefined, range(5, 6), 'higher')).toBe('unknown');
    expect(compare(range(5, 6), undefined, 'higher')).toBe('unknown');
  });
});

describe('summarize', () => {
  it('gives the range and half of it in percent', () => {
    const summary = summarize([90, 110, 100])!;
    expect(summary).toEqual({ runs: 3, median: 100, min: 90, max: 110 });
    expect(spreadPercent(summary)).toBe(10);
    expect(spreadPercent({ runs: 3, median: 0, min: 0, max: 0 })).toBe(0);
    expect(summarize([])).toBeUndefined();
  });
});

describe("Jain's index", () => {
  it('is 1 for equal shares and 1/n when one takes all', () => {
    expect(jainIndex([5, 5, 5, 5])).toBe(1);
    expect(jainIndex([8, 0, 0, 0])).toBe(0.25);
    expect(jainIndex([])).toBe(1);
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1 }), (shares) => {
        const index = jainIndex(shares);
        expect(index).toBeGreaterThanOrEqual(1 / shares.length - 1e-9);
        expect(index).toBeLessThanOrEqual(1 + 1e-9);
      }),
    );
  });
});
