/** The counters that level trace tells. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLog } from '../../src/cli/log.js';
import { moved, traceCounters } from '../../src/cli/moved-counters.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('what is other than before, as differences', () => {
  expect(moved({ a: 3, b: 1, c: 2, turns: 9, 'late_turns{over=1}': 1 }, { a: 1, b: 1 })).toEqual({ a: 2, c: 2 });
});

test('once a second while the level is trace, and only what moved', async () => {
  const lines: string[] = [];
  const log = createLog('tun2socks', 'info', false, (line) => lines.push(line));
  let flows = 0;
  let reads = 0;
  const stop = traceCounters(log, () => {
    reads++;
    return Promise.resolve({ flows, drops: 7 });
  });
  await vi.advanceTimersByTimeAsync(3000);
  expect([reads, lines]).toEqual([0, []]);
  log.level = 'trace';
  await vi.advanceTimersByTimeAsync(1000);
  flows = 5;
  await vi.advanceTimersByTimeAsync(2000);
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ level: 10, flows: 5, msg: 'counters' }),
  ]);
  stop();
  await vi.advanceTimersByTimeAsync(2000);
  expect(reads).toBe(3);
});
