/**
 * One relay, connector or agent as a process in a laboratory host: started from its state folder, watched by its log, ended by
 * a signal, started again.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../src/base/error.js';
import { type Duration, Seconds, toMillis } from '../../src/base/time.js';
import { askLocal } from '../../src/os/local-control.js';
import type { Host } from '../lab/host.js';
import { type ExitStatus, type LabProcess, pollUntil } from '../lab/process.js';
import { REPOSITORY } from '../lab/services.js';

/** A role may drain for some seconds (relay) and is gone two later; the harness looks longer, to say by how much it missed. */
const STOP_GRACE = Seconds(15);

/** The program under test; another one (an installed package's) can be named. */
const PROGRAM = process.env['SALLYPORT_PROGRAM'] ?? join(REPOSITORY, 'program', 'cli', 'main.js');

/** argv of a `sallyport` command. */
export function sallyport(...argv: readonly string[]): string[] {
  return [process.execPath, PROGRAM, ...argv];
}

export interface LogLine {
  readonly msg: string;
  readonly level: number;
  readonly [field: string]: unknown;
}

export interface Stopped {
  readonly status: ExitStatus;
  /** From the signal until the process was gone. */
  readonly took: Duration;
}

export class Role {
  readonly name: string;
  readonly host: Host;
  /** State folder. */
  readonly dir: string;
  /** argv before the command itself, for example to drop privileges. */
  readonly #wrapper: readonly string[];
  readonly #argv: readonly string[];
  #process: LabProcess | undefined;
  readonly #earlier: LabProcess[] = [];

  constructor(name: string, host: Host, dir: string, argv: readonly string[], wrapper: readonly string[] = []) {
    this.name = name;
    this.host = host;
    this.dir = dir;
    this.#argv = argv;
    this.#wrapper = wrapper;
  }

  /** The present process, or the last one. */
  get process(): LabProcess {
    return this.#process!;
  }

  get pid(): number {
    return this.process.pid;
  }

  /** `SALLYPORT_PROGRAM` in its environment names another program here too. */
  start(env: Readonly<Record<string, string>> = {}): LabProcess {
    if (this.#process !== undefined) this.#earlier.push(this.#process);
    const command = [process.execPath, env['SALLYPORT_PROGRAM'] ?? PROGRAM, ...this.#argv];
    this.#process = this.host.spawn([...this.#wrapper, ...command], { env });
    return this.#process;
  }

  /** Log lines of the present process. */
  get log(): LogLine[] {
    return parseLog(this.process.stderr);
  }

  /** Lines with this message, of the present process. */
  logged(message: string): LogLine[] {
    return this.log.filter((line) => line.msg === message);
  }

  /** The first line with this message that `matches`, past (after the first `skip` of them) or future. */
  waitForLog(
    message: string,
    matches: (line: LogLine) => boolean = () => true,
    options: { readonly skip?: number; readonly timeout?: Duration } = {},
  ): Promise<LogLine> {
    const timeout = options.timeout === undefined ? {} : { timeout: options.timeout };
    return this.process.waitFor(`"${message}" of ${this.name}`, timeout, () =>
      this.logged(message)
        .filter(matches)
        .at(options.skip ?? 0),
    );
  }

  /** What the role says of itself now, over its local socket. */
  async status<S>(): Promise<S> {
    return (await askLocal(this.dir, { command: 'status' })) as S;
  }

  /** Asks again and again until `check` holds of the status; returns that status. Rejects with the last one. */
  async waitForStatus<S>(what: string, check: (status: S) => boolean, timeout: Duration = Seconds(30)): Promise<S> {
    let last: S | undefined;
    try {
      await pollUntil(
        `${what} (${this.name})`,
        async () => {
          const now = await this.#statusIfThere<S>();
          last = now ?? last;
          return now !== undefined && check(now);
        },
        timeout,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}; last status: ${JSON.stringify(last)}`);
    }
    return last!;
  }

  /** A process that has just started does not answer yet; one that has ended never will. */
  async #statusIfThere<S>(): Promise<S | undefined> {
    try {
      return await this.status<S>();
    } catch (error) {
      if (this.process.running && error instanceof SallyportError && error.code === 'NOT_RUNNING') return undefined;
      throw error;
    }
  }

  /** SIGTERM; resolves when the process is gone. */
  async stop(): Promise<Stopped> {
    const started = performance.now();
    const status = await this.process.stop('SIGTERM', STOP_GRACE);
    return { status, took: ((performance.now() - started) * 1_000) as Duration };
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    this.process.signal('SIGKILL');
    await this.process.exited;
  }

  /** What a stopped role may not leave in its folder. */
  get leftovers(): string[] {
    return ['control.sock', 'network.journal', 'lock'].filter((name) => existsSync(join(this.dir, name)));
  }

  /** Everything the role has said, for a failed test. */
  describe(): string {
    const all = this.#process === undefined ? this.#earlier : [...this.#earlier, this.#process];
    return all
      .map((one) => `── ${this.name} (pid ${one.pid}${one.running ? '' : ', ended'})\n${tail(one.stdout + one.stderr)}`)
      .join('\n');
  }
}

function parseLog(text: string): LogLine[] {
  const lines: LogLine[] = [];
  // The last piece is a line still being written, or empty.
  for (const line of text.split('\n').slice(0, -1)) {
    if (!line.startsWith('{')) continue;
    lines.push(JSON.parse(line) as LogLine);
  }
  return lines;
}

function tail(text: string): string {
  return text
    .split('\n')
    .slice(-40)
    .map((line) => line.slice(0, 600))
    .join('\n');
}

/** Milliseconds, for a line a person reads. */
export function milliseconds(span: Duration): string {
  return `${toMillis(span).toFixed(0)} ms`;
}
