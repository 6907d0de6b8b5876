import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { instantAt, Micros, Millis, Seconds } from '../../../src/base/time.js';
import { SCHED_BATCH, SCHED_OTHER } from '../../../src/os/linux/constants.js';
import { schedGetscheduler, schedSetscheduler } from '../../../src/os/linux/libc.js';
import { NativeMemory } from '../../../src/os/linux/memory.js';
import {
  FEW_WAITS,
  IDLE_SHARE,
  LONGEST_MEAN_WAIT,
  LOOK_INTERVAL,
  nextWakePolicy,
  PREEMPT_TIME,
  parseSample,
  type Sample,
  WakePolicy,
} from '../../../src/os/linux/wake-policy.js';

const START: Sample = { waited: Millis(7), waits: 100, idle: Seconds(50), at: Seconds(30) };
const next = (waits: number, waited: number, idle: number): Sample => ({
  waited: Micros(START.waited + waited),
  waits: START.waits + waits,
  idle: Micros(START.idle + idle),
  at: Micros(START.at + LOOK_INTERVAL),
});

describe('what a thread does next', () => {
  it('yields until its mean wait is longer than bearable', () => {
    const bearable = FEW_WAITS * LONGEST_MEAN_WAIT;
    expect(nextWakePolicy('yield', START, next(FEW_WAITS, bearable, 0))).toBe('yield');
    expect(nextWakePolicy('yield', START, next(FEW_WAITS, bearable + 1, 0))).toBe('preempt');
  });

  it('takes a few waits for chance', () => {
    expect(nextWakePolicy('yield', START, next(FEW_WAITS - 1, Seconds(1), 0))).toBe('yield');
    expect(nextWakePolicy('yield', START, START)).toBe('yield');
  });

  it('preempts until enough of a core is idle', () => {
    const enough = IDLE_SHARE * LOOK_INTERVAL;
    expect(nextWakePolicy('preempt', START, next(1000, 0, enough - 1))).toBe('preempt');
    expect(nextWakePolicy('preempt', START, next(1000, Seconds(1), enough))).toBe('yield');
  });
});

describe('the thread’s own policy', () => {
  const param = NativeMemory.allocate(4);
  const set = (policy: number): number => schedSetscheduler(0, policy, param.address);
  afterEach(() => {
    set(SCHED_OTHER);
  });

  /** A machine whose cores are all idle, or all busy so that each wait of this thread takes long. */
  class Machine {
    isIdle = true;
    closed = 0;
    #sample = START;
    take(): Sample {
      const { waited, waits, idle, at } = this.#sample;
      this.#sample = this.isIdle
        ? { waited, waits: waits + FEW_WAITS, idle: Micros(idle + LOOK_INTERVAL), at: Micros(at + LOOK_INTERVAL) }
        : { waited: Micros(waited + Seconds(1)), waits: waits + FEW_WAITS, idle, at: Micros(at + LOOK_INTERVAL) };
      return this.#sample;
    }
    close(): void {
      this.closed++;
    }
  }

  it('yields on an idle machine, preempts on a busy one, and for a while after', () => {
    const machine = new Machine();
    const policy = new WakePolicy(machine);
    let at = 0;
    const look = (): number => {
      at += LOOK_INTERVAL;
      policy.look(instantAt(at));
      return schedGetscheduler(0);
    };
    expect([look(), look(), look()]).toEqual([SCHED_OTHER, SCHED_BATCH, SCHED_BATCH]);
    machine.isIdle = false;
    expect(look()).toBe(SCHED_OTHER);
    machine.isIdle = true;
    const looks = PREEMPT_TIME / LOOK_INTERVAL;
    expect(Array.from({ length: looks - 1 }, look)).toEqual(Array(looks - 1).fill(SCHED_OTHER));
    expect(look()).toBe(SCHED_BATCH);
    policy.close();
    expect(machine.closed).toBe(1);
  });

  it('looks no more often than it is told to', () => {
    const policy = new WakePolicy(new Machine());
    for (let at = 0; at < LOOK_INTERVAL; at += 1000) policy.look(instantAt(at));
    expect(schedGetscheduler(0)).toBe(SCHED_OTHER);
    policy.look(instantAt(LOOK_INTERVAL));
    expect(schedGetscheduler(0)).toBe(SCHED_BATCH);
  });

  it('is left as an operator chose it', () => {
    set(SCHED_BATCH);
    const machine = new Machine();
    machine.isIdle = false;
    const policy = new WakePolicy(machine);
    for (let i = 1; i < 10; i++) policy.look(instantAt(i * LOOK_INTERVAL));
    expect(schedGetscheduler(0)).toBe(SCHED_BATCH);
  });

  it('stays when the kernel does not tell', () => {
    const policy = new WakePolicy({ take: () => undefined, close: () => {} });
    for (let i = 1; i < 10; i++) policy.look(instantAt(i * LOOK_INTERVAL));
    expect(schedGetscheduler(0)).toBe(SCHED_OTHER);
  });
});

describe('the kernel’s readings', () => {
  it('are understood', () => {
    const sample = parseSample('939198000 80471 3\n', '12768.02 11695.81\n');
    expect(sample).toEqual({ waited: 80.471, waits: 3, idle: 11_695_810_000, at: 12_768_020_000 });
    const here = parseSample(
      readFileSync('/proc/thread-self/schedstat', 'latin1'),
      readFileSync('/proc/uptime', 'latin1'),
    );
    expect(here === undefined || here.at > 0).toBe(true);
  });

  it('are none without these statistics', () => {
    expect(parseSample('0 0 0\n', '12768.02 11695.81\n')).toBeUndefined();
  });

  it('are numbers or nothing, whatever the text', () => {
    const text = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(fc.float(), fc.integer()), { maxLength: 4 }).map((all) => all.join(' ')),
    );
    fc.assert(
      fc.property(text, text, (schedstat, uptime) => {
        const sample = parseSample(schedstat, uptime);
        if (sample !== undefined) expect(Object.values(sample).every(Number.isFinite)).toBe(true);
      }),
    );
  });
});
