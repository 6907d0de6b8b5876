/** RACK's notion of reordering: how wide its window is, for how long, and what counts as overtaken. RFC 8985 §6.2.3–6.2.4. */
import { expect, test } from 'vitest';
import { instantAt } from '../../src/base/time.js';
import { Rack } from '../../src/netstack/tcp/rack.js';
import { RESENT, SendLog } from '../../src/netstack/tcp/send-log.js';

const LEAST = 100_000;
const SMOOTHED = 150_000;
const QUARTER = LEAST / 4;
const at = instantAt;

test('a quarter of the least round trip, one more for each round with a duplicate, the smoothed one at most', () => {
  const rack = new Rack();
  const window = (): number => rack.window(false, LEAST, SMOOTHED);
  expect(window()).toBe(QUARTER);
  rack.duplicateReported(0, 1000);
  rack.duplicateReported(500, 1500);
  rack.duplicateReported(999, 2000);
  expect(window()).toBe(2 * QUARTER);
  rack.duplicateReported(1000, 2000);
  expect(window()).toBe(3 * QUARTER);
  for (let round = 2; round < 300; round++) rack.duplicateReported(round * 1000, (round + 1) * 1000);
  expect(window()).toBe(SMOOTHED);
});

test('stays wide for sixteen recoveries after the last duplicate', () => {
  const rack = new Rack();
  const window = (): number => rack.window(false, LEAST, SMOOTHED);
  rack.duplicateReported(0, 1000);
  for (let i = 0; i < 15; i++) rack.recovered();
  rack.duplicateReported(1000, 2000);
  for (let i = 0; i < 15; i++) rack.recovered();
  expect(window()).toBe(3 * QUARTER);
  rack.recovered();
  expect(window()).toBe(QUARTER);
});

test('none in recovery unless something was overtaken: a first copy below the highest number delivered, also after a second copy was', () => {
  const rack = new Rack();
  rack.start(0);
  rack.begin();
  rack.delivered(at(LEAST), at(0), 3000, 0, LEAST, -1);
  rack.delivered(at(3 * LEAST), at(LEAST), 1000, RESENT, LEAST, -1);
  expect([rack.reordering, rack.window(true, LEAST, SMOOTHED)]).toEqual([false, 0]);
  rack.delivered(at(3 * LEAST), at(0), 2000, 0, LEAST, -1);
  expect([rack.reordering, rack.window(true, LEAST, SMOOTHED)]).toEqual([true, QUARTER]);
});

test('a copy answered sooner than in the least round trip says nothing of what was sent before it', () => {
  const detected = (answeredAfter: number): number => {
    const rack = new Rack();
    const log = new SendLog();
    rack.start(0);
    log.reset(0);
    log.sent(at(0), 1000);
    log.sent(at(1), 1000);
    log.split(1000);
    log.markResent(0, at(LEAST));
    rack.begin();
    rack.delivered(at(LEAST + answeredAfter), at(LEAST), 1000, RESENT, LEAST, -1);
    log.dropHead();
    log.markResent(log.head, at(2));
    return rack.detect(at(LEAST + answeredAfter), log, 0);
  };
  expect([detected(LEAST - 1), detected(LEAST)]).toEqual([0, 1000]);
});
