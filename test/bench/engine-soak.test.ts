/** The short form of `npm run soak -- --engine`, by a clock of its own: nothing is left of connections that came and went. */
import { expect, test } from 'vitest';
import { churn, EngineLoop, load, rest } from '../../bench/soak/engine.js';

/** A clock that a round moves: 20 µs with work, else a millisecond. */
function world() {
  let at = 1_000_000;
  const now = (): number => at;
  const between = (isBusy: boolean): void => {
    at += isBusy ? 20 : 1000;
  };
  return { now, between, loop: new EngineLoop(now, 7) };
}

test('1000 connections at 10,000 a second end in order, and nothing of them is left', async () => {
  const { now, between, loop } = world();
  const buffers: number[] = [];
  const plan = { perSecond: 10_000, count: 1000 };
  const result = await churn(loop, now, plan, between, () => buffers.push(loop.values['buffer_bytes']!));
  expect(result).toMatchObject({ done: 1000, failed: 0, left: { flows: 0, held: 0 } });
  expect(result.seconds).toBeLessThan(0.2);
  expect(Math.max(...buffers.slice(50))).toBeLessThanOrEqual(Math.max(...buffers.slice(0, 50)) * 1.5);
  expect(loop.values).toMatchObject({
    'flows_opened{protocol=tcp}': 1000,
    tcp_admission_fail: 0,
    flows_rate_limited: 0,
  });
  loop.engine.stop();
});

test('1000 flows at rest hold no buffers to speak of', async () => {
  const { between, loop } = world();
  await rest(loop, 1000, between);
  expect(loop.values['flows_active{protocol=tcp}']).toBe(1000);
  expect(loop.values['buffer_bytes']).toBeLessThan(64 * 1024 * 1024);
  loop.engine.stop();
  expect(loop.held.size).toBe(0);
});

test('eight flows at full speed all get on', async () => {
  const { now, between, loop } = world();
  const { mbits, turns } = await load(loop, now, { flows: 8, seconds: 0.005 }, between);
  expect(mbits).toBeGreaterThan(10);
  expect(turns).toBeGreaterThan(10);
  loop.engine.stop();
});
