import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asFloat32, endToEndStatistics, hopCount, jitterOf } from '../../src/trace/statistics.js';
import { hop } from './fixtures.js';

describe('end-to-end statistics', () => {
  it('count a zero as lost', () => {
    expect(endToEndStatistics([20, 30, 40, 0, 30])).toEqual({
      sent: 5,
      received: 4,
      loss: 0.2,
      jitter: 10,
      avg: 30,
      min: 20,
      max: 40,
    });
  });

  it('of the example of one lost probe', () => {
    expect(endToEndStatistics([0.31, 0, 0.29, 0.35])).toMatchObject({
      sent: 4,
      received: 3,
      loss: 0.25,
      jitter: expect.closeTo(0.04, 12),
      avg: 0.31666666666666665,
      min: 0.29,
      max: 0.35,
    });
  });

  it('are zeros of nothing, and of nothing received but the loss', () => {
    expect(endToEndStatistics([])).toEqual({ sent: 0, received: 0, loss: 0, jitter: 0, avg: 0, min: 0, max: 0 });
    expect(endToEndStatistics([0, 0])).toEqual({ sent: 2, received: 0, loss: 1, jitter: 0, avg: 0, min: 0, max: 0 });
  });

  it('have the mean difference of consecutive answers as jitter', () => {
    expect(jitterOf([12.1, 17.1, 22.1, 27.6, 23.1])).toBeCloseTo(5, 12);
    expect(jitterOf([7])).toBe(0);
  });
});

describe('a loss of float32 precision', () => {
  it.each([
    [6 / 7, '0.85714287'],
    [1 / 3, '0.33333334'],
    [0.2, '0.2'],
    [1, '1'],
    [0, '0'],
    [2 / 3, '0.6666667'],
    [49 / 50, '0.98'],
  ])('%d prints as %s', (value, text) => {
    expect(JSON.stringify(asFloat32(value))).toBe(text);
  });

  it('is the shortest text of the same float32', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), (value) => {
        const short = asFloat32(value);
        expect(Math.fround(short)).toBe(Math.fround(value));
        expect(JSON.stringify(short).length).toBeLessThanOrEqual(JSON.stringify(Math.fround(value)).length);
      }),
    );
  });
});

describe('the hop count', () => {
  it('is the position of the last hop that answered', () => {
    const four = [hop(1, '10.0.0.1', 1), hop(2), hop(3), hop(4, '10.0.0.4', 1), hop(5)];
    const two = [hop(1, '10.0.0.1', 1), hop(2, '10.0.0.2', 1)];
    expect(hopCount([four, two])).toEqual({ avg: 3, min: 2, max: 4 });
  });

  it('is the number of hops when none answered, and counts from the first TTL asked', () => {
    expect(hopCount([Array.from({ length: 30 }, (_, i) => hop(i + 1))])).toEqual({ avg: 30, min: 30, max: 30 });
    expect(hopCount([[hop(5, '10.0.0.5', 1)]])).toEqual({ avg: 1, min: 1, max: 1 });
    expect(hopCount([])).toEqual({ avg: 0, min: 0, max: 0 });
  });
});
