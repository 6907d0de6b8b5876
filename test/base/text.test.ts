import { describe, expect, it } from 'vitest';
import { formatBitRate, formatBytes, formatCount, formatDuration } from '../../src/base/text.js';
import { Days, Hours, Micros, Millis, Minutes, Seconds } from '../../src/base/time.js';

describe('text', () => {
  it('prints bytes, rates and counts', () => {
    expect([0, 999, 999.6, 1000, 1234567, 12e9, 1e15].map(formatBytes)).toEqual([
      '0 B',
      '999 B',
      '1 kB',
      '1 kB',
      '1.2 MB',
      '12 GB',
      '1 PB',
    ]);
    expect(formatBitRate(5.12e9)).toBe('5.1 Gbit/s');
    expect([formatCount(950), formatCount(3_400_000), formatCount(-2000)]).toEqual(['950', '3.4 M', '−2 k']);
  });

  it('prints spans with at most two units', () => {
    const cases = [
      [Micros(0), '0 µs'],
      [Micros(999.4), '999 µs'],
      [Micros(999.6), '1 ms'],
      [Millis(1.54), '1.5 ms'],
      [Millis(999.6), '1 s'],
      [Seconds(4.21), '4.2 s'],
      [Seconds(59.4), '59 s'],
      [Seconds(59.6), '1 m'],
      [Seconds(184), '3 m 4 s'],
      [Hours(2), '2 h'],
      [(Hours(2) + Seconds(5)) as typeof MINUTE, '2 h'],
      [(Days(2) + Hours(5) + MINUTE) as typeof MINUTE, '2 d 5 h'],
      [Seconds(-184), '−3 m 4 s'],
      [Micros(Number.POSITIVE_INFINITY), 'never'],
    ] as const;
    for (const [span, text] of cases) expect(formatDuration(span)).toBe(text);
  });
});

const MINUTE = Minutes(1);
