/** One link's figures from its heartbeats; both ends are `LinkHealth`, and the test is what carries the heartbeats. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Instant, instantAt, later, Micros, Millis, Seconds } from '../../../src/base/time.js';
import { BeatHistory } from '../../../src/tunnel/links/beat-history.js';
import { emptyHeartbeat, type Heartbeat } from '../../../src/tunnel/links/frames.js';
import { FAST_INTERVAL, LinkHealth } from '../../../src/tunnel/links/health.js';

const START = instantAt(5_000_000_000);

/** Two ends that send at the full pace; `lost` says which heartbeats do not arrive. */
class Pair {
  now: Instant = START;
  readonly a = new LinkHealth();
  readonly b = new LinkHealth();
  readonly #delay = Millis(20);

  constructor() {
    this.a.setPace(this.now, 'fast');
    this.b.setPace(this.now, 'fast');
  }

  /** `count` intervals: A's heartbeat, and B's right when it comes. */
  beat(count: number, lost: (direction: 'up' | 'down', i: number) => boolean = () => false): void {
    for (let i = 0; i < count; i++) {
      const out = { ...this.a.makeBeat(this.now) };
      const there = later(this.now, this.#delay);
      if (!lost('up', i)) this.b.onBeat(there, out);
      const back = { ...this.b.makeBeat(there) };
      if (!lost('down', i)) this.a.onBeat(later(there, this.#delay), back);
      this.now = later(this.now, FAST_INTERVAL);
    }
  }
}

/** Both ends of a link without delay for so many milliseconds: each beats when it is due. */
function converse(a: LinkHealth, b: LinkHealth, milliseconds: number): void {
  for (let ms = 0; ms < milliseconds; ms++) {
    const now = later(START, Millis(ms));
    if (a.beatDue! <= now) b.onBeat(now, { ...a.makeBeat(now) });
    if (b.beatDue! <= now) a.onBeat(now, { ...b.makeBeat(now) });
  }
}

describe('heartbeats', () => {
  test('measure the round trip, whatever the two clocks are', () => {
    const pair = new Pair();
    pair.beat(20);
    expect(pair.a.srtt).toBe(40_000);
    expect(pair.a.rttvar).toBeLessThan(200);
    expect(pair.a.loss(pair.now)).toBe(0);
  });

  test('measure it over the end of the 32-bit clock', () => {
    const pair = new Pair();
    pair.now = instantAt(0x1_0000_0000 - 1_000_000);
    pair.beat(20);
    expect(pair.a.srtt).toBeCloseTo(40_000, 0);
  });

  test('do not count the time they lay at the peer', () => {
    const pair = new Pair();
    const out = { ...pair.a.makeBeat(START) };
    pair.b.onBeat(later(START, Millis(20)), out);
    const back = { ...pair.b.makeBeat(later(START, Millis(90))) };
    pair.a.onBeat(later(START, Millis(110)), back);
    expect(pair.a.srtt).toBe(40_000);
  });

  test('tell the two directions’ loss apart', () => {
    const pair = new Pair();
    pair.beat(16, (direction, i) => direction === 'up' && i % 4 === 1);
    expect([pair.a.up.loss(16), pair.a.down.loss(16)]).toEqual([0.25, 0]);
    expect([pair.b.up.loss(16), pair.b.down.loss(16)].map((loss) => Math.round(loss * 16))).toEqual([0, 4]);
  });

  test('miss the peer after srtt + 4·rttvar and an interval of silence, and one more per interval', () => {
    const pair = new Pair();
    pair.beat(40);
    // The last sign of life came 85 ms before `now`; 10 ms are the clocks' granularity.
    const silent = later(pair.now, Millis(-85));
    const patience = pair.a.srtt + 4 * pair.a.rttvar + 10_000;
    for (const missed of [1, 2, 3]) {
      const due = later(silent, Micros(patience + missed * FAST_INTERVAL));
      expect(pair.a.missedDown(later(due, Micros(-2)))).toBe(missed - 1);
      expect(pair.a.missedDown(due)).toBe(missed);
    }
  });

  test('say when the next one is missed, and it is then, at whatever fraction of a microsecond', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 1e12, noNaN: true }),
        fc.double({ min: 1, max: 1e6, noNaN: true }),
        (at, rtt) => {
          const one = new LinkHealth();
          const start = instantAt(at);
          one.seed(Micros(rtt));
          one.setPace(start, 'fast');
          one.makeBeat(start);
          for (let missed = 0; missed < 4; missed++) {
            const due = one.missDue(missed)!;
            expect(one.missed(later(due, Micros(-2)))).toBe(missed);
            expect(one.missed(due)).toBe(missed + 1);
          }
        },
      ),
    );
  });

  test('anything from the peer is a sign of life, but tells nothing about the way there', () => {
    const pair = new Pair();
    pair.beat(20);
    pair.beat(10, (direction) => direction === 'up');
    pair.a.heard(pair.now);
    expect(pair.a.missedDown(pair.now)).toBe(0);
    expect(pair.a.missedUp(pair.now)).toBeGreaterThanOrEqual(3);
    expect(pair.b.missedDown(pair.now)).toBeGreaterThanOrEqual(3);
  });

  test('one heartbeat lost on the way there is no miss, three in a row are', () => {
    for (const [gone, missed] of [
      [1, 0],
      [3, 1],
    ] as const) {
      const pair = new Pair();
      pair.beat(20);
      let most = 0;
      pair.beat(gone, (direction) => direction === 'up');
      for (let ms = 0; ms < 40; ms++) most = Math.max(most, pair.a.missedUp(later(pair.now, Millis(ms))));
      expect(most).toBe(missed);
    }
  });

  test('nothing is missed while nothing is asked, nor at once when it is again', () => {
    const pair = new Pair();
    pair.beat(20);
    pair.a.setPace(pair.now, 'none');
    pair.a.makeBeat(pair.now);
    const long = later(pair.now, Seconds(60));
    expect(pair.a.missed(long)).toBe(0);
    expect(pair.a.beatDue).toBeUndefined();
    pair.a.setPace(long, 'fast');
    expect(pair.a.missed(long)).toBe(0);
    expect(pair.a.beatDue! <= long).toBe(true);
  });

  test('are answered by an end that has nothing to watch, and such an answer by none', () => {
    const [a, b] = [new LinkHealth(), new LinkHealth()];
    a.setPace(START, 'fast');
    b.onBeat(START, { ...a.makeBeat(START) });
    expect(b.beatDue).toBeDefined();
    a.setPace(START, 'none');
    a.onBeat(START, { ...b.makeBeat(START) });
    expect(a.beatDue).toBeUndefined();
    expect(b.beatDue).toBeUndefined();
  });

  test('of two standbys: they answer, but not each answer at once', () => {
    const [a, b] = [new LinkHealth(), new LinkHealth()];
    a.setPace(START, 'slow');
    b.setPace(START, 'slow');
    converse(a, b, 10_000);
    expect(a.beatsOut + b.beatsOut).toBeLessThanOrEqual(42);
    expect(a.samples).toBeGreaterThanOrEqual(9);
  });

  test('of a peer in a hurry are answered at its pace by a standby', () => {
    const [a, b] = [new LinkHealth(), new LinkHealth()];
    a.setPace(START, 'fast');
    b.setPace(START, 'slow');
    converse(a, b, 2000);
    expect(b.beatsOut).toBeGreaterThanOrEqual(15);
  });

  test('of a liar leave figures that are finite and within bounds', () => {
    const word = () => fc.integer({ min: 0, max: 0xffff_ffff });
    const lie: fc.Arbitrary<Heartbeat> = fc.record({
      seq: word(),
      echo: word(),
      sent: word(),
      echoed: word(),
      received: word(),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(lie, fc.boolean()), { maxLength: 60 }), (beats) => {
        const pair = new Pair();
        for (const [beat, isEcho] of beats) {
          pair.beat(1);
          pair.a.onBeat(pair.now, isEcho ? { ...emptyHeartbeat(), ...beat, echo: beat.echo % 64 } : beat);
          for (const value of [pair.a.srtt, pair.a.rttvar]) expect(value >= 0 && value <= Seconds(30)).toBe(true);
          const loss = pair.a.loss(pair.now);
          expect(loss >= 0 && loss <= 1).toBe(true);
          expect(pair.a.missed(pair.now)).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });
});

test('a history is as long as its 32 bits, and late ones are filled in', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 80 }), fc.integer({ min: 1, max: 32 }), (fates, window) => {
      const history = new BeatHistory();
      for (const came of fates) history.push(came ? 0 : 1, came ? 1 : 0);
      const known = fates.slice(-Math.min(window, 32));
      const lost = known.filter((came) => !came).length;
      expect(history.loss(window)).toBe(known.length === 0 ? 0 : lost / known.length);
      const age = fates.length - 1 - fates.lastIndexOf(false);
      if (lost > 0 && age < window) {
        expect(history.cameLate(age)).toBe(true);
        expect(history.cameLate(age)).toBe(false);
        expect(history.loss(window)).toBeCloseTo((lost - 1) / known.length);
      }
    }),
  );
});
