/** HyStart++ (RFC 9406 §4.2), round by round: a round ends when what was out at its beginning is acknowledged. */
import { expect, test } from 'vitest';
import { HyStart } from '../../src/netstack/tcp/hystart.js';

/** Samples a round needs before it is judged. */
const SAMPLES = 8;
/** Conservative rounds until slow start is over. */
const ROUNDS = 5;
const WINDOW = 100_000;

class Flow {
  readonly hystart = new HyStart();
  #una: number;

  constructor(una = 0) {
    this.#una = una;
  }

  /** One round with these samples, µs. */
  round(...samples: readonly number[]): this {
    samples.forEach((rtt, i) => {
      const una = (this.#una + i * 1000) | 0;
      this.hystart.measured(rtt, una, (una + WINDOW) | 0);
    });
    this.#una = (this.#una + WINDOW) | 0;
    return this;
  }

  even(rtt: number, samples = SAMPLES): this {
    return this.round(...new Array<number>(samples).fill(rtt));
  }

  get growth(): number {
    return this.hystart.growth(4000);
  }
}

const ms = (n: number): number => n * 1000;

test.each([
  ['an eighth', 100, 12.5],
  ['no less than 4 ms', 10, 4],
  ['no more than 16 ms', 400, 16],
])('a round trip that has risen by %s of the last round’s enters the slower phase', (_what, rtt, rise) => {
  const below = new Flow().even(ms(rtt)).even(ms(rtt + rise) - 1);
  expect(below.growth).toBe(4000);
  const at = new Flow().even(ms(rtt)).even(ms(rtt + rise));
  // A quarter of the growth, and slow start is not over yet.
  expect([at.growth, at.hystart.isOver]).toEqual([1000, false]);
});

test('it is the round’s least round trip that counts, and not before eight samples', () => {
  const flow = new Flow().even(ms(100)).round(...new Array<number>(SAMPLES).fill(ms(150)), ms(150));
  expect(flow.growth).toBe(1000);
  expect(new Flow().even(ms(100)).even(ms(150), SAMPLES - 1).growth).toBe(4000);
  expect(new Flow().even(ms(100)).round(ms(101), ...new Array<number>(20).fill(ms(150))).growth).toBe(4000);
  // A first round has nothing to be compared with.
  expect(new Flow().even(ms(500)).growth).toBe(4000);
});

test('a rise is measured against the round before, however slow the beginning was', () => {
  const flow = new Flow().even(ms(100));
  for (let rtt = 110; rtt <= 200; rtt += 10) flow.even(ms(rtt));
  expect(flow.growth).toBe(4000);
  expect(flow.even(ms(225)).growth).toBe(1000);
});

test('round trips below those at its beginning take the slower phase back, and it may begin again', () => {
  const flow = new Flow().even(ms(100)).even(ms(120));
  expect(flow.even(ms(120)).growth).toBe(1000);
  expect(flow.even(ms(119), SAMPLES - 1).growth).toBe(1000);
  expect(flow.even(ms(119)).growth).toBe(4000);
  expect(flow.even(ms(140)).growth).toBe(1000);
});

test('after five rounds of it slow start is over; the one in which it began counts', () => {
  const flow = new Flow().even(ms(100)).even(ms(120));
  for (let rounds = 1; rounds < ROUNDS; rounds++) {
    flow.even(ms(120));
    expect([flow.growth, flow.hystart.isOver]).toEqual([1000, false]);
  }
  flow.round(ms(120));
  expect(flow.hystart.isOver).toBe(true);
  // For good.
  flow.even(ms(10)).even(ms(200));
  expect([flow.growth, flow.hystart.isOver]).toEqual([4000, true]);
});

test('a loss ends it at once', () => {
  const flow = new Flow().even(ms(100)).even(ms(120));
  flow.hystart.finish();
  expect([flow.growth, flow.hystart.isOver]).toEqual([4000, true]);
});

test('rounds go on where sequence numbers begin anew', () => {
  const flow = new Flow(0x7fff_ffff - WINDOW / 2).even(ms(100)).even(ms(113));
  expect(flow.growth).toBe(1000);
});
