/**
 * A set of watched descriptors over one epoll instance (level-triggered).
 *
 *   kernel's data word of an event:   slot u32 (index of the watch) · generation u32 (of that slot)
 *
 * A slot's generation goes up when its watch is closed: readiness that the kernel had already collected for a closed watch
 * is then ignored, even when the slot serves a new watch by that time.
 */
import { BROKEN, READABLE, type ReadyHandler, type Watch, WRITABLE } from '../io.js';
import {
  ENOSYS,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
} from './constants.js';
import { check, close, epollCreate1, epollCtl, epollPwait2, epollWait, errno } from './libc.js';
import { NativeMemory } from './memory.js';

/** Events taken from the kernel at once; more are taken in the next turn, and epoll rotates what it reports. */
const EVENTS_PER_WAIT = 64;
/** `struct epoll_event` in words: packed on x64, padded elsewhere (<sys/epoll.h>). */
const EVENT_WORDS = process.arch === 'x64' ? 3 : 4;
const DATA_WORD = process.arch === 'x64' ? 1 : 2;

export class EpollSet {
  #fd = check(epollCreate1(EPOLL_CLOEXEC), 'epoll_create1');
  #nanoseconds = epollPwait2 !== undefined;
  readonly #events = NativeMemory.allocate(EVENTS_PER_WAIT * EVENT_WORDS * 4);
  readonly #eventWords = this.#events.words();
  readonly #change = NativeMemory.allocate(16);
  readonly #changeWords = this.#change.words();
  readonly #timeout = NativeMemory.allocate(16);
  readonly #timeoutWords = this.#timeout.words();
  readonly #watches: (EpollWatch | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #free: number[] = [];
  #collected = 0;

  /** The epoll instance itself; readable when `wait` would find something. */
  get fd(): number {
    return this.#fd;
  }

  /** @throws SallyportError WATCH_FAILED when the kernel refuses, for example for a regular file. */
  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    const slot = this.#free.pop() ?? this.#watches.length;
    this.#generations[slot] ??= 0;
    const watch = new EpollWatch(this, fd, slot, handler, bits);
    try {
      check(this.control(EPOLL_CTL_ADD, fd, slot, bits), `watching descriptor ${fd}`, 'WATCH_FAILED');
    } catch (error) {
      this.#free.push(slot);
      throw error;
    }
    this.#watches[slot] = watch;
    return watch;
  }

  /** Waits at most `micros` microseconds (0 = not at all) for events and keeps them for `dispatch`; returns how many. */
  wait(micros: number): number {
    const address = this.#events.address;
    let count = -1;
    if (micros > 0 && this.#nanoseconds) {
      const seconds = Math.floor(micros / 1_000_000);
      this.#timeoutWords[0] = seconds;
      this.#timeoutWords[2] = Math.min(999_999_999, Math.ceil((micros - seconds * 1_000_000) * 1_000));
      count = epollPwait2!(this.#fd, address, EVENTS_PER_WAIT, this.#timeout.address, 0);
      // The C library has the call and the kernel (before 5.11) has not: never asked again.
      if (count < 0 && errno() === ENOSYS) this.#nanoseconds = false;
    } else count = epollWait(this.#fd, address, EVENTS_PER_WAIT, Math.ceil(micros / 1_000));
    // −1 is EINTR (a signal), or the one failed attempt above: nothing was collected.
    this.#collected = Math.max(0, count);
    return this.#collected;
  }

  /** Calls the handlers of the collected events; what a handler throws goes to `fail`. */
  dispatch(fail: (error: unknown) => void): void {
    const words = this.#eventWords;
    for (let i = 0; i < this.#collected; i++) {
      const at = i * EVENT_WORDS;
      const slot = words[at + DATA_WORD]!;
      const watch = this.#watches[slot];
      if (watch === undefined || this.#generations[slot] !== words[at + DATA_WORD + 1]) continue;
      const ready = fromEvents(words[at]!);
      try {
        watch.handler(ready);
      } catch (error) {
        fail(error);
      }
      if ((ready & BROKEN) !== 0) watch.afterBroken();
    }
  }

  control(operation: number, fd: number, slot: number, bits: number): number {
    const words = this.#changeWords;
    words[0] = ((bits & READABLE) !== 0 ? EPOLLIN : 0) | ((bits & WRITABLE) !== 0 ? EPOLLOUT : 0);
    words[DATA_WORD] = slot;
    words[DATA_WORD + 1] = this.#generations[slot]!;
    return epollCtl(this.#fd, operation, fd, this.#change.address);
  }

  release(slot: number): void {
    this.#watches[slot] = undefined;
    this.#generations[slot] = (this.#generations[slot]! + 1) >>> 0;
    this.#free.push(slot);
  }

  /** Watches may still be closed afterwards, without effect. */
  close(): void {
    close(this.#fd);
    this.#fd = -1;
  }
}

/** A watch. It must be closed before its descriptor is: a descriptor number is used again at once. */
class EpollWatch implements Watch {
  readonly #set: EpollSet;
  readonly #fd: number;
  readonly #slot: number;
  readonly handler: ReadyHandler;
  #bits: number;
  #attached = true;
  #closed = false;

  constructor(set: EpollSet, fd: number, slot: number, handler: ReadyHandler, bits: number) {
    this.#set = set;
    this.#fd = fd;
    this.#slot = slot;
    this.handler = handler;
    this.#bits = bits;
  }

  interest(bits: number): void {
    if (this.#closed || bits === this.#bits) return;
    this.#bits = bits;
    this.#set.control(this.#attached ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, this.#fd, this.#slot, bits);
    this.#attached = true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#attached) this.#set.control(EPOLL_CTL_DEL, this.#fd, this.#slot, 0);
    this.#set.release(this.#slot);
  }

  /** The kernel reports an error or hang-up even to those who ask for nothing: tell once, then stay away until asked. */
  afterBroken(): void {
    if (this.#closed || this.#bits !== 0 || !this.#attached) return;
    this.#set.control(EPOLL_CTL_DEL, this.#fd, this.#slot, 0);
    this.#attached = false;
  }
}

function fromEvents(events: number): number {
  return (
    ((events & EPOLLIN) !== 0 ? READABLE : 0) |
    ((events & EPOLLOUT) !== 0 ? WRITABLE : 0) |
    ((events & (EPOLLERR | EPOLLHUP)) !== 0 ? BROKEN : 0)
  );
}
