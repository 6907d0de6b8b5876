import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NumberRing, Ring } from '../../src/base/ring.js';

describe('Ring', () => {
  it('behaves like a bounded array', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), fc.array(fc.boolean(), { maxLength: 60 }), (capacity, steps) => {
        const ring = new Ring<{ n: number }>(capacity);
        const numbers = new NumberRing(capacity);
        const model: { n: number }[] = [];
        steps.forEach((isPush, n) => {
          if (isPush) {
            const fits = model.length < capacity;
            expect(ring.push({ n })).toBe(fits);
            expect(numbers.push(n / 3)).toBe(fits);
            if (fits) model.push({ n });
          } else {
            const want = model.shift();
            expect(ring.shift()?.n).toBe(want?.n);
            expect(numbers.shift()).toBe(want === undefined ? Number.NaN : want.n / 3);
          }
          expect(ring.length).toBe(model.length);
          expect(numbers.length).toBe(model.length);
          expect(ring.isFull).toBe(model.length === capacity);
          for (let i = -1; i <= model.length; i++) {
            expect(ring.peek(i)?.n).toBe(model[i]?.n);
            expect(numbers.peek(i)).toBe(model[i] === undefined ? Number.NaN : model[i]!.n / 3);
          }
        });
        ring.clear();
        numbers.clear();
        expect([ring.length, numbers.length, ring.shift()]).toEqual([0, 0, undefined]);
      }),
    );
  });
});
