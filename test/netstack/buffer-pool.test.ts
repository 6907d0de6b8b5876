/** What one stack's buffers and windows may take together. */
import { expect, test } from 'vitest';
import { instantAt, Micros } from '../../src/base/time.js';
import { BufferPool } from '../../src/netstack/buffer-pool.js';
import { BufferStore } from '../../src/netstack/buffer-store.js';
import { DEFAULT_TCP_OPTIONS } from '../../src/netstack/tcp/options.js';
import { Receiver } from '../../src/netstack/tcp/receiver.js';
import { Sender } from '../../src/netstack/tcp/sender.js';

const KB = 1024;
const make = (budget: number): BufferPool => new BufferPool(new BufferStore(0), budget);
/** What the pool still has for growth. */
function left(pool: BufferPool): number {
  let bytes = 0;
  for (let step = 1 << 26; step >= 1; step /= 2) if (pool.promise(step)) bytes += step;
  pool.release(bytes);
  return bytes;
}

test('what windows and buffers have grown by is set aside up to the budget, to the byte, and counts no more when it is taken back', () => {
  const pool = make(256 * KB);
  expect([pool.promise(200 * KB), pool.promise(57 * KB), pool.promise(56 * KB)]).toEqual([true, false, true]);
  expect([pool.promise(0), pool.promise(1)]).toEqual([true, false]);
  pool.release(200 * KB);
  expect([pool.promise(200 * KB + 1), pool.promise(200 * KB)]).toEqual([false, true]);
});

test('what a connection begins with is outside the budget', () => {
  const pool = make(0);
  expect([pool.take(4 * KB).size, pool.lentBytes]).toEqual([4 * KB, 4 * KB]);
});

/** A sender whose congestion window would let it take all there is. */
function senderOn(pool: BufferPool, sendMax = 4096 * KB): Sender {
  const sender = new Sender(pool, { ...DEFAULT_TCP_OPTIONS, sendInitial: 16 * KB, sendMax });
  sender.start(0);
  sender.congestion.window = sendMax;
  return sender;
}
const fill = (sender: Sender): number =>
  sender.write(new Uint8Array(8192 * KB), 0, 8192 * KB, { bytes: new Uint8Array(0), offset: 0, length: 0 });

test.each([
  [0, 16],
  [16, 32],
  [47, 32],
  [48, 64],
  [111, 64],
  [112, 128],
  [1e9, 4096],
])('with %i KiB to grow by a send buffer of 16 KiB grows to %i', (budget, size) => {
  const pool = make(budget * KB);
  const sender = senderOn(pool);
  expect(fill(sender)).toBe(size * KB);
  expect([pool.lentBytes, left(pool)]).toEqual([size * KB, Math.min((budget - size + 16) * KB, 2 ** 27 - 1)]);
  // A second one has what is left, and what is given back.
  const other = senderOn(pool);
  expect(fill(other)).toBeGreaterThanOrEqual(16 * KB);
  sender.release();
  other.release();
  expect([pool.lentBytes, left(pool)]).toEqual([0, Math.min(budget * KB, 2 ** 27 - 1)]);
});

test('a buffer that began small grows to the first size of any without asking', () => {
  const pool = make(0);
  const sender = senderOn(pool);
  const span = { bytes: new Uint8Array(0), offset: 0, length: 0 };
  expect([sender.write(new Uint8Array(100), 0, 100, span), pool.lentBytes]).toEqual([100, 4 * KB]);
  expect([fill(sender), pool.lentBytes]).toEqual([16 * KB - 100, 16 * KB]);
});

test('windows and send buffers share one budget, and hold no more than that and what they begin with', () => {
  const pool = make(96 * KB);
  const sender = senderOn(pool);
  const receiver = new Receiver(pool, 16 * KB, 1024 * KB);
  const tune = (at: number): void => {
    receiver.start(0, 5);
    receiver.tune(instantAt(at), Micros(1));
    receiver.inOrder(new Uint8Array(KB * 1024), 0, receiver.limit, { onData: (_b, _o, n) => n, onClosed: () => {} });
    receiver.tune(instantAt(at + 10), Micros(1));
  };
  tune(0);
  expect([receiver.limit, left(pool)]).toEqual([32 * KB, 80 * KB]);
  tune(100);
  expect([receiver.limit, left(pool)]).toEqual([64 * KB, 48 * KB]);
  // Twice as much would be 64 KiB more.
  tune(200);
  expect([receiver.limit, left(pool)]).toEqual([64 * KB, 48 * KB]);
  expect([fill(sender), left(pool)]).toEqual([64 * KB, 0]);
  receiver.inOrder(new Uint8Array(64 * KB), 0, 64 * KB, { onData: () => 0, onClosed: () => {} });
  expect(pool.lentBytes).toBe(96 * KB + 2 * 16 * KB);
  receiver.release();
  sender.release();
  expect([pool.lentBytes, left(pool)]).toEqual([0, 96 * KB]);
});
