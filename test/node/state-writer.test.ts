/** What cannot be written now is used from memory, told once, and written when that is possible again. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { StateWriter } from '../../src/node/state-writer.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a full disk: one line, the newest value is the one written in the end, one line more', () => {
  const said: string[] = [];
  const say = (_fields: object, message: string): void => void said.push(message);
  const writer = new StateWriter({ debug: say, info: say, warn: say, error: say });
  const disk: string[] = [];
  let isFull = true;
  const save = (value: string) => () => {
    if (isFull) throw new Error('ENOSPC: no space left on device');
    disk.push(value);
  };
  writer.save('policy', save('policy 2'));
  writer.save('certificate', save('certificate 2'));
  vi.advanceTimersByTime(60_000);
  writer.save('policy', save('policy 3'));
  expect(said).toEqual(['the new policy is in use but not on disk', 'the new certificate is in use but not on disk']);
  isFull = false;
  vi.advanceTimersByTime(5_000);
  expect(disk.sort()).toEqual(['certificate 2', 'policy 3']);
  expect(said.slice(2).sort()).toEqual(['the new certificate is on disk now', 'the new policy is on disk now']);
  expect(vi.getTimerCount()).toBe(0);
});
