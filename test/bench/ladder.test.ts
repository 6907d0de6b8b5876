/** The ladder of bad links loses as much, and as long in a row, as its rungs say. */
import { expect, it } from 'vitest';
import { LADDER, profileOf } from '../../bench/acceptance/ladder.js';
import { Impairment } from '../lab/programs/impairment.mjs';

const PACKETS = 400_000;

it.each(LADDER.map((rung) => [rung.name, rung] as const))('%s', (_name, rung) => {
  const { rate, queue, delay, jitter, ...losses } = profileOf(rung);
  const link = new Impairment(7, losses);
  let lost = 0;
  let runs = 0;
  let wasLost = false;
  for (let i = 0; i < PACKETS; i++) {
    const isLost = link.offer(i, 1200) === 0;
    if (isLost) lost++;
    if (isLost && !wasLost) runs++;
    wasLost = isLost;
  }
  expect(lost / PACKETS / rung.loss).toBeCloseTo(1, 0);
  expect(lost / runs / rung.burst).toBeCloseTo(1, 0);
  expect(delay! + jitter! / 2).toBe(Math.max(rung.rtt / 2, jitter! / 2));
  expect(queue! * 8).toBeGreaterThanOrEqual((rate! * rung.rtt) / 1000);
});
