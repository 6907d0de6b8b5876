/** Buffers kept for reuse: within a limit, by size, over several stacks, and let go of at rest. */
import { expect, test } from 'vitest';
import { BufferPool } from '../../src/netstack/buffer-pool.js';
import { BufferStore } from '../../src/netstack/buffer-store.js';

const KB = 1024;

test('what one stack gives back another takes, of the same size only', () => {
  const store = new BufferStore(256 * KB);
  const [one, other] = [new BufferPool(store), new BufferPool(store)];
  const buffer = one.take(60 * KB);
  expect([buffer.size, one.lentBytes, store.bytes]).toEqual([64 * KB, 64 * KB, 0]);
  one.give(buffer);
  expect([one.lentBytes, store.bytes]).toEqual([0, 64 * KB]);
  expect(other.take(32 * KB)).not.toBe(buffer);
  expect(other.take(64 * KB)).toBe(buffer);
  expect([other.lentBytes, store.bytes]).toEqual([96 * KB, 0]);
});

test('keeps up to its limit and not a byte more', () => {
  const store = new BufferStore(192 * KB);
  const pool = new BufferPool(store);
  const [a, b, c] = [pool.take(128 * KB), pool.take(64 * KB), pool.take(4 * KB)];
  pool.give(a);
  pool.give(b);
  expect(store.bytes).toBe(192 * KB);
  pool.give(c);
  expect([store.bytes, pool.lentBytes]).toEqual([192 * KB, 0]);
  expect(pool.take(4 * KB)).not.toBe(c);
});

test('cleared, it holds nothing and keeps what comes later', () => {
  const store = new BufferStore(64 * KB);
  const pool = new BufferPool(store);
  const buffer = pool.take(64 * KB);
  pool.give(buffer);
  store.clear();
  expect(store.bytes).toBe(0);
  const next = pool.take(64 * KB);
  expect(next).not.toBe(buffer);
  pool.give(next);
  expect(store.bytes).toBe(64 * KB);
});
