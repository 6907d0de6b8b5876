import fc from 'fast-check';
import { expect, test } from 'vitest';
import { COPY_WINDOW, CopyWindow } from '../../../src/tunnel/links/copy-window.js';

test('of every number the first copy wins, in any order and with any repetition, over the end of the numbers too', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.array(fc.integer({ min: -5000, max: 5000 }), { maxLength: 300 }),
      (start, steps) => {
        const window = new CopyWindow();
        const seen = new Set<number>();
        // Distances from the first number, so that they compare beyond 2^32.
        let at = 0;
        let newest = 0;
        let isFirst = true;
        for (const step of steps) {
          at += step;
          const isOld = !isFirst && at <= newest - COPY_WINDOW;
          expect(window.accept((start + at) >>> 0)).toBe(!isOld && !seen.has(at));
          if (!isOld) seen.add(at);
          newest = isFirst ? at : Math.max(newest, at);
          isFirst = false;
        }
      },
    ),
  );
});

test('at the limit: the oldest number of the window is taken, the one before it is not', () => {
  const window = new CopyWindow();
  expect(window.accept(COPY_WINDOW)).toBe(true);
  expect(window.accept(1)).toBe(true);
  expect(window.accept(0)).toBe(false);
});
