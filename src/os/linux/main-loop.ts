/**
 * Descriptors watched from the main thread, where the loop is libuv's and nothing may block: one epoll set, waited for by a
 * thread of libuv's pool, and emptied here.
 *
 *   idle ──first watch──► waiting (ppoll in the pool) ──readable──► dispatch here ──► waiting …
 *     ▲                                                                   │
 *     └──────────────────── last watch closed, or close() ────────────────┘
 *
 * While anything is watched the process is kept alive, as Node's own sockets do it. (Node itself takes only descriptors of TCP,
 * UDP, pipes and terminals.)
 */
import type { ReadyHandler, Watch } from '../io.js';
import { POLLIN } from './constants.js';
import { EpollSet } from './epoll.js';
import { close, ppollAsync, read, write } from './libc.js';
import { NativeMemory } from './memory.js';
import { makeWakeFd } from './wake.js';

/** One wait in the pool; the process ends at most this much late when it is told to exit meanwhile. */
const WAIT_NANOSECONDS = 200_000_000;

// Where things are in the memory of a wait, in words: struct pollfd · struct timespec · the bell's value.
const TIMESPEC = 2;
const BELL = 6;

export class MainLoop {
  readonly #epoll = new EpollSet();
  readonly #wakeFd = makeWakeFd();
  readonly #onError: (error: unknown) => void;
  readonly #memory = NativeMemory.allocate(32);
  #watches = 0;
  #waiting = false;
  #closed = false;

  /** @param onError a handler threw: a bug. The loop goes on. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
    const words = this.#memory.ints();
    words[0] = this.#epoll.fd;
    words[1] = POLLIN;
    words[TIMESPEC + 2] = WAIT_NANOSECONDS;
    words[BELL] = 1;
    this.#epoll.watch(this.#wakeFd, 1, () => {
      read(this.#wakeFd, this.#memory.address + BELL * 4, 8);
    });
  }

  /** @throws SallyportError WATCH_FAILED (environment) */
  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    const watch = this.#epoll.watch(fd, bits, handler);
    let open = true;
    this.#watches++;
    this.#wait();
    return {
      interest: (wanted) => watch.interest(wanted),
      close: () => {
        if (!open) return;
        open = false;
        watch.close();
        if (--this.#watches === 0) this.#ring();
      },
    };
  }

  /** Close the watches first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#waiting) this.#ring();
    else this.#dispose();
  }

  #ring(): void {
    if (this.#waiting) write(this.#wakeFd, this.#memory.address + BELL * 4, 8);
  }

  #wait(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    const { address } = this.#memory;
    ppollAsync([address, 1, address + TIMESPEC * 4, 0], () => {
      this.#waiting = false;
      if (this.#closed) {
        this.#dispose();
        return;
      }
      if (this.#epoll.wait(0) > 0) this.#epoll.dispatch(this.#onError);
      if (this.#watches > 0) this.#wait();
    });
  }

  #dispose(): void {
    this.#epoll.close();
    close(this.#wakeFd);
  }
}
