/**
 * A program that the laboratory started: its output, its end, and the events a test waits for. Every program leads a process
 * group of its own, and ending it ends the group.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { SallyportError } from '../../src/base/error.js';
import { type Duration, Seconds, toMillis } from '../../src/base/time.js';

/** Output kept of each stream, in characters: enough for any log a test looks at; the oldest goes first. */
const MAX_OUTPUT = 8 * 1024 * 1024;
/** Only what never comes lasts so long, on a slow machine with other work too. */
const DEFAULT_WAIT = Seconds(30);
const STOP_GRACE = Seconds(3);
/** Delays of a poll where the kernel gives no event, in milliseconds: doubling between these. */
const POLL_FIRST = 2;
const POLL_LAST = 100;
/** st of /proc/net/tcp: TCP_LISTEN; of /proc/net/udp: TCP_CLOSE, which an unconnected socket has. */
const STATE_LISTEN = '0A';
const STATE_UNCONNECTED = '07';

export interface ExitStatus {
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to standard input, which is then closed. Without it standard input is /dev/null. */
  readonly input?: string | Uint8Array;
  /** True: standard input stays open for `write`. */
  readonly interactive?: boolean;
}

export interface WaitOptions {
  readonly timeout?: Duration;
}

/** This process's, without certificates the machine adds to Node's: every start would read them all (50 ms), and no program here uses them. */
export function environment(): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _, ...others } = process.env;
  return others;
}

export class LabProcess {
  readonly pid: number;
  readonly command: readonly string[];
  /** Settles when the program has ended and its output has been read to the end; never rejects. */
  readonly exited: Promise<ExitStatus>;
  private readonly child: ChildProcess;
  private readonly watchers = new Set<() => void>();
  private status: ExitStatus | undefined;
  private out = '';
  private err = '';

