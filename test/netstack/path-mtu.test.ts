/** Transfers over paths that swallow large packets without ICMP: they go on, find the size that passes, and later a larger one. */
import { describe, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { PathMtu } from '../../src/netstack/tcp/path-mtu.js';
import { Simulation } from './matrix/simulation.js';

const path = { rtt: Millis(20), loss: 0, rate: 250_000, queue: 20_000, seed: 5 };

describe.each(['bbr', 'cubic'] as const)('with %s', (congestion) => {
  test.each([1400, 1100, 600])('a path that carries %i of 1500 bytes only', (mtu) => {
    const simulation = new Simulation({ ...path, mtu: () => mtu, tcp: { congestion } }, 1);
    simulation.run(Seconds(20), () => false);
    expect(simulation.total).toBeGreaterThan(14 * path.rate);
    simulation.takeLongest();
    simulation.run(Seconds(2), () => false);
    // To within the step at which the search ends.
    expect(simulation.takeLongest()).toBeGreaterThan(mtu - 25);
    // One for what both ends agreed on, one more where the first size tried after that is too large as well.
    expect(simulation.senderStack.counters.stack.get('tcp_pmtu_black_holes')).toBe(mtu < 1024 ? 2 : 1);
  });
});

test('a hole that opens in the middle and closes again: small within seconds, large again after ten minutes', () => {
  const mtu = (seconds: number): number => (seconds > 5 && seconds < 60 ? 1200 : 1500);
  const simulation = new Simulation({ ...path, rate: 125_000, queue: 5000, mtu, tcp: { congestion: 'cubic' } }, 1);
  simulation.run(Seconds(5), () => false);
  expect(simulation.takeLongest()).toBe(1500);
  simulation.run(Seconds(30), () => false);
  simulation.takeLongest();
  simulation.run(Seconds(20), () => false);
  const small = simulation.takeLongest();
  expect(small).toBeGreaterThan(1180);
  expect(small).toBeLessThanOrEqual(1200);
  simulation.run(Seconds(590), () => false);
  simulation.takeLongest();
  simulation.run(Seconds(10), () => false);
  expect(simulation.takeLongest()).toBe(1500);
});

test('an outage is not taken for a small path for longer than the first probe takes', () => {
  const mtu = (seconds: number): number => (seconds > 2 && seconds < 8 ? 0 : 1500);
  const simulation = new Simulation({ ...path, mtu, tcp: { congestion: 'bbr' } }, 1);
  simulation.run(Seconds(14), () => false);
  expect(simulation.senderStack.counters.stack.get('tcp_pmtu_black_holes')).toBeGreaterThan(0);
  simulation.takeLongest();
  simulation.run(Seconds(1), () => false);
  expect(simulation.takeLongest()).toBe(1500);
});

test('a small buffer at a loss of 30 % is no black hole for long, and keeps its speed', () => {
  const tcp = { receiveInitial: 2048, receiveMax: 2048 };
  const simulation = new Simulation({ rtt: Millis(100), loss: 0.3, seed: 40, tcp }, 1);
  simulation.run(Seconds(600), () => false);
  expect(simulation.total).toBeGreaterThan(600 * 1000);
});

test('where the peer’s window is the limit, room for a probe is saved up', () => {
  const tcp = { receiveInitial: 16_384, receiveMax: 16_384 };
  const simulation = new Simulation({ ...path, mtu: () => 1280, tcp }, 1);
  simulation.run(Seconds(40), () => false);
  simulation.takeLongest();
  simulation.run(Seconds(2), () => false);
  const longest = simulation.takeLongest();
  // A small window is cut evenly.
  expect(longest).toBeGreaterThan(1200);
  expect(longest).toBeLessThanOrEqual(1280);
});

test('with random loss the search ends at the size that passes', () => {
  for (const seed of [1, 2]) {
    const simulation = new Simulation({ ...path, seed, loss: 0.02, mtu: () => 1350 }, 1);
    simulation.run(Seconds(30), () => false);
    simulation.takeLongest();
    simulation.run(Seconds(2), () => false);
    expect(simulation.takeLongest()).toBeGreaterThan(1300);
  }
});

test.each([1, 2, 3, 4])('the search by itself: ends, in bounds, at the largest size that passes (seed %i)', (seed) => {
  for (let passes = 536; passes <= 1460; passes += 7 * seed) {
    const p = new PathMtu();
    p.start(1460);
    p.suspect(0, 536);
    let probes = 0;
    for (let now = 0; now < 120e6; now += 100_000) {
      const size = p.due(now);
      if (size === 0) continue;
      expect(size).toBeGreaterThan(536);
      expect(size).toBeLessThanOrEqual(1460);
      probes++;
      p.sent(1, 1 + size);
      if (size <= passes) p.arrived(now);
      else p.lost(now);
      p.state = 0;
    }
    expect(probes).toBeLessThan(30);
    expect(p.due(0)).toBe(0);
    // The next search begins at the top.
    expect(p.due(1e12)).toBe(p.due(1e12) === 0 ? 0 : 1460);
  }
});
