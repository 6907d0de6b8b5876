/**
 * A packet thread's loop in virtual time: level-triggered readiness, timers, end-of-turn hooks, in the order of the real one.
 */
import {
  type Duration,
  earliest,
  elapsed,
  type Instant,
  instantAt,
  later,
  Micros,
  Seconds,
  type WallTime,
  wallAt,
  wallLater,
} from '../../src/base/time.js';
import { Timer, TimerQueue } from '../../src/base/timers.js';
import { BROKEN, type Reactor, type ReadyHandler, type Watch } from '../../src/os/io.js';

/** When every simulated world begins. */
export const WALL: WallTime = wallAt(Date.UTC(2026, 0, 1));
export const START = instantAt(1_000_000_000);
/** Far more than what is lost to rounding of an instant, far less than anybody measures. */
const ROUNDING = Micros(0.01);

/** The one clock of a world. */
export class SimClock {
  now: Instant = START;
  /** How far somebody has put the wall clock forward: days pass without a turn. */
  ahead: Duration = Seconds(0);

  get wall(): WallTime {
    return wallLater(WALL, Micros(this.ahead + elapsed(START, this.now)));
  }
}

/** What a descriptor number stands for. */
export interface Descriptor {
  readiness(): number;
}

interface SimWatch extends Watch {
  readonly descriptor: Descriptor;
  readonly handler: ReadyHandler;
  bits: number;
  open: boolean;
  attached: boolean;
}

let nextFd = 100;

export class SimReactor implements Reactor {
  readonly clock: SimClock;
  /** How long this machine has slept: its monotonic clock stood still, the wall clock did not. */
  slept: Duration = Seconds(0);
  readonly #descriptors = new Map<number, Descriptor>();
  readonly #watches = new Set<SimWatch>();
  readonly #timers = new TimerQueue();
  readonly #hooks: ((now: Instant) => Instant | undefined)[] = [];
  #due: Instant | undefined;

  constructor(clock: SimClock) {
    this.clock = clock;
  }

  /** Watches that are open: what has leaked when everything was closed. */
  get watched(): number {
    return this.#watches.size;
  }

  get timersArmed(): number {
    return this.#timers.size;
  }

  register(descriptor: Descriptor): number {
    const fd = nextFd++;
    this.#descriptors.set(fd, descriptor);
    return fd;
  }

  now(): Instant {
    return instantAt(this.clock.now - this.slept);
  }

  readClock(): Instant {
    return this.now();
  }

  wall(): WallTime {
    return this.clock.wall;
  }

  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    const descriptor = this.#descriptors.get(fd)!;
    const watches = this.#watches;
    const watch: SimWatch = {
      descriptor,
      handler,
      bits,
      open: true,
      attached: true,
      interest(wanted) {
        if (wanted === watch.bits) return;
        watch.bits = wanted;
        watch.attached = true;
      },
      close() {
        watch.open = false;
        watches.delete(watch);
      },
    };
    watches.add(watch);
    return watch;
  }

  at(at: Instant, handler: (now: Instant) => void): () => void {
    const timer = new Timer(handler);
    this.#timers.arm(timer, at);
    return () => this.#timers.cancel(timer);
  }

  onTurn(hook: (now: Instant) => Instant | undefined): void {
    this.#hooks.push(hook);
  }

  run(): Promise<void> {
    return Promise.resolve();
  }

  stop(): void {}

  /** Has the next `turn` run the hooks: something was done from outside. */
  wake(): void {
    this.#due = this.now();
  }

  /** One turn at the present time. False when there was nothing to do. */
  turn(): boolean {
    const now = this.now();
    let busy = false;
    for (const watch of [...this.#watches]) {
      if (!watch.open || !watch.attached) continue;
      const ready = watch.descriptor.readiness() & (watch.bits | BROKEN);
      if (ready === 0) continue;
      busy = true;
      watch.handler(ready);
      // An error is told even to those who ask for nothing, but to them only once.
      if ((ready & BROKEN) !== 0 && watch.bits === 0) watch.attached = false;
    }
    if (this.#timers.expire(now) > 0) busy = true;
    if (!busy && (this.#due === undefined || this.#due > now)) return false;
    this.#due = undefined;
    for (const hook of this.#hooks) this.#due = earliest(this.#due, hook(now));
    return true;
  }

  /** By the world's clock. */
  nextDue(): Instant | undefined {
    const due = earliest(this.#due, this.#timers.next());
    if (due === undefined) return undefined;
    const at = later(due, this.slept);
    // Sums of fractions are rounded: what is not due yet is not due at the same time of the world's.
    return due > this.now() && at <= this.clock.now ? later(this.clock.now, ROUNDING) : at;
  }
}
