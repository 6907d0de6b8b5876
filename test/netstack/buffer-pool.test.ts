/** What one stack's buffers and windows may take together. */
import { expect, test } from 'vitest';
import { BufferPool } from '../../src/netstack/buffer-pool.js';
import { BufferStore } from '../../src/netstack/buffer-store.js';

const KB = 1024;
const make = (): BufferPool => new BufferPool(new BufferStore(0), 256 * KB);

test('buffers grow up to the budget, and what is given back counts no more', () => {
  const pool = make();
  const lent = pool.take(192 * KB);
  expect(lent.size).toBe(256 * KB);
  expect([pool.mayGrow(0), pool.mayGrow(1)]).toEqual([true, false]);
  pool.give(lent);
  pool.take(128 * KB);
  expect([pool.mayGrow(128 * KB), pool.mayGrow(128 * KB + 1)]).toEqual([true, false]);
});

test('what windows promise counts as if it were lent, until it is taken back', () => {
  const pool = make();
  expect([pool.promise(200 * KB), pool.promise(57 * KB), pool.promise(56 * KB)]).toEqual([true, false, true]);
  expect(pool.mayGrow(1)).toBe(false);
  pool.release(200 * KB);
  expect([pool.mayGrow(200 * KB), pool.mayGrow(200 * KB + 1)]).toEqual([true, false]);
});

test('a connection’s first buffer is lent whatever the budget', () => {
  const pool = make();
  pool.promise(256 * KB);
  expect(pool.take(4 * KB).size).toBe(4 * KB);
});
