import { describe, expect, it } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { toSeconds } from '../../src/base/time.js';
import { Backoff } from '../../src/tunnel/backoff.js';

describe('reconnect back-off', () => {
  it('grows 1, 2, 4, 8, 16, 30, 30 … s within ±25 %, and starts over after a success', () => {
    const backoff = new Backoff(new SeededEntropy(5));
    for (const base of [1, 2, 4, 8, 16, 30, 30, 30]) {
      const wait = toSeconds(backoff.next(false));
      expect(wait).toBeGreaterThanOrEqual(base * 0.75);
      expect(wait).toBeLessThanOrEqual(base * 1.25);
    }
    backoff.reset();
    expect(toSeconds(backoff.next(false))).toBeLessThanOrEqual(1.25);
  });

  it('waits 2 s at most (with jitter) while packets wait, and does not repeat itself exactly', () => {
    const backoff = new Backoff(new SeededEntropy(6));
    const waits = Array.from({ length: 20 }, () => toSeconds(backoff.next(true)));
    expect(Math.max(...waits)).toBeLessThanOrEqual(2.5);
    expect(new Set(waits).size).toBeGreaterThan(10);
  });
});
