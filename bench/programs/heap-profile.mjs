/**
 * Loaded before a role's own code by heap.ts: in the packet thread it measures collections, then samples what is allocated,
 * while files in the folder BENCH_HEAP say so.
 *
 *   start ─► collections are counted ─► sample ─► allocations are sampled ─► stop ─► ROLE.json
 */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { basename, dirname, join } from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

const POLL_MS = 100;
/** One allocation in so many bytes is looked at. */
const INTERVAL_BYTES = 4096;

const folder = process.env.BENCH_HEAP;
if (!isMainThread && folder !== undefined) watch(folder);

function watch(place) {
  // A packet thread's module lies in its role's folder.
  const role = basename(dirname(process.argv[1]));
  const session = new Session();
  session.connect();
  let paused = 0;
  let begun;
  const result = { role, pauseMs: 0, cpuSeconds: 0, head: undefined };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) paused += duration;
  }).observe({ entryTypes: ['gc'] });
  const steps = [
    [
      'start',
      () => {
        begun = process.cpuUsage();
        paused = 0;
      },
    ],
    [
      'sample',
      () => {
        const { user, system } = process.cpuUsage(begun);
        result.cpuSeconds = (user + system) / 1e6;
        result.pauseMs = paused;
        session.post('HeapProfiler.startSampling', {
          samplingInterval: INTERVAL_BYTES,
          includeObjectsCollectedByMajorGC: true,
          includeObjectsCollectedByMinorGC: true,
        });
      },
    ],
    [
      'stop',
      () =>
        session.post('HeapProfiler.stopSampling', (error, { profile }) => {
          if (error) throw error;
          result.head = profile.head;
          writeFileSync(join(place, `${role}.part`), JSON.stringify(result));
          renameSync(join(place, `${role}.part`), join(place, `${role}.json`));
        }),
    ],
  ];
  const timer = setInterval(() => {
    while (steps.length > 0 && existsSync(join(place, steps[0][0]))) steps.shift()[1]();
    if (steps.length === 0) clearInterval(timer);
  }, POLL_MS);
}
