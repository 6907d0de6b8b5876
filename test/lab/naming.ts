/**
 * Names of the laboratory's network namespaces: each says which process made it, so that what a dead process left behind can
 * be told from what a live one uses.
 *
 *   spl-PID-START-SERIAL-HOST     START = the process's start time in clock ticks since boot, base 36 (proc(5), stat field 22):
 *                                 a number that is used again has another start time
 */
import { readFileSync } from 'node:fs';

export const NAMESPACE_PREFIX = 'spl';

/** Longest interface name the kernel takes: IFNAMSIZ (16) less the terminating zero. */
export const MAX_INTERFACE_NAME = 15;

export interface NamespaceOwner {
  readonly pid: number;
  readonly start: string;
}

/** The start time of a process in base 36, or undefined when there is no such process. */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name (field 2) is in parentheses and may hold spaces; what follows the last one is field 3.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[19]).toString(36);
  } catch {
    return undefined;
  }
}

export function namespaceName(owner: NamespaceOwner, serial: number, host: string): string {
  return `${NAMESPACE_PREFIX}-${owner.pid}-${owner.start}-${serial}-${host}`;
}

/** Whose namespace this is; undefined when it is not the laboratory's. */
export function parseNamespace(name: string): NamespaceOwner | undefined {
  const match = /^spl-(\d+)-([0-9a-z]+)-\d+-/.exec(name);
  return match === null ? undefined : { pid: Number(match[1]), start: match[2]! };
}

/** True while the process that made the namespace lives. */
export function ownerLives(owner: NamespaceOwner): boolean {
  return processStart(owner.pid) === owner.start;
}
