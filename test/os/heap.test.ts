/** When memory is given back, and that it is. */
import { expect, it } from 'vitest';
import { giveMemoryBack, RestWatch } from '../../src/os/heap.js';

it('rests once after the start and once after each busy time, however long the rest lasts', () => {
  const watch = new RestWatch();
  const steps = [50_000, 100, 100, 100, 999, 1000, 2_000_000, 50, 0, 1000, 0];
  let turns = 0;
  const rests = steps.map((made) => {
    turns += made;
    return watch.look(turns);
  });
  expect(rests).toEqual([false, true, false, false, false, false, false, true, false, false, true]);
});

it('does not rest while there is work from the start on', () => {
  const watch = new RestWatch();
  expect([5_000, 10_000, 15_000].map((turns) => watch.look(turns))).toEqual([false, false, false]);
});

it('collects what nobody holds any more', () => {
  let garbage: unknown[] | undefined = Array.from({ length: 200_000 }, (_, index) => ({ index }));
  const held = process.memoryUsage().heapUsed;
  expect(garbage).toHaveLength(200_000);
  garbage = undefined;
  giveMemoryBack();
  expect(held - process.memoryUsage().heapUsed).toBeGreaterThan(4_000_000);
  expect(globalThis).not.toHaveProperty('gc');
});
