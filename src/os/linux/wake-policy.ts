/**
 * What happens when a packet wakes this thread while another one runs on its core (sched(7)):
 *
 *   preempt  SCHED_OTHER  the thread runs at once, the other goes on later
 *   yield    SCHED_BATCH  the thread runs when the other sleeps, which the waker of a packet thread mostly does some
 *                         microseconds later, or has used its share of time
 *
 * Preempting its waker in the middle of a turn makes the scheduler count two threads on that core, and move the next one that is
 * woken to a core that is halted and whose caches know nothing of it. Where agent, relay, connector or what they carry for share a
 * machine, that is half of a packet's round trip. But among threads that never sleep, yielding costs some
 * milliseconds each time. So the thread yields as long as it need not wait for long, and preempts where nobody lets it run.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { type Duration, elapsed, type Instant, later, Micros, Millis, Seconds } from '../../base/time.js';
import { SCHED_BATCH, SCHED_OTHER } from './constants.js';
import { schedGetscheduler, schedSetscheduler } from './libc.js';
import { NativeMemory } from './memory.js';

/** Between two looks at how long the thread had to wait. */
export const LOOK_INTERVAL: Duration = Millis(250);
/** Waits per look below which their mean says nothing. */
export const FEW_WAITS = 10;
/** Mean wait for the core, from being woken, that a thread which yields bears. A share of time is 0.7 to 3 ms long. */
export const LONGEST_MEAN_WAIT: Duration = Millis(1);
/** Of one core: as much must be idle for the thread to yield again. Threads that never sleep leave nothing. */
export const IDLE_SHARE = 0.25;
/** A thread that had to wait for long preempts at least for this time: what kept it waiting may come and go. */
export const PREEMPT_TIME: Duration = Seconds(1);

/** Readings of the kernel's clocks, all since some time in the past. */
export interface Sample {
  /** This thread's waits for a core while it could have run: their sum, and how many. */
  readonly waited: Duration;
  readonly waits: number;
  /** Sum over the machine's cores. */
  readonly idle: Duration;
  readonly at: Duration;
}

export type WakePolicyName = 'yield' | 'preempt';

/** What to do after `now`, given what was done between the two samples. */
export function nextWakePolicy(current: WakePolicyName, before: Sample, now: Sample): WakePolicyName {
  if (current === 'preempt') return now.idle - before.idle >= IDLE_SHARE * (now.at - before.at) ? 'yield' : 'preempt';
  const waits = now.waits - before.waits;
  return waits >= FEW_WAITS && now.waited - before.waited > waits * LONGEST_MEAN_WAIT ? 'preempt' : 'yield';
}

/** Where samples come from; a driver's, for tests can say what they like. */
export interface Samples {
  /** `undefined`: the kernel does not tell. */
  take(): Sample | undefined;
  close(): void;
}

/** The policy of the thread that makes it; an operator's choice of another one (`chrt`, systemd's CPUSchedulingPolicy) is left alone. */
export class WakePolicy {
  readonly #samples: Samples;
  /** struct sched_param: the priority, which these policies have not. */
  readonly #param = NativeMemory.allocate(4);
  #isOurs = schedGetscheduler(0) === SCHED_OTHER;
  #current: WakePolicyName = 'preempt';
  #preemptUntil = Number.NEGATIVE_INFINITY as Instant;
  #before: Sample | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY as Instant;

  constructor(samples: Samples = new KernelSamples()) {
    this.#samples = samples;
  }

  /** To be called now and then by the thread itself; looks every `LOOK_INTERVAL`. */
  look(now: Instant): void {
    if (!this.#isOurs || elapsed(this.#lookedAt, now) < LOOK_INTERVAL) return;
    this.#lookedAt = now;
    const sample = this.#samples.take();
    if (sample === undefined) return;
    const next = this.#before === undefined ? this.#current : nextWakePolicy(this.#current, this.#before, sample);
    this.#before = sample;
    if (next !== this.#current && (next === 'preempt' || now >= this.#preemptUntil)) this.#change(next, now);
  }

  close(): void {
    this.#samples.close();
  }

  #change(next: WakePolicyName, now: Instant): void {
    if (next === 'preempt') this.#preemptUntil = later(now, PREEMPT_TIME);
    this.#current = next;
    // A sandbox may refuse it.
    const refused = schedSetscheduler(0, next === 'yield' ? SCHED_BATCH : SCHED_OTHER, this.#param.address) < 0;
    if (refused) this.#isOurs = false;
  }
}

/** Reads what the kernel tells of the thread that makes it. */
class KernelSamples implements Samples {
  readonly #files = openAll(['/proc/thread-self/schedstat', '/proc/uptime']);
  readonly #text = Buffer.alloc(256);

  take(): Sample | undefined {
    if (this.#files.length === 0) return undefined;
    try {
      return parseSample(this.#read(0), this.#read(1));
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#files.forEach(closeSync);
  }

  #read(file: number): string {
    return this.#text.toString('latin1', 0, readSync(this.#files[file]!, this.#text, 0, this.#text.length, 0));
  }
}

/**
 * @param schedstat `/proc/PID/schedstat`: nanoseconds run, nanoseconds waited, times
 * @param uptime `/proc/uptime`: seconds since the start, seconds that cores were idle
 */
export function parseSample(schedstat: string, uptime: string): Sample | undefined {
  const thread = schedstat.trim().split(' ').map(Number);
  const machine = uptime.trim().split(' ').map(Number);
  if (thread.length < 3 || machine.length < 2 || ![...thread, ...machine].every(Number.isFinite)) return undefined;
  const [, waited, waits] = thread as [number, number, number];
  // A kernel without these statistics says 0 for ever.
  if (waits === 0) return undefined;
  const [at, idle] = machine as [number, number];
  return { waited: Micros(waited / 1000), waits, idle: Micros(idle * 1e6), at: Micros(at * 1e6) };
}

/** All of them, or none. */
function openAll(paths: readonly string[]): readonly number[] {
  const files: number[] = [];
  try {
    for (const path of paths) files.push(openSync(path, 'r'));
    return files;
  } catch {
    files.forEach(closeSync);
    return [];
  }
}
