import { expect, test } from 'vitest';
import { LAG_BOUNDS, LoopLag } from '../../src/engine/loop-lag.js';

const of = (...lags: readonly number[]): LoopLag => {
  const lag = new LoopLag();
  for (const one of lags) lag.add(one);
  return lag;
};

test('a bound belongs to the bucket below it, and what is above all of them is counted too', () => {
  for (const bound of LAG_BOUNDS) {
    const key = String(bound / 1_000);
    expect(of(bound).over()[key]).toBe(0);
    expect(of(bound + 1).over()[key]).toBe(1);
  }
  expect(Object.values(of(1e9).over()).every((count) => count === 1)).toBe(true);
});

test('a quantile is the upper end of its bucket, and never above the longest', () => {
  expect(new LoopLag().quantile(0.99)).toBe(0);
  const lag = of(...new Array<number>(98).fill(150), 2_500, 60_000_000);
  expect(lag.quantile(0.5)).toBe(200);
  expect(lag.quantile(0.98)).toBe(200);
  expect(lag.quantile(0.99)).toBe(3_000);
  expect(lag.quantile(1)).toBe(60_000_000);
  expect(lag.longest).toBe(60_000_000);
  expect(of(130).quantile(0.5)).toBe(130);
});
