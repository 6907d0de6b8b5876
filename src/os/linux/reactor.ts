/**
 * The loop of a packet thread: epoll, timers, end-of-turn hooks, and a wake-up that any thread of the process can ring.
 *
 *   one turn:  epoll wait ─► ready handlers ─► due timers ─► turn hooks ─► (next turn | back to libuv)
 *
 * Inside a turn everything is synchronous. The loop goes back to libuv by an immediate when somebody rang, when a wait ended
 * without a ready descriptor, after `TURNS_PER_YIELD` turns, after `YIELD_INTERVAL` of work, and `LONGEST_WAIT` after the last
 * time: only there do promises, message ports, native finalizers and the termination of the thread make progress. Between a
 * packet and the next one it rather waits at once, because whom the packet went to may need this very core. Node's own timers
 * fire in libuv too, so they may be late by up to `LONGEST_WAIT`; packet code uses `at`. The first turn after such a pause does
 * not wait, because what ran in the pause may have changed what a hook wants.
 */
import { SallyportError } from '../../base/error.js';
import { type Duration, type Instant, Millis, type WallTime } from '../../base/time.js';
import { Timer, TimerQueue } from '../../base/timers.js';
import { SystemClock } from '../clock.js';
import type { Reactor, ReadyHandler, Watch } from '../io.js';
import { EINTR } from './constants.js';
import { EpollSet } from './epoll.js';
import { close, errno, read, write } from './libc.js';
import { NativeMemory } from './memory.js';
import { makeWakeFd } from './wake.js';

/** Turns between two returns to libuv under load: native finalizers pile up (about 230 bytes a packet measured) until then. */
const TURNS_PER_YIELD = 64;
/** Longest time of work, waits not counted, between two returns to libuv. */
const YIELD_INTERVAL: Duration = Millis(5);
/** Longest wait in the kernel, so that the heartbeat and the stop flag are looked at even if a wake-up is lost. */
const LONGEST_WAIT: Duration = Millis(200);
/** Errors reported within one `REPORT_INTERVAL`; a handler that fails at every turn must not flood the log. */
const REPORTS_PER_INTERVAL = 10;
const REPORT_INTERVAL: Duration = Millis(1_000);

/** Cells of the control block a host shares with the loop (an Int32Array over shared memory). */
export const HEARTBEAT_CELL = 0;
export const STOP_CELL = 1;
export const CONTROL_CELLS = 2;

export interface ReactorOptions {
  /** A handler, timer or hook threw: a bug. The loop goes on. `suppressed` counts errors left out since the last call. */
  readonly onError: (error: unknown, suppressed: number) => void;
  /** An eventfd of the caller's that wakes the loop; the reactor makes (and closes) one of its own when absent. */
  readonly wakeFd?: number;
  /** Shared cells: HEARTBEAT_CELL goes up at every turn, and the loop ends when STOP_CELL is not zero. */
  readonly control?: Int32Array;
  /** Called each time the loop begins anew after libuv's turn: every `LONGEST_WAIT` at least, every 64 turns at most. */
  readonly onPause?: (now: Instant) => void;
}

/** The reactor over epoll, with what a thread host needs beyond `Reactor`. */
export class EpollReactor implements Reactor {
  /** Write eight bytes holding a 1 (little-endian) here, from any thread, to wake the loop and let libuv run. */
  readonly wakeFd: number;
  readonly #options: ReactorOptions;
  readonly #clock = new SystemClock();
  readonly #epoll = new EpollSet();
  readonly #timers = new TimerQueue();
  readonly #hooks: ((now: Instant) => Instant | undefined)[] = [];
  readonly #ring = NativeMemory.allocate(8);
  readonly #bell = NativeMemory.allocate(8);
  readonly #step = (): void => this.#untilYield();
  readonly #fail = (error: unknown): void => this.#report(error);
  #now: Instant;
  /** When the wait that comes next begins. */
  #waitFrom: Instant;
  #hookDeadline = Number.POSITIVE_INFINITY;
  /** When the hooks want their next turn: `#hookDeadline`, whether or not the next wait is left out. */
  #hookDue = Number.POSITIVE_INFINITY;
  #lag = 0;
  #rung = false;
  #stopping = false;
  #ended = false;
  #finish: (() => void) | undefined;
  #turns = 0;
  #reportWindow = Number.NEGATIVE_INFINITY;
  #reported = 0;
  #suppressed = 0;

  constructor(options: ReactorOptions) {
    this.#options = options;
    this.#ring.bytes[0] = 1;
    this.#now = this.#clock.now();
    this.#waitFrom = this.#now;
    this.wakeFd = options.wakeFd ?? makeWakeFd();
    this.#epoll.watch(this.wakeFd, 1, () => this.#answerBell());
  }

  now(): Instant {
    return this.#now;
  }

  readClock(): Instant {
    return this.#clock.now();
  }

  wall(): WallTime {
    return this.#clock.wall();
  }

