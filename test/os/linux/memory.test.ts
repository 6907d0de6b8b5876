/** Memory that goes back to the kernel while its owner keeps it. */
import { expect, it } from 'vitest';
import { releasePages } from '../../../src/os/linux/memory.js';

const PAGE = 65_536;

it('releases the pages within, is zero there and as it was elsewhere, and can be used again', () => {
  const whole = new Uint8Array(1 << 20).fill(7);
  const part = whole.subarray(1000, whole.length - 1000);
  releasePages(part);
  const first = whole.indexOf(0);
  const last = whole.lastIndexOf(0);
  expect(first).toBeGreaterThanOrEqual(1000);
  expect(last).toBeLessThan(whole.length - 1000);
  expect((last + 1 - first) % PAGE).toBe(0);
  expect(last + 1 - first).toBeGreaterThan(part.length - 2 * PAGE);
  expect(whole.subarray(first, last + 1).every((byte) => byte === 0)).toBe(true);
  expect(whole.subarray(0, first).every((byte) => byte === 7)).toBe(true);
  expect(whole.subarray(last + 1).every((byte) => byte === 7)).toBe(true);
  whole.fill(9);
  expect(whole.every((byte) => byte === 9)).toBe(true);
});

it('leaves alone what holds no whole page', () => {
  const bytes = new Uint8Array(PAGE).fill(7);
  releasePages(bytes.subarray(1));
  releasePages(new Uint8Array(0));
  expect(bytes.every((byte) => byte === 7)).toBe(true);
});
