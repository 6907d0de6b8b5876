/**
 * The matrix: 9 buffer sizes × 8 loss rates at a round trip of 100 ms, and the same cells as smoltcp's repository has them.
 */
import { Hours, Millis, Seconds } from '../../../src/base/time.js';
import type { TcpOptions } from '../../../src/netstack/tcp/options.js';
import { fairness, Simulation } from './simulation.js';

export const BUFFERS = [128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768] as const;
export const LOSSES = [0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3] as const;

/** Bytes per second, from tests/snapshots/netsim__netsim.snap of smoltcp at c03c357 (same path, 10 MiB, no congestion control). */
export const SMOLTCP: readonly (readonly number[])[] = [
  [1279.98, 1255.76, 1054.15, 886.36, 538.66, 227.84, 33.99, 7.18],
  [2559.91, 2507.27, 2100.03, 1770.3, 1070.71, 468.24, 66.71, 14.35],
  [5119.63, 5011.95, 4172.36, 3531.57, 2098.73, 942.38, 144.73, 29.45],
  [10238.5, 10023.19, 8340.9, 7084.25, 4003.34, 1869.94, 290.74, 60.92],
  [17535.11, 17171.82, 14093.5, 12063.9, 7205.27, 3379.12, 824.76, 131.54],
  [35062.41, 33852.31, 27011.08, 22073.09, 13680.7, 7631.11, 1617.81, 302.65],
  [77374.28, 72409.99, 58428.68, 48310.75, 29123.3, 14314.36, 2880.39, 551.6],
  [161842.28, 159448.56, 141467.31, 127073.06, 78239.08, 38637.2, 7565.64, 1112.31],
  [322944.88, 314313.9, 266384.37, 245985.29, 138762.29, 83162.99, 10739.1, 1951.95],
];

/** Bytes per second of one transfer of `bytes` with a receive buffer of `buffer` bytes. */
export function cell(buffer: number, loss: number, bytes: number, seed: number, tcp: Partial<TcpOptions> = {}): number {
  const simulation = new Simulation(
    {
      rtt: Millis(100),
      loss,
      seed,
      tcp: { receiveInitial: buffer, receiveMax: buffer, sendInitial: 65_536, sendMax: 65_536, ...tcp },
    },
    1,
  );
  const seconds = simulation.run(Hours(2000), () => simulation.total >= bytes);
  return simulation.total / seconds;
}

/** Flows that share a bottleneck of 20 Mbit/s with one bandwidth-delay product of queue, at 100 ms, for so many seconds. */
export function share(flows: number, seed: number, tcp: Partial<TcpOptions> = {}, span = 120) {
  const rate = 2_500_000;
  const simulation = new Simulation({ rtt: Millis(100), loss: 0, rate, queue: rate / 10, seed, tcp }, flows);
  const seconds = simulation.run(Seconds(span), () => false);
  const shares = simulation.received;
  return {
    fairness: fairness(shares),
    used: simulation.total / seconds / rate,
    least: Math.min(...shares) / seconds,
    most: Math.max(...shares) / seconds,
    dropped: simulation.dropped,
  };
}
