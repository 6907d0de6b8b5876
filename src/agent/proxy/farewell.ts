/**
 * The end of a client that is refused, or served for the last time: its answer, then our FIN, then its own end is waited for a moment.
 *
 *   writing ─all of it taken─► FIN sent, reading over ─its FIN | 64 KiB | 2 s─► closed
 *
 * A socket that is closed with unread bytes is reset, and the reset may overtake the answer (RFC 9112 §9.6 describes the same).
 */
import { later, Seconds } from '../../base/time.js';
import { BROKEN, EAGAIN, READABLE, type Reactor, type TcpStream, type Watch, WRITABLE } from '../../os/io.js';

/** How long a refused client may take to read its answer and close. */
export const LINGER = Seconds(2);
/** Most bytes that are read over. */
export const LINGER_BYTES = 64 * 1024;

export class Farewell {
  readonly #stream: TcpStream;
  readonly #answer: Uint8Array;
  readonly #scratch: Uint8Array;
  readonly #onDone: () => void;
  readonly #watch: Watch;
  readonly #cancelTimer: () => void;
  #written = 0;
  #discarded = 0;

  /**
   * Takes the stream over (nobody else watches it) and closes it in the end.
   * @param scratch memory to read into; nothing is kept in it.
   * @param onDone called once, never before `start`.
   */
  constructor(reactor: Reactor, stream: TcpStream, answer: Uint8Array, scratch: Uint8Array, onDone: () => void) {
    this.#stream = stream;
    this.#answer = answer;
    this.#scratch = scratch;
    this.#onDone = onDone;
    this.#watch = reactor.watch(stream.fd, WRITABLE, (ready) => this.#onReady(ready));
    this.#cancelTimer = reactor.at(later(reactor.now(), LINGER), () => this.abort());
  }

  /** Writes what the socket takes at once. */
  start(): void {
    this.#write();
  }

  /** Resets what is left. */
  abort(): void {
    this.#release();
    this.#stream.abort();
    this.#onDone();
  }

  #onReady(ready: number): void {
    if (this.#written < this.#answer.length) {
      if ((ready & BROKEN) !== 0) this.abort();
      else this.#write();
    } else this.#discard();
  }

  #write(): void {
    const due = this.#answer.length - this.#written;
    const n = due === 0 ? 0 : this.#stream.write(this.#answer, this.#written, due);
    if (n === -EAGAIN) return;
    if (n < 0) {
      this.abort();
      return;
    }
    this.#written += n;
    if (n < due) return;
    this.#stream.shutdownWrite();
    this.#watch.interest(READABLE);
  }

  #discard(): void {
    const n = this.#stream.read(this.#scratch, 0, this.#scratch.length);
    if (n === -EAGAIN) return;
    this.#discarded += Math.max(n, 0);
    if (n > 0 && this.#discarded < LINGER_BYTES) return;
    this.#release();
    this.#stream.close();
    this.#onDone();
  }

  #release(): void {
    this.#cancelTimer();
    this.#watch.close();
  }
}
