import { describe, expect, it } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS, Drop, dropName } from '../../src/base/drop.js';

describe('Drop', () => {
  it('numbers are the places of their names, from 0 without a gap', () => {
    for (const [i, name] of DROP_REASONS.entries()) expect(Drop[name]).toBe(i);
    expect(DROP_REASONS[0]).toBe('none');
    expect(new Set(DROP_REASONS).size).toBe(DROP_REASONS.length);
  });

  it('serves as the slot of a counter, and has a name either sign', () => {
    const counters = new Counters(DROP_REASONS);
    counters.values[Drop.hop_limit]! += 2;
    expect(counters.snapshot()).toEqual({ hop_limit: 2 });
    expect([dropName(Drop.no_route), dropName(-Drop.no_route), dropName(9999)]).toEqual([
      'no_route',
      'no_route',
      'malformed',
    ]);
  });
});
