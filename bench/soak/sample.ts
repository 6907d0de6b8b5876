/**
 * What a process holds and how often it wakes, as the kernel counts it: proc(5), status VmRSS, the folder fd, and of every thread
 * voluntary_ctxt_switches (one each time it went to sleep, so one for each wake-up).
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessSample {
  readonly rssBytes: number;
  readonly descriptors: number;
  /** Since the process began. */
  readonly wakeUps: number;
}

export function sampleProcess(pid: number): ProcessSample {
  const threads = readdirSync(`/proc/${pid}/task`);
  return {
    rssBytes: statusField(`/proc/${pid}/status`, 'VmRSS') * 1024,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    wakeUps: threads.reduce((sum, thread) => sum + wakeUpsOf(`/proc/${pid}/task/${thread}/status`), 0),
  };
}

function wakeUpsOf(file: string): number {
  try {
    return statusField(file, 'voluntary_ctxt_switches');
  } catch {
    // The thread ended between the two looks.
    return 0;
  }
}

function statusField(file: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(file, 'latin1'))?.[1] ?? 0);
}

/** Milliseconds that collections paused a process for, from what `node --trace-gc` prints. */
export function gcPauses(trace: string): number {
  let sum = 0;
  for (const match of trace.matchAll(
    / (?:Scavenge|Mark-Compact|Mark-sweep)[^\n]*? MB, (?:pooled: [^,]*, )?([\d.]+) \/ [\d.]+ ms/g,
  )) {
    sum += Number(match[1]);
  }
  return sum;
}
