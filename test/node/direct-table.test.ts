import { expect, test } from 'vitest';
import { ADDRESS_WORDS } from '../../src/base/address.js';
import { type Instant, later, Millis, Seconds } from '../../src/base/time.js';
import { DirectTable } from '../../src/node/direct-table.js';
import { at } from '../support/sim-nodes.js';

const START = Seconds(10) as number as Instant;
const words = (text: string): Uint32Array => {
  const packed = new Uint32Array(ADDRESS_WORDS);
  at(text).write(packed, 0);
  return packed;
};
/** A long header with connection ids of these bytes. */
const initial = (destination: number[], source: number[]): Uint8Array =>
  Uint8Array.of(0xc0, 0, 0, 0, 1, destination.length, ...destination, source.length, ...source, 0, 0);

test('an address is open for 10 s, and longer while something lives on it', () => {
  const table = new DirectTable(1);
  const one = words('192.0.2.1:1');
  expect(table.isOpen(START, one, 0)).toBe(false);
  table.open(START, one, 0);
  expect(table.isOpen(later(START, Millis(9999)), one, 0)).toBe(true);
  expect(table.isOpen(later(START, Seconds(10)), one, 0)).toBe(false);
  table.hold(START, at('192.0.2.1:1'));
  table.hold(START, at('192.0.2.1:1'));
  const muchLater = later(START, Seconds(1000));
  table.release(muchLater, at('192.0.2.1:1'));
  expect(table.isOpen(later(muchLater, Seconds(100)), one, 0)).toBe(true);
  table.release(muchLater, at('192.0.2.1:1'));
  expect(table.isOpen(later(muchLater, Seconds(9)), one, 0)).toBe(true);
  expect(table.isOpen(later(muchLater, Seconds(10)), one, 0)).toBe(false);
});

test('ports, families and near misses are others', () => {
  const table = new DirectTable(1);
  table.open(START, words('192.0.2.1:1'), 0);
  for (const text of ['192.0.2.1:2', '192.0.2.2:1', '[::c000:201]:1', '[2001:db8::1]:1']) {
    expect(table.isOpen(START, words(text), 0)).toBe(false);
  }
});

test('addresses whose hashes are equal are told apart, in whatever order they go', () => {
  // high(words) = w0 ^ w1·k ^ w3: swapping what is in words 0 and 3 leaves it.
  const pair = ['[2001:db8::3fff:1]:1', '[3fff:1::2001:db8]:1'];
  const table = new DirectTable(1);
  for (const text of pair) table.open(START, words(text), 0);
  expect(pair.map((text) => table.isOpen(START, words(text), 0))).toEqual([true, true]);
  expect(table.size).toBe(2);
  table.hold(START, at(pair[0]!));
  // What is over goes at the next look.
  table.open(later(START, Seconds(20)), words('192.0.2.1:1'), 0);
  expect(table.size).toBe(2);
  expect(pair.map((text) => table.isOpen(later(START, Seconds(20)), words(text), 0))).toEqual([true, false]);
});

test('no more than 16,384 addresses', () => {
  const table = new DirectTable(1);
  for (let i = 0; i < 16_384; i++) expect(table.open(START, words(`198.51.${i >> 8}.${i & 255}:1`), 0)).toBe(true);
  expect(table.open(START, words('192.0.2.1:1'), 0)).toBe(false);
  expect(table.open(START, words('198.51.0.0:1'), 0)).toBe(true);
  expect(table.open(later(START, Seconds(20)), words('192.0.2.1:1'), 0)).toBe(true);
  expect(table.size).toBe(1);
});

test('three new connections in 10 s; repeats of one are no new ones', () => {
  const table = new DirectTable(1);
  const one = words('192.0.2.1:1');
  table.open(START, one, 0);
  const admits = (bytes: Uint8Array, now: Instant = START): boolean =>
    table.admits(now, one, 0, bytes, 0, bytes.length);
  for (let i = 1; i <= 3; i++) {
    expect(admits(initial([1, 2, 3], [i]))).toBe(true);
    expect(admits(initial([9, 9], [i]))).toBe(true);
  }
  expect(admits(initial([1, 2, 3], [4]))).toBe(false);
  expect(admits(initial([1, 2, 3], [4]), later(START, Seconds(10)))).toBe(true);
  expect(admits(initial([1, 2, 3], [5]), later(START, Seconds(10)))).toBe(true);
  expect(admits(initial([1, 2, 3], [6]), later(START, Seconds(10)))).toBe(true);
  expect(admits(initial([1, 2, 3], [7]), later(START, Seconds(10)))).toBe(false);
  table.expectAnswer(at('192.0.2.1:1'));
  expect(admits(initial([1, 2, 3], [7]), later(START, Seconds(10)))).toBe(true);
});

test('what is no long header is admitted by nobody', () => {
  const table = new DirectTable(1);
  const one = words('192.0.2.1:1');
  table.open(START, one, 0);
  const whole = initial(
    Array.from({ length: 20 }, () => 1),
    Array.from({ length: 20 }, () => 2),
  ).slice(0, 48);
  expect(table.admits(START, one, 0, whole, 0, whole.length)).toBe(true);
  for (let length = 0; length < 47; length++) expect(table.admits(START, one, 0, whole, 0, length)).toBe(false);
  expect(table.admits(START, one, 0, whole.with(5, 21), 0, whole.length)).toBe(false);
  expect(table.admits(START, words('192.0.2.9:1'), 0, whole, 0, whole.length)).toBe(false);
});
