import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { U64Map } from '../../src/base/u64map.js';

describe('U64Map', () => {
  it('agrees with Map through inserts and removals, with few keys and with many', () => {
    const word = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.constantFrom(0xffffffff, 0x80000000));
    const many = fc.integer({ min: 0, max: 0xffffffff });
    const step = fc.record({ hi: word, lo: fc.oneof(word, many), act: fc.constantFrom('set', 'set', 'delete') });
    fc.assert(
      fc.property(fc.integer(), fc.array(step, { maxLength: 300 }), (seed, steps) => {
        const map = new U64Map<{ readonly n: number }>(seed);
        const model = new Map<string, { readonly n: number }>();
        steps.forEach(({ hi, lo, act }, n) => {
          const key = `${hi}:${lo}`;
          if (act === 'set') {
            const value = { n };
            expect(map.set(hi, lo, value)).toBe(model.get(key));
            model.set(key, value);
          } else {
            expect(map.delete(hi, lo)).toBe(model.get(key));
            model.delete(key);
          }
          expect(map.size).toBe(model.size);
        });
        for (const { hi, lo } of steps) {
          expect(map.get(hi, lo)).toBe(model.get(`${hi}:${lo}`));
          expect(map.has(hi, lo)).toBe(model.has(`${hi}:${lo}`));
        }
        const seen = new Map<string, unknown>();
        map.forEach((value, hi, lo) => {
          seen.set(`${hi}:${lo}`, value);
        });
        expect(seen).toEqual(model);
        expect(map.values().length).toBe(model.size);
        map.clear();
        expect(map.size).toBe(0);
      }),
    );
  });

  it('keeps every entry while it grows and shrinks; signed words are the same keys', () => {
    const map = new U64Map<{ readonly n: number }>();
    for (let n = 0; n < 5000; n++) map.set(n % 7, n * 977, { n });
    for (let n = 0; n < 5000; n += 2) map.delete(n % 7, n * 977);
    for (let n = 0; n < 5000; n++) expect(map.get(n % 7, n * 977)?.n).toBe(n % 2 === 0 ? undefined : n);
    map.set(-1, -2, { n: 1 });
    expect(map.get(0xffffffff, 0xfffffffe)?.n).toBe(1);
  });
});
