/** At level trace: once a second, which counters of a role have moved since, and by how much; the level may change while it runs. */
import { Seconds, toMillis } from '../base/time.js';
import type { LevelLog } from './log.js';

const EVERY = Seconds(1);

type Counters = Readonly<Record<string, number>>;

/** Of the loop itself: looking moves them. */
const LOOP = /^(turns|slow_turns|late_turns|longest_turn|loop_lag)/;

/** What is other than before, as differences; without the loop's own. */
export function moved(now: Counters, before: Counters): Record<string, number> {
  const changes: Record<string, number> = {};
  for (const [name, value] of Object.entries(now)) {
    const by = value - (before[name] ?? 0);
    if (by !== 0 && !LOOP.test(name)) changes[name] = by;
  }
  return changes;
}

/** @returns ends it. */
export function traceCounters(log: LevelLog, read: () => Promise<Counters>): () => void {
  let before: Counters | undefined;
  let isReading = false;
  const look = async (): Promise<void> => {
    const now = await read();
    const changes = before === undefined ? {} : moved(now, before);
    before = now;
    if (Object.keys(changes).length > 0) log.trace(changes, 'counters');
  };
  const timer = setInterval(() => {
    if (log.level !== 'trace') before = undefined;
    else if (!isReading) {
      isReading = true;
      // A thread that is ending answers nobody.
      look()
        .catch(() => undefined)
        .finally(() => {
          isReading = false;
        });
    }
  }, toMillis(EVERY)).unref();
  return () => clearInterval(timer);
}
