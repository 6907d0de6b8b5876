/**
 * The main thread's end of a packet thread: starts it, asks it, watches over it, stops it.
 *
 *   starting ──ready──► running ──stop()──► stopping ──thread ends──► ended
 *       └── failed, or the thread dies ─────────────────────────────────┘
 *
 * Every message rings the thread's eventfd, because its loop sleeps in the kernel and not in libuv.
 */
import { closeSync, writeSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { SallyportError } from '../base/error.js';
import { type Duration, elapsed, type Instant, Millis, Seconds, toMillis } from '../base/time.js';
import { SystemClock } from './clock.js';
import { giveMemoryBack } from './heap.js';
import { CONTROL_CELLS, HEARTBEAT_CELL, STOP_CELL } from './linux/reactor.js';
import { makeWakeFd } from './linux/wake.js';
import {
  type EventName,
  type FromThread,
  fromWire,
  type Input,
  type Output,
  type RequestName,
  type ThreadProtocol,
  type ThreadStart,
  type ToThread,
} from './thread-protocol.js';
import { takeWorker } from './worker.js';

/** A healthy loop beats at least five times a second; after this long without a beat it hangs in a callback or a call. */
const STALL_AFTER: Duration = Seconds(5);
const WATCH_INTERVAL: Duration = Millis(500);
/** How long a thread that ignored the stop flag may take to be torn down before it counts as stuck in native code. */
const TERMINATE_WAIT: Duration = Seconds(1);

const BELL = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

export interface ThreadOptions<P extends ThreadProtocol> {
  /** The module to run; it calls `servePacketThread`. */
  readonly url: URL;
  /** For the module's setup; structured clone. */
  readonly data: unknown;
  /** For people: shown in errors. */
  readonly name: string;
  /** Bytes of memory shared for counters; 0 when absent. */
  readonly counterBytes?: number;
  readonly onEvent: <K extends EventName<P>>(name: K, payload: P['events'][K]) => void;
  /** A handler in the thread threw: a bug to be logged. `suppressed` counts errors not reported before it. */
  readonly onBug: (error: SallyportError, suppressed: number) => void;
  /** The thread has not made a turn for this long; once per stall. */
  readonly onStall: (span: Duration) => void;
  /** The thread ended without being asked to. */
  readonly onDeath: (error: SallyportError) => void;
  /** Taken for a stall; `STALL_AFTER` when absent. */
  readonly stallAfter?: Duration;
}

/** `terminated`: it ignored the stop flag. `stuck`: it could not be torn down either; only the process can end it. */
export type StopOutcome = 'stopped' | 'terminated' | 'stuck';

interface Waiter {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: SallyportError) => void;
}

export class ThreadHost<P extends ThreadProtocol> {
  /** Shared with the thread: it writes, the host reads. */
  readonly counters: SharedArrayBuffer;
  readonly #options: ThreadOptions<P>;
  readonly #clock = new SystemClock();
  readonly #control = new Int32Array(new SharedArrayBuffer(CONTROL_CELLS * Int32Array.BYTES_PER_ELEMENT));
  readonly #wakeFd = makeWakeFd();
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiter>();
  readonly #ended: Promise<void>;
  #watch: NodeJS.Timeout | undefined;
  #state: 'starting' | 'running' | 'stopping' | 'ended' = 'starting';
  #ready: Waiter | undefined;
  #next = 1;
  #beat = 0;
  #beatAt: Instant;
  #stalled = false;

  /**
   * Starts a thread and waits until its setup is done.
   * @throws SallyportError what setup threw, or THREAD_DIED (bug) when the module could not run.
   */
  static async start<P extends ThreadProtocol>(options: ThreadOptions<P>): Promise<ThreadHost<P>> {
    const host = new ThreadHost<P>(options);
    await new Promise<unknown>((resolve, reject) => {
      host.#ready = { resolve, reject };
    });
    return host;
  }