  constructor(command: readonly string[], options: SpawnOptions = {}) {
    this.command = command;
    this.child = spawn(command[0]!, command.slice(1), {
      detached: true,
      stdio: [options.input !== undefined || options.interactive === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      env: { ...environment(), ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.pid = this.child.pid ?? -1;
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.out = (this.out + text).slice(-MAX_OUTPUT);
      this.notify();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.err = (this.err + text).slice(-MAX_OUTPUT);
      this.notify();
    });
    this.exited = new Promise((resolve) => {
      const end = (status: ExitStatus): void => {
        this.status ??= status;
        this.notify();
        resolve(this.status);
      };
      this.child.once('error', (error) => {
        this.err += `${error.message}\n`;
        end({ code: 127, signal: undefined });
      });
      this.child.once('close', (code, signal) => end({ code: code ?? undefined, signal: signal ?? undefined }));
    });
    // A program that ends without reading its input is its own affair; the exit status tells.
    this.child.stdin?.on('error', () => undefined);
    if (options.input !== undefined) this.child.stdin?.end(options.input);
  }

  get running(): boolean {
    return this.status === undefined;
  }

  get stdout(): string {
    return this.out;
  }

  get stderr(): string {
    return this.err;
  }

  /**
   * The first line of standard output or error that matches, past or future. Rejects with LAB_PROCESS_ENDED when the program
   * ends without it, LAB_TIMEOUT when the time is over; both carry the output.
   */
  async waitForLine(pattern: RegExp, options: WaitOptions = {}): Promise<RegExpExecArray> {
    return this.waitFor(`a line that matches ${pattern}`, options, () => {
      for (const text of [this.out, this.err]) {
        for (const line of text.split('\n')) {
          const match = pattern.exec(line);
          if (match !== null) return match;
        }
      }
      return undefined;
    });
  }

  /** Until a socket of the program's namespace listens on (TCP) or is bound to (UDP) this port; either address family. */
  async waitForPort(protocol: 'tcp' | 'udp', port: number, options: WaitOptions = {}): Promise<void> {
    await pollUntil(
      `${protocol} port ${port} of ${this.command.join(' ')}`,
      () => {
        if (!this.running) throw this.ended(`${protocol} port ${port}`);
        return portBound(this.pid, protocol, port);
      },
      options.timeout,
    );
  }

  /** To the standard input of a program started with `interactive`. */
  write(text: string): void {
    this.child.stdin?.write(text);
  }

  /** Sends a signal to the program alone. */
  signal(signal: NodeJS.Signals): void {
    if (this.running && this.pid > 0) this.child.kill(signal);
  }

  /** Sends a signal, waits, and ends the whole group by SIGKILL if it takes longer than `grace`. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', grace: Duration = STOP_GRACE): Promise<ExitStatus> {
    this.signal(signal);
    const timer = new AbortController();
    const late = delay(toMillis(grace), 'late' as const, { signal: timer.signal }).catch(() => 'cancelled' as const);
    const first = await Promise.race([this.exited, late]);
    timer.abort();
    this.killGroup();
    return first === 'late' || first === 'cancelled' ? this.exited : first;
  }

  /** SIGKILL to the group, at once and without waiting. Safe to call at any time, also from an exit hook. */
  killGroup(): void {
    if (this.pid <= 0) return;
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // The group is gone.
    }
  }

  /** The first result of `check` that is not undefined, tried now and whenever output comes or the program ends. */
  async waitFor<T>(what: string, options: WaitOptions, check: () => T | undefined): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => {
          this.watchers.delete(look);
          reject(this.failure('LAB_TIMEOUT', `no ${what} in time`));
        },
        toMillis(options.timeout ?? DEFAULT_WAIT),
      );
      const finish = (): void => {
        clearTimeout(timer);
        this.watchers.delete(look);
      };
      const look = (): void => {
        const found = check();
        if (found !== undefined) {
          finish();
          resolve(found);
        } else if (!this.running) {
          finish();
          reject(this.ended(what));
        }
      };
      this.watchers.add(look);
      look();
    });
  }

  private notify(): void {
    for (const watcher of this.watchers) watcher();
  }

  private ended(what: string): SallyportError {
    const how = this.status?.signal ?? `exit code ${this.status?.code}`;
    const last = this.err.trim().split('\n').at(-1) ?? '';
    return this.failure('LAB_PROCESS_ENDED', `ended (${how}) before ${what}${last === '' ? '' : `: ${last}`}`);
  }

  private failure(code: string, message: string): SallyportError {
    const output = `--- stdout\n${this.out.slice(-4000)}\n--- stderr\n${this.err.slice(-4000)}`;
    return new SallyportError('environment', code, `${this.command.join(' ')}: ${message}\n${output}`);
  }
}

/** Runs `check` with growing pauses until it returns true; rejects with LAB_TIMEOUT. What `check` throws ends the wait. */
export async function pollUntil(
  what: string,
  check: () => boolean | Promise<boolean>,
  timeout: Duration = DEFAULT_WAIT,
): Promise<void> {
  const deadline = performance.now() + toMillis(timeout);
  for (let pause = POLL_FIRST; ; pause = Math.min(pause * 2, POLL_LAST)) {
    if (await check()) return;
    if (performance.now() >= deadline)
      throw new SallyportError('environment', 'LAB_TIMEOUT', `waited in vain for ${what}`);
    await delay(pause);
  }
}

/** True if the network namespace of process `pid` has a socket on this port. */
export function portBound(pid: number, protocol: 'tcp' | 'udp', port: number): boolean {
  const wanted = protocol === 'tcp' ? STATE_LISTEN : STATE_UNCONNECTED;
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return [protocol, `${protocol}6`].some((file) => {
    try {
      return readFileSync(`/proc/${pid}/net/${file}`, 'latin1')
        .split('\n')
        .some((line) => {
          const fields = line.trim().split(/\s+/);
          return fields[1]?.endsWith(suffix) === true && fields[3] === wanted;
        });
    } catch {
      return false;
    }
  });
}