  /** Turns made so far. */
  get turns(): number {
    return this.#turns;
  }

  /**
   * How late the turn under way began, in microseconds: after its timer or hook was due, and at most for what was ready, which
   * may have been so ever since the wait before ended. What the kernel takes to wake a thread that waits is not in the latter.
   */
  get lag(): number {
    return this.#lag;
  }

  /** @throws SallyportError WATCH_FAILED (environment), for example for a descriptor that epoll cannot watch. */
  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    return this.#epoll.watch(fd, bits, handler);
  }

  at(at: Instant, handler: (now: Instant) => void): () => void {
    const timer = new Timer((now) => {
      try {
        handler(now);
      } catch (error) {
        this.#report(error);
      }
    });
    this.#timers.arm(timer, at);
    return () => this.#timers.cancel(timer);
  }

  onTurn(hook: (now: Instant) => Instant | undefined): void {
    this.#hooks.push(hook);
  }

  /** Ends the current wait and lets libuv run before the next one. From any callback of this thread. */
  wake(): void {
    if (!this.#ended) write(this.wakeFd, this.#ring.address, 8);
  }

  /** @throws SallyportError REACTOR_USED (caller) when called twice: a reactor runs once. */
  run(): Promise<void> {
    if (this.#finish !== undefined) throw new SallyportError('caller', 'REACTOR_USED', 'a reactor runs only once');
    return new Promise((resolve) => {
      this.#finish = resolve;
      setImmediate(this.#step);
    });
  }

  stop(): void {
    this.#stopping = true;
    this.wake();
  }

  /** Gives back the loop's own descriptors; the end of `run` does it too. For a reactor that is never run. */
  dispose(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#epoll.close();
    this.#timers.clear();
    if (this.#options.wakeFd === undefined) close(this.wakeFd);
  }

  #untilYield(): void {
    const start = this.#clock.now();
    this.#options.onPause?.(start);
    this.#waitFrom = start;
    this.#hookDeadline = Number.NEGATIVE_INFINITY;
    this.#rung = false;
    let busy = 0;
    for (let turn = 0; turn < TURNS_PER_YIELD && !this.#rung; turn++) {
      if (this.#mustStop()) {
        this.#end();
        return;
      }
      const ready = this.#turn();
      this.#waitFrom = this.#clock.now();
      busy += this.#waitFrom - this.#now;
      if (busy >= YIELD_INTERVAL || this.#waitFrom - start >= LONGEST_WAIT || (ready === 0 && turn > 0)) break;
    }
    setImmediate(this.#step);
  }

  #mustStop(): boolean {
    const control = this.#options.control;
    // Whoever sets it rings afterwards: a plain read is enough, and inlined.
    if (control !== undefined && control[STOP_CELL] !== 0) this.#stopping = true;
    return this.#stopping;
  }

  /** Makes one turn; returns how many descriptors were ready. */
  #turn(): number {
    this.#turns++;
    const control = this.#options.control;
    // Nobody else writes it, and whoever reads it only asks whether it moves.
    if (control !== undefined) control[HEARTBEAT_CELL]!++;
    const heard = this.#now;
    const ready = this.#epoll.wait(this.#waitTime());
    this.#now = this.#clock.now();
    // What is due earlier than the turn before was asked for in that turn.
    const due = Math.max(heard, Math.min(this.#hookDue, this.#timers.next() ?? Number.POSITIVE_INFINITY));
    this.#lag = Math.max(0, this.#now - due, ready > 0 ? this.#waitFrom - heard : 0);
    if (ready > 0) this.#epoll.dispatch(this.#fail);
    this.#timers.expire(this.#now);
    this.#runHooks();
    return ready;
  }

  /** Microseconds to wait. */
  #waitTime(): number {
    const deadline = Math.min(this.#hookDeadline, this.#timers.next() ?? Number.POSITIVE_INFINITY);
    if (deadline === Number.NEGATIVE_INFINITY) return 0;
    return Math.max(0, Math.min(deadline - this.#waitFrom, LONGEST_WAIT));
  }

  #runHooks(): void {
    let deadline = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.#hooks.length; i++) {
      try {
        const next = this.#hooks[i]!(this.#now);
        if (next !== undefined && next < deadline) deadline = next;
      } catch (error) {
        this.#report(error);
      }
    }
    this.#hookDeadline = deadline;
    this.#hookDue = deadline;
  }

  #answerBell(): void {
    if (read(this.wakeFd, this.#bell.address, 8) < 0 && errno() === EINTR) return;
    this.#rung = true;
  }

  #report(error: unknown): void {
    const now = this.#clock.now();
    if (now - this.#reportWindow >= REPORT_INTERVAL) {
      this.#reportWindow = now;
      this.#reported = 0;
    }
    if (this.#reported >= REPORTS_PER_INTERVAL) {
      this.#suppressed++;
      return;
    }
    this.#reported++;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#options.onError(error, suppressed);
  }

  #end(): void {
    this.dispose();
    this.#finish!();
  }
}
