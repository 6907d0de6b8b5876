/**
 * CPU time and memory of process groups, and CPU time of the whole machine, as the kernel counts them: proc(5), stat fields 5
 * (group), 14 and 15 (user and system time); status VmHWM (largest resident size).
 */
import { readdirSync, readFileSync } from 'node:fs';

/** Unit of CPU times in /proc: USER_HZ, 100 on every Linux architecture in use. */
export const TICKS_PER_SECOND = 100;

export interface GroupUsage {
  /** User and system CPU seconds since the processes began. */
  readonly cpuSeconds: number;
  /** Sum of the processes' largest resident sizes, in bytes. */
  readonly peakBytes: number;
}

/** Usage of all living processes whose group is one of `groups`. */
export function groupUsage(groups: readonly number[]): GroupUsage {
  let ticks = 0;
  let peakBytes = 0;
  if (groups.length === 0) return { cpuSeconds: 0, peakBytes: 0 };
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      // What follows the command name, which is in parentheses, starts with field 3.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (!groups.includes(Number(fields[2]))) continue;
      ticks += Number(fields[11]) + Number(fields[12]);
      const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${entry}/status`, 'latin1'));
      peakBytes += Number(peak?.[1] ?? 0) * 1024;
    } catch {
      // The process ended between the two looks.
    }
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, peakBytes };
}

/** Ticks that all cores together have been busy since boot (all but idle, waiting for a disk, and stolen by the hypervisor). */
export function machineTicks(): number {
  return machineTimes().busy;
}

/** Ticks that the hypervisor gave to others while a core here wanted to run. */
export function stolenTicks(): number {
  return machineTimes().steal;
}

function machineTimes(): { busy: number; steal: number } {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'latin1')
    .split('\n')[0]!
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return { busy: user! + nice! + system! + irq! + softirq!, steal: steal! };
}

/** Ticks of this process and of all its children that have ended and were waited for: proc(5), stat fields 14 to 17. */
export function ownTicks(): number {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
}
