/**
 * The lock of a state folder: one process uses an identity at a time.
 *
 *   lock = {pid, started}   started: the kernel's start time of that process, so that a reused pid is not taken for it
 *
 *   free ──link(own file)──► held ──release──► free
 *   held by a dead process = stale ──rename away, look again──► free
 *
 * Exclusive creation is link(2) of a finished file, so nobody ever reads half a lock. A process that renames a lock away and
 * finds a living holder in it (another process was quicker) puts it back.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../base/error.js';

const ATTEMPTS = 5;
let serial = 0;

export class StateLock {
  readonly #path: string;
  readonly #content: string;
  #held = true;

  private constructor(path: string, content: string) {
    this.#path = path;
    this.#content = content;
  }

  /**
   * @throws SallyportError STATE_LOCKED (environment) when a living process holds it (this one too), STATE_UNWRITABLE.
   */
  static acquire(dir: string): StateLock {
    const path = join(dir, 'lock');
    const own = `${path}.${process.pid}.${++serial}`;
    const content = JSON.stringify({ pid: process.pid, started: startTime(process.pid), serial });
    try {
      writeFileSync(own, content, { mode: 0o600 });
    } catch (cause) {
      throw new SallyportError('environment', 'STATE_UNWRITABLE', `${dir} cannot be written`, { cause });
    }
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (tryLink(own, path)) return new StateLock(path, content);
        const holder = read(path);
        if (holder !== undefined && isAlive(holder)) throw locked(dir, holder.pid);
        if (holder !== undefined) removeStale(path, own);
      }
    } finally {
      rmSync(own, { force: true });
    }
    throw locked(dir, undefined);
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    try {
      if (readFileSync(this.#path, 'utf8') === this.#content) rmSync(this.#path, { force: true });
    } catch {
      // Already gone: the folder was removed.
    }
  }
}

interface Holder {
  readonly pid: number;
  readonly started: string;
}

function tryLink(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new SallyportError('environment', 'STATE_UNWRITABLE', `${path} cannot be made`, { cause: error });
  }
}

/** Undefined when there is no lock; a lock that cannot be understood belongs to nobody. */
function read(path: string): Holder | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
  try {
    const { pid, started } = JSON.parse(text) as Partial<Holder>;
    if (Number.isSafeInteger(pid) && pid! > 0 && typeof started === 'string') return { pid: pid!, started };
  } catch {
    // Falls through.
  }
  return { pid: 0, started: '' };
}

function removeStale(path: string, own: string): void {
  const aside = `${own}.stale`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  const holder = read(aside);
  if (holder !== undefined && isAlive(holder)) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function isAlive(holder: Holder): boolean {
  if (holder.pid === 0) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const started = startTime(holder.pid);
  return started === '' || holder.started === '' || started === holder.started;
}

/** Field 22 of /proc/PID/stat (clock ticks since boot, proc(5)); empty where there is no /proc. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function locked(dir: string, pid: number | undefined): SallyportError {
  const who = pid === undefined ? 'another process' : `process ${pid}`;
  return new SallyportError('environment', 'STATE_LOCKED', `${dir} is in use by ${who}`, {
    hint: 'stop it, or enrol a node of its own in another folder with --dir',
  });
}
