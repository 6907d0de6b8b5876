/**
 * The loop of an engine inside somebody else's program: no descriptors of a kernel, but objects that say whether they are
 * ready, and a scheduler of the host's that calls back.
 *
 *   notify(fd) ─► wake ─► host's scheduler ─► turn: ready handlers ─► timers ─► hooks ─► wake at the next deadline
 *
 * Nothing runs inside `notify`: whatever a host calls only takes a note and asks for a turn.
 */
import { earliest, type Instant, instantAt, toMillis, type WallTime, wallAt } from '../../base/time.js';
import { Timer, TimerQueue } from '../../base/timers.js';
import { BROKEN, type Reactor, type ReadyHandler, type Watch } from '../../os/io.js';

/** Something with a number that a watch can be on. */
export interface HostDescriptor {
  /** READABLE, WRITABLE, BROKEN. */
  readiness(): number;
}

export interface HostClock {
  /** Monotonic time in microseconds. */
  now(): number;
  /** Calls back once, after at least so many milliseconds (0: as soon as may be), never within the call. Returns a cancel. */
  schedule(milliseconds: number, callback: () => void): () => void;
}

class HostWatch implements Watch {
  isOpen = true;
  isQueued = false;
  constructor(
    readonly reactor: HostReactor,
    readonly descriptor: HostDescriptor,
    readonly fd: number,
    public bits: number,
    readonly handler: ReadyHandler,
  ) {}

  interest(bits: number): void {
    if (bits === this.bits) return;
    this.bits = bits;
    this.reactor.notify(this.fd);
  }

  close(): void {
    this.isOpen = false;
    this.reactor.forget(this);
  }
}

export class HostReactor implements Reactor {
  readonly #clock: HostClock;
  readonly #onError: (error: unknown) => void;
  readonly #descriptors = new Map<number, HostDescriptor>();
  readonly #watches = new Map<number, HostWatch>();
  readonly #timers = new TimerQueue();
  readonly #hooks: ((now: Instant) => Instant | undefined)[] = [];
  #queue: HostWatch[] = [];
  #spare: HostWatch[] = [];
  #nextFd = 1;
  #now: Instant;
  #inTurn = false;
  #after: (() => void) | undefined;
  #stopped = false;
  #cancel: (() => void) | undefined;
  /** When the scheduled turn is to be; infinity: none is scheduled. */
  #wakeAt = Number.POSITIVE_INFINITY;
  /** The same, but not before it was asked for. */
  #dueAt = Number.POSITIVE_INFINITY;
  #lag = 0;

  /** @param onError a handler or hook threw: a bug; the loop goes on. */
  constructor(clock: HostClock, onError: (error: unknown) => void) {
    this.#clock = clock;
    this.#onError = onError;
    this.#now = this.readClock();
  }

  now(): Instant {
    return this.#now;
  }

  readClock(): Instant {
    return instantAt(this.#clock.now());
  }

  /** No wall clock is asked for: nothing here needs one. */
  wall(): WallTime {
    return wallAt(0);
  }

  /** How long after it was due, or asked for, the turn under way began, in microseconds. */
  get lag(): number {
    return this.#lag;
  }

  /** Watches that are open. */
  get watched(): number {
    return this.#watches.size;
  }

  register(descriptor: HostDescriptor): number {
    const fd = this.#nextFd++;
    this.#descriptors.set(fd, descriptor);
    return fd;
  }

  /** The descriptor is gone; a watch on it has to be closed before. */
  release(fd: number): void {
    this.#descriptors.delete(fd);
  }

  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    const watch = new HostWatch(this, this.#descriptors.get(fd)!, fd, bits, handler);
    this.#watches.set(fd, watch);
    this.notify(fd);
    return watch;
  }

  forget(watch: HostWatch): void {
    if (this.#watches.get(watch.fd) === watch) this.#watches.delete(watch.fd);
  }

  /** What `fd` stands for may have become ready. */
  notify(fd: number): void {
    const watch = this.#watches.get(fd);
    if (watch === undefined) return;
    this.#enqueue(watch);
    this.wake();
  }

  at(at: Instant, handler: (now: Instant) => void): () => void {
    const timer = new Timer(handler);
    this.#timers.arm(timer, at);
    this.#schedule(at);
    return () => this.#timers.cancel(timer);
  }

  onTurn(hook: (now: Instant) => Instant | undefined): void {
    this.#hooks.push(hook);
  }

  /** The host's scheduler is the loop. */
  run(): Promise<void> {
    this.wake();
    return Promise.resolve();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#timers.clear();
    this.#watches.clear();
    this.#descriptors.clear();
    this.#queue.length = 0;
  }

  /** Whether a turn is under way: what must not happen within one waits for `afterTurn`. */
  get inTurn(): boolean {
    return this.#inTurn;
  }

  /** Calls `act` once when the present turn is over. */
  afterTurn(act: () => void): void {
    this.#after = act;
  }

  /** Asks for a turn as soon as may be. */
  wake(): void {
    if (!this.#inTurn) this.#schedule(this.#now);
  }

  #enqueue(watch: HostWatch): void {
    if (watch.isQueued) return;
    watch.isQueued = true;
    this.#queue.push(watch);
  }

  #schedule(at: Instant): void {
    if (this.#stopped || this.#inTurn || at >= this.#wakeAt) return;
    this.#cancel?.();
    this.#wakeAt = at;
    const now = this.readClock();
    this.#dueAt = Math.max(at, now);
    const wait = Math.max(0, Math.ceil(toMillis((at - now) as never)));
    this.#cancel = this.#clock.schedule(wait, () => this.#turn());
  }

  #turn(): void {
    if (this.#stopped) return;
    this.#wakeAt = Number.POSITIVE_INFINITY;
    this.#cancel = undefined;
    this.#now = this.readClock();
    this.#lag = Math.max(0, this.#now - this.#dueAt);
    this.#inTurn = true;
    const ready = this.#queue;
    this.#queue = this.#spare;
    for (let i = 0; i < ready.length && !this.#stopped; i++) this.#serve(ready[i]!);
    ready.length = 0;
    this.#spare = ready;
    this.#guarded(() => void this.#timers.expire(this.#now));
    let next: Instant | undefined;
    for (const hook of this.#hooks) {
      this.#guarded(() => {
        next = earliest(next, hook(this.#now));
      });
    }
    this.#inTurn = false;
    const after = this.#after;
    if (after !== undefined) {
      this.#after = undefined;
      after();
    }
    if (this.#queue.length > 0) next = this.#now;
    next = earliest(next, this.#timers.next());
    if (next !== undefined) this.#schedule(next);
  }

  /** Level-triggered: what is ready still has its turn again. */
  #serve(watch: HostWatch): void {
    watch.isQueued = false;
    if (!watch.isOpen) return;
    const ready = watch.descriptor.readiness() & (watch.bits | BROKEN);
    if (ready === 0) return;
    this.#guarded(() => watch.handler(ready));
    if (watch.isOpen && (watch.descriptor.readiness() & watch.bits) !== 0) this.#enqueue(watch);
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#onError(error);
    }
  }
}
