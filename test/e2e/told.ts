/** What a test's own program says: one JSON object with an `event` a line. */
import type { Duration } from '../../src/base/time.js';
import type { LabProcess } from '../lab/process.js';

/** Everything of this kind it has said so far. */
export function told<E extends { readonly event: string }>(program: LabProcess, event: E['event']): E[] {
  return program.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as E)
    .filter((one) => one.event === event);
}

/** Waits until it has said `event` so often altogether. */
export function toldOften<E extends { readonly event: string }>(
  program: LabProcess,
  event: E['event'],
  count: number,
  timeout: Duration,
): Promise<E[]> {
  return program.waitFor(`${count} × ${event}`, { timeout }, () => {
    const lines = told<E>(program, event);
    return lines.length >= count ? lines : undefined;
  });
}
