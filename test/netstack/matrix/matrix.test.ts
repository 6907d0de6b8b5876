/** A seeded sample of the matrix and of the fairness table; `node bench/netstack-matrix.mjs` makes the whole. */
import { expect, test } from 'vitest';
import { BUFFERS, cell, LOSSES, SMOLTCP, share } from './matrix.js';

const BYTES = 512 * 1024;

test.each([
  [256, 0.01],
  [1024, 0.05],
  [2048, 0],
  [4096, 0.1],
  [8192, 0.02],
  [8192, 0.3],
] as const)('a buffer of %i bytes at a loss of %d moves as much as smoltcp does', (buffer, loss) => {
  const bar = SMOLTCP[BUFFERS.indexOf(buffer)]![LOSSES.indexOf(loss)]!;
  expect(cell(buffer, loss, BYTES, 1)).toBeGreaterThan(bar);
});

test.each([
  ['cubic', 0.97],
  ['newreno', 0.97],
  ['bbr', 0.9],
] as const)('16 flows of %s share a bottleneck', (congestion, bar) => {
  const result = share(16, 7, { congestion }, 30);
  expect(result.fairness).toBeGreaterThan(bar);
  expect(result.used).toBeGreaterThan(0.9);
});