  private constructor(options: ThreadOptions<P>) {
    this.#options = options;
    this.#beatAt = this.#clock.now();
    this.counters = new SharedArrayBuffer(options.counterBytes ?? 0);
    const start: ThreadStart = {
      data: options.data,
      wakeFd: this.#wakeFd,
      control: this.#control.buffer as SharedArrayBuffer,
      counters: this.counters,
    };
    this.#worker = takeWorker(options.url, options.name);
    this.#worker.postMessage(start);
    this.#worker.on('message', (message: FromThread) => this.#receive(message));
    let cause: unknown;
    this.#worker.on('error', (error) => {
      cause = error;
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#end(cause);
        resolve();
      });
    });
  }

  /** Whether the thread has missed its heartbeat. */
  get stalled(): boolean {
    return this.#stalled;
  }

  /** Asks the thread; rejects with what its handler threw, or THREAD_ENDED. */
  request<K extends RequestName<P>>(name: K, input: Input<P, K>): Promise<Output<P, K>> {
    if (this.#state !== 'running') return Promise.reject(this.#gone());
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Output<P, K>), reject });
      this.#worker.postMessage({ type: 'request', id, name, input } satisfies ToThread);
      this.#ring();
    });
  }

  /** Ends the thread within `deadline`, by force if need be. May be called again; never rejects. */
  async stop(deadline: Duration): Promise<StopOutcome> {
    if (this.#state === 'ended') return 'stopped';
    this.#state = 'stopping';
    Atomics.store(this.#control, STOP_CELL, 1);
    this.#ring();
    if (await this.#endsWithin(deadline)) return 'stopped';
    void this.#worker.terminate();
    this.#ring();
    return (await this.#endsWithin(TERMINATE_WAIT)) ? 'terminated' : 'stuck';
  }

  #receive(message: FromThread): void {
    switch (message.type) {
      case 'ready':
        if (this.#state === 'starting') this.#state = 'running';
        this.#beatAt = this.#clock.now();
        this.#watch = setInterval(() => this.#checkHeartbeat(), toMillis(WATCH_INTERVAL)).unref();
        this.#ready?.resolve(undefined);
        break;
      case 'failed':
        this.#fail(fromWire(message.error));
        break;
      case 'reply':
        this.#take(message.id)?.resolve(message.output);
        break;
      case 'failure':
        this.#take(message.id)?.reject(fromWire(message.error));
        break;
      case 'event':
        this.#options.onEvent(message.name as EventName<P>, message.payload as P['events'][EventName<P>]);
        break;
      case 'bug':
        this.#options.onBug(fromWire(message.error), message.suppressed);
        break;
      case 'rests':
        giveMemoryBack();
        break;
      case 'stopped':
        break;
    }
  }

  #take(id: number): Waiter | undefined {
    const waiter = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiter;
  }

  /** The thread said why it gives up; its end follows. */
  #fail(error: SallyportError): void {
    const starting = this.#state === 'starting';
    if (this.#state === 'starting' || this.#state === 'running') this.#state = 'stopping';
    if (starting) this.#ready?.reject(error);
    else this.#options.onDeath(error);
  }

  #end(cause: unknown): void {
    const before = this.#state;
    this.#state = 'ended';
    clearInterval(this.#watch);
    closeSync(this.#wakeFd);
    for (const waiter of this.#waiting.values()) waiter.reject(this.#gone());
    this.#waiting.clear();
    const error = new SallyportError('bug', 'THREAD_DIED', `the ${this.#options.name} thread died`, { cause });
    if (before === 'starting') this.#ready?.reject(error);
    else if (before === 'running') this.#options.onDeath(error);
  }

  #checkHeartbeat(): void {
    const now = this.#clock.now();
    const beat = Atomics.load(this.#control, HEARTBEAT_CELL);
    if (beat !== this.#beat) {
      this.#beat = beat;
      this.#beatAt = now;
      this.#stalled = false;
      return;
    }
    const span = elapsed(this.#beatAt, now);
    if (this.#stalled || span < (this.#options.stallAfter ?? STALL_AFTER)) return;
    this.#stalled = true;
    this.#options.onStall(span);
  }

  #ring(): void {
    if (this.#state !== 'ended') writeSync(this.#wakeFd, BELL);
  }

  async #endsWithin(span: Duration): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, toMillis(span));
    });
    await Promise.race([this.#ended, late]);
    clearTimeout(timer);
    return this.#isEnded();
  }

  #isEnded(): boolean {
    return this.#state === 'ended';
  }

  #gone(): SallyportError {
    return new SallyportError('caller', 'THREAD_ENDED', `the ${this.#options.name} thread is not running`);
  }
}
