import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { later, Millis } from '../../src/base/time.js';
import { EndSeries, type EndSeriesOptions, type EndSeriesResult } from '../../src/trace/end-series.js';
import { timerClock } from './fixtures.js';

const clock = timerClock;
/** A probe that is given up after this, as an engine does. */
const TIMEOUT = 3_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** @param answer RTT of probe i, or undefined when it is lost. */
async function series(
  answer: (index: number) => number | undefined,
  more: Partial<EndSeriesOptions> = {},
): Promise<EndSeriesResult & { readonly took: number; readonly open: number }> {
  let index = 0;
  let open = 0;
  const started = clock.now();
  let ended = started;
  const run = new EndSeries({
    count: 50,
    interval: Millis(18),
    probe: async (signal) => {
      const rtt = answer(index++);
      open++;
      const over = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      await Promise.race([pause(rtt ?? TIMEOUT), over]);
      open--;
      return signal.aborted ? 0 : (rtt ?? 0);
    },
    clock,
    signal: new AbortController().signal,
    answersAreErrors: false,
    onProbe: () => undefined,
    ...more,
  })
    .run()
    .finally(() => {
      ended = clock.now();
    });
  await vi.advanceTimersByTimeAsync(20_000);
  return { ...(await run), took: (ended - started) / 1_000, open };
}

describe('a series of end-to-end probes', () => {
  it('takes hardly longer than sending them', async () => {
    const { rtts, took, limited } = await series(() => 40);
    expect(rtts).toHaveLength(50);
    expect(rtts.every((rtt) => rtt === 40)).toBe(true);
    expect(limited).toBe(false);
    expect(took).toBeLessThan(1_000);
  });

  it('keeps its pace when timers are late, and does not make good a long stop', async () => {
    const sent: number[] = [];
    let late = 0;
    const started = clock.now();
    const lateClock = { ...clock, now: () => later(clock.now(), Millis(late)) };
    await series(() => 1, {
      clock: lateClock,
      interval: Millis(10),
      probe: async () => {
        sent.push((clock.now() - started) / 1_000);
        if (sent.length === 10) late = 1_000;
        return 1;
      },
    });
    // A second seems to have passed after the tenth probe: two more at once, and not a hundred.
    expect(sent.slice(0, 14)).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100, 100, 110]);
  });

  it('has the order of completion', async () => {
    const { rtts } = await series((i) => [100, 10, 50][i], { count: 3 });
    expect(rtts).toEqual([10, 50, 100]);
  });

  it('does not wait the whole timeout for a probe among answered ones, and leaves none open', async () => {
    const { rtts, took, open } = await series((i) => (i === 49 ? undefined : 20));
    expect(rtts.filter((rtt) => rtt === 0)).toHaveLength(1);
    expect(took).toBeLessThan(1_600);
    expect(open).toBe(0);
  });

  it('waits for slow answers as long as the slowest ones need', async () => {
    const { rtts } = await series((i) => (i % 5 === 0 ? 1_200 : 300));
    expect(rtts.filter((rtt) => rtt === 0)).toHaveLength(0);
  });

  it('waits the whole timeout where nothing ever answers', async () => {
    const { rtts, took } = await series(() => undefined);
    expect(rtts).toEqual(new Array(50).fill(0));
    expect(took).toBeGreaterThan(TIMEOUT);
  });

  it('is given up where error answers stop after a burst, and only there', async () => {
    const burst = (i: number): number | undefined => (i < 6 ? 1 : undefined);
    const given = await series(burst, { answersAreErrors: true });
    expect(given.limited).toBe(true);
    expect(given.took).toBeLessThan(500);
    expect(given.open).toBe(0);
    expect((await series(burst)).limited).toBe(false);
    expect((await series((i) => (i % 20 === 0 ? undefined : 1), { answersAreErrors: true })).limited).toBe(false);
    expect((await series(() => undefined, { answersAreErrors: true })).limited).toBe(false);
  });

  it('ends with its signal', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 200);
    const { took, open } = await series(() => undefined, { signal: controller.signal });
    expect(took).toBe(200);
    expect(open).toBe(0);
  });

  it('of none is over at once', async () => {
    expect(await series(() => 1, { count: 0 })).toMatchObject({ rtts: [], took: 0 });
  });

  it('counts a probe that fails as lost', async () => {
    const { rtts } = await series(() => 1, { count: 2, probe: () => Promise.reject(new Error('no route')) });
    expect(rtts).toEqual([0, 0]);
  });
});
