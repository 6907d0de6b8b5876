/** BBR and its parts: samples of the delivery rate, pacing, the model of the path, and what it does with losses. */
import { describe, expect, test } from 'vitest';
import { instantAt, Millis, Seconds } from '../../src/base/time.js';
import { Bbr } from '../../src/netstack/tcp/bbr.js';
import { DeliveryRate } from '../../src/netstack/tcp/delivery-rate.js';
import { MaxFilter } from '../../src/netstack/tcp/max-filter.js';
import { Pacer } from '../../src/netstack/tcp/pacer.js';
import { fairness, type PathOptions, Simulation } from './matrix/simulation.js';

const SEGMENT = 1000;

describe('delivery rate', () => {
  test('is what was delivered over the longer of sending and acknowledging', () => {
    const rate = new DeliveryRate();
    rate.sending(instantAt(1_000_000), true);
    // Ten segments, one per ms; acknowledged 20 ms later, all within 3 ms.
    const sent = Array.from({ length: 10 }, (_, i) => {
      const at = 1_000_000 + i * 1000;
      return { at, delivered: rate.delivered, deliveredAt: rate.deliveredAt, first: rate.firstSentAt };
    });
    const last = sent.at(-1)!;
    rate.begin();
    for (const s of sent) rate.take(instantAt(1_023_000), SEGMENT, s.at, s.delivered, s.deliveredAt, s.first, false);
    rate.conclude(20_000);
    expect(rate.delivered).toBe(10_000);
    expect(rate.rate).toBeCloseTo(10_000 / (1_023_000 - last.deliveredAt), 6);
  });

  test('shorter than the least round trip it is none', () => {
    const rate = new DeliveryRate();
    rate.sending(instantAt(1_000_000), true);
    rate.begin();
    rate.take(instantAt(1_005_000), SEGMENT, 1_000_000, 0, 1_000_000, 1_000_000, false);
    rate.conclude(20_000);
    expect(rate.rate).toBe(0);
  });

  test('samples are marked while the application has nothing to send, until what was then out is delivered', () => {
    const rate = new DeliveryRate();
    rate.limitedByOthers(3000);
    expect(rate.limitedUntil).toBe(3000);
    for (const bytes of [3000, 1]) {
      rate.begin();
      rate.take(instantAt(2_000_000), bytes, 1_000_000, 0, 1_000_000, 1_000_000, true);
      rate.conclude(1);
    }
    expect(rate.limitedUntil).toBe(0);
  });
});

test('the greatest value of the last rounds', () => {
  const filter = new MaxFilter(10);
  filter.update(0, 7);
  for (let round = 1; round <= 5; round++) filter.update(round, 1);
  expect(filter.value).toBe(7);
  for (let round = 6; round <= 10; round++) filter.update(round, 1);
  expect(filter.value).toBe(1);
  filter.update(40, 2);
  expect(filter.value).toBe(2);
});

test('pacing: credit grows with time up to a burst and what a late driver may miss', () => {
  const pacer = new Pacer();
  const rate = 10; // bytes per µs
  const burst = Pacer.burst(rate, SEGMENT);
  expect(burst).toBe(10_000);
  const most = pacer.available(instantAt(0), rate, SEGMENT);
  expect(most).toBe(burst + 20_000);
  pacer.spend(most);
  expect(pacer.wait(rate, 1e6)).toBe(1000);
  expect(pacer.wait(rate, SEGMENT)).toBe(100);
  expect(pacer.available(instantAt(1000), rate, SEGMENT)).toBe(burst);
  expect(pacer.available(instantAt(1_000_000), rate, SEGMENT)).toBe(most);
  expect(Pacer.burst(1e9, SEGMENT)).toBe(65_536);
  expect(Pacer.burst(1e-9, SEGMENT)).toBe(2 * SEGMENT);
});

describe('on a path of 40 Mbit/s and 20 ms', () => {
  const path: PathOptions = { rtt: Millis(20), loss: 0, rate: 5_000_000, queue: 200_000, seed: 5 };
  const megabits = (options: Partial<PathOptions>, congestion: 'bbr' | 'cubic' = 'bbr'): number => {
    const simulation = new Simulation({ ...path, ...options, tcp: { congestion } }, 1);
    const seconds = simulation.run(Seconds(6), () => false);
    return (simulation.total * 8) / seconds / 1e6;
  };

  test.each([0, 0.001, 0.01, 0.05])('a loss of %d costs no more than what is lost', (loss) => {
    expect(megabits({ loss })).toBeGreaterThan(40 * (1 - loss) * 0.88);
  });

  test('the loss that BBR shrugs off is what CUBIC gives way to', () => {
    expect(megabits({ loss: 0.01 })).toBeGreaterThan(3 * megabits({ loss: 0.01 }, 'cubic'));
  });

  test('the queue stays short: less waits on average than half of what the path holds', () => {
    const simulation = new Simulation({ ...path, queue: 1_000_000, tcp: { congestion: 'bbr' } }, 1);
    simulation.run(Seconds(3), () => false);
    let sum = 0;
    let samples = 0;
    let at = simulation.now;
    simulation.run(Seconds(3), () => {
      if (simulation.now !== at) {
        sum += simulation.waiting;
        samples++;
        at = simulation.now;
      }
      return false;
    });
    expect(sum / samples).toBeLessThan(50_000);
  });

  test('eight flows share it', () => {
    const simulation = new Simulation({ ...path, tcp: { congestion: 'bbr' } }, 8);
    simulation.run(Seconds(20), () => false);
    expect(fairness(simulation.received)).toBeGreaterThan(0.9);
    expect(simulation.total).toBeGreaterThan(0.9 * 20 * 5_000_000);
  });

  test('a queue of a twentieth of the path is filled without being flooded', () => {
    const simulation = new Simulation({ ...path, queue: 15_000, tcp: { congestion: 'bbr' } }, 1);
    const seconds = simulation.run(Seconds(6), () => false);
    expect((simulation.total * 8) / seconds / 1e6).toBeGreaterThan(30);
    expect(simulation.dropped * 1500).toBeLessThan(0.1 * simulation.total);
  });
});

test.each([2, 4, 10])('losses in a first window of ten do not end the start-up, seed %i', (seed) => {
  const path = { rtt: Millis(100), loss: 0.05, rate: 2_500_000, queue: 250_000, seed };
  const simulation = new Simulation(path, 1);
  simulation.run(Seconds(5), () => false);
  expect(simulation.total).toBeGreaterThan(0.6 * 5 * 2_500_000);
});

test('a timeout sends one segment, and the window is back when the recovery is over', () => {
  const bbr = new Bbr(SEGMENT);
  bbr.window = 50_000;
  bbr.timedOut(instantAt(1_000_000), 50_000);
  expect(bbr.window).toBe(SEGMENT);
  bbr.recovered();
  expect(bbr.window).toBe(50_000);
});
