/** Which relays are home and standby: the nearest, without running to and fro. */
import { describe, expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, type Instant, later, Millis, Seconds } from '../../src/base/time.js';
import { NEARER_FOR, type RelayFigures, RelayRanking, STARTING } from '../../src/tunnel/relay-ranking.js';

const START = 1_000_000 as Instant;
const past = (span: Duration): Instant => later(START, span);

function relay(milliseconds: number | undefined, more: Partial<RelayFigures> = {}): RelayFigures {
  const rtt = milliseconds === undefined ? undefined : Millis(milliseconds);
  return { rtt, isReady: true, isDraining: false, isAway: false, ...more };
}

const away = { isReady: false, isAway: true };

/** A ranking that has chosen among these, long ago. */
function settled(...relays: RelayFigures[]): RelayRanking {
  const ranking = new RelayRanking();
  ranking.choose(later(START, -Seconds(600) as Duration), relays);
  return ranking;
}

test('the nearest that is connected is home, the next nearest is standby, connected or not', () => {
  const ranking = new RelayRanking();
  expect(ranking.choose(START, [relay(40), relay(10), relay(20, { isReady: false }), relay(undefined)])).toBe(true);
  expect([ranking.home, ranking.standby]).toEqual([1, 2]);
  expect([ranking.homeReason, ranking.standbyReason]).toEqual(['first_ready', 'next_nearest']);
});

test('one relay is home, and there is no standby', () => {
  const ranking = new RelayRanking();
  expect(ranking.choose(START, [relay(40, away)])).toBe(false);
  expect([ranking.home, ranking.standby]).toEqual([-1, 0]);
  expect(ranking.choose(START, [relay(40)])).toBe(true);
  expect([ranking.home, ranking.standby, ranking.homeReason]).toEqual([0, -1, 'only_relay']);
});

test('none is home while none is connected', () => {
  const ranking = settled(relay(5), relay(9));
  expect(ranking.choose(START, [relay(5, away), relay(9, away)])).toBe(true);
  expect(ranking.home).toBe(-1);
});

describe('hysteresis', () => {
  test('a nearer relay becomes home after it has been nearer for half a minute, not before', () => {
    const ranking = settled(relay(50), relay(60));
    const now = [relay(50), relay(20)];
    expect(ranking.choose(START, now)).toBe(false);
    expect(ranking.choose(past((NEARER_FOR - 1) as Duration), now)).toBe(false);
    expect(ranking.choose(past(NEARER_FOR), now)).toBe(true);
    expect([ranking.home, ranking.standby, ranking.homeReason]).toEqual([1, 0, 'nearer']);
  });

  test('one that is nearer only now and then does not', () => {
    const ranking = settled(relay(50), relay(60));
    for (let i = 0; i < 100; i++) {
      expect(ranking.choose(past(Seconds(5 * i)), [relay(50), relay(i % 5 === 4 ? 55 : 20)])).toBe(false);
    }
  });

  test.each([
    ['by 10 ms', 50, 40],
    ['by a fifth', 200, 160],
    ['a little', 12, 3],
  ])('nearer %s is not worth it', (_, home, other) => {
    const ranking = settled(relay(home), relay(home));
    for (const s of [0, 30, 60]) expect(ranking.choose(past(Seconds(s)), [relay(home), relay(other)])).toBe(false);
  });

  test('a home that was only the first to answer is left at once for a nearer one, for some seconds', () => {
    const first = [relay(90), relay(10, { isReady: false })];
    for (const [span, isLeft] of [
      [STARTING, false],
      [(STARTING - 1) as Duration, true],
    ] as const) {
      const ranking = new RelayRanking();
      ranking.choose(START, first);
      expect(ranking.choose(past(span), [relay(90), relay(10)])).toBe(isLeft);
    }
  });
});

test('a home that is lost or drains is left at once, for the nearest that is connected', () => {
  for (const [gone, reason] of [
    [away, 'home_lost'],
    [{ isDraining: true }, 'home_drains'],
  ] as const) {
    const ranking = settled(relay(5), relay(40), relay(20));
    expect(ranking.choose(START, [relay(5, gone), relay(40), relay(20)])).toBe(true);
    expect([ranking.home, ranking.homeReason, ranking.standby]).toEqual([2, reason, 1]);
  }
});

test('a relay that is away is no standby while there is another; the only other one is', () => {
  const three = settled(relay(5), relay(8), relay(90, { isReady: false }));
  three.choose(START, [relay(5), relay(8, away), relay(90, { isReady: false })]);
  expect(three.standby).toBe(2);
  const two = settled(relay(5), relay(8));
  two.choose(START, [relay(5), relay(8, away)]);
  expect(two.standby).toBe(1);
});

test('whatever happens, home is connected and does not drain, and standby is another', () => {
  const entropy = new SeededEntropy(7);
  const figure = (): RelayFigures => {
    const bits = entropy.uint32();
    const isReady = (bits & 1) !== 0;
    return relay((bits & 2) === 0 ? undefined : (bits >>> 8) % 300, {
      isReady,
      isDraining: isReady && (bits & 12) === 0,
      isAway: !isReady && (bits & 16) !== 0,
    });
  };
  const ranking = new RelayRanking();
  let now = START;
  for (let i = 0; i < 5000; i++) {
    now = later(now, Millis(entropy.uint32() % 20_000));
    const relays = Array.from({ length: 8 }, figure);
    const before = ranking.home;
    expect(ranking.choose(now, relays)).toBe(ranking.home !== before);
    const { home, standby } = ranking;
    expect(home >= 0).toBe(relays.some((one) => one.isReady && !one.isDraining));
    if (home >= 0) expect(relays[home]).toMatchObject({ isReady: true, isDraining: false });
    expect(standby).not.toBe(home);
    expect(standby).toBeGreaterThanOrEqual(0);
  }
});
