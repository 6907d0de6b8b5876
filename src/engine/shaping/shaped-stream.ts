/**
 * A TCP connection of the host's whose bytes wait in lanes, both ways; to a bridge it is the stream and the loop that watches it.
 *
 *   bridge ─ write ─► lane up ─ due ─► write(2)          no room: WRITABLE again when there is
 *   bridge ◄─ read ── lane down ◄─ read(2)               not read while its lane is full: the sender's window closes
 *   end of stream, either way: as late as a byte would be          error: at once, and what waits is lost
 */
import type { SocketAddress } from '../../base/address.js';
import { type Instant, later, Seconds } from '../../base/time.js';
import {
  BROKEN,
  EAGAIN,
  ECONNRESET,
  type IoResult,
  READABLE,
  type Reactor,
  type ReadyHandler,
  type TcpStream,
  type Watch,
  WRITABLE,
} from '../../os/io.js';
import { type FlowShape, sameShape } from './rate.js';
import type { Lane, Shaper } from './shaper.js';

/** What a bridge needs of a loop. */
export type StreamLoop = Pick<Reactor, 'now' | 'watch'>;

/** A closed flow has so long to send what still waits, after which it is reset. */
const LINGER = Seconds(60);

export class ShapedStream implements TcpStream, StreamLoop {
  readonly #reactor: Reactor;
  readonly #inner: TcpStream;
  readonly #shaper: Shaper;
  readonly #up: Lane;
  readonly #down: Lane;
  readonly #watch: Watch;
  #handler: ReadyHandler | undefined;
  #wants = 0;
  #error = 0;
  /** When the other end's end of stream is due, and ours. */
  #endDue: Instant | undefined;
  #shutDue: Instant | undefined;
  #isShut: boolean;
  #isBlocked = false;
  #isClosing = false;
  #isOver = false;
  #stopLinger: () => void = () => {};

  #shape: FlowShape;

  /** @param isShut of a stream that had a life before: our direction of it is over. */
  constructor(reactor: Reactor, inner: TcpStream, shaper: Shaper, shape: FlowShape, isShut = false) {
    this.#reactor = reactor;
    this.#inner = inner;
    this.#shaper = shaper;
    this.#shape = shape;
    this.#isShut = isShut;
    const { up, down } = shaper.lanes(
      shape,
      true,
      (now) => this.#flush(now),
      () => this.#offer(0),
    );
    this.#up = up;
    this.#down = down;
    this.#watch = reactor.watch(inner.fd, READABLE, (ready) => this.#onReady(ready));
  }

  /** Held back otherwise from now on; what waits keeps its time. */
  change(shape: FlowShape): void {
    if (sameShape(shape, this.#shape)) return;
    this.#shape = shape;
    this.#shaper.change({ up: this.#up, down: this.#down }, shape);
    // There may be room now.
    this.#setInterest();
  }

  get fd(): number {
    return this.#inner.fd;
  }

  get local(): SocketAddress {
    return this.#inner.local;
  }

  get sendPaused(): boolean {
    return this.#inner.sendPaused === true;
  }

  now(): Instant {
    return this.#reactor.now();
  }

  /** The bridge's watch of this very stream. */
  watch(_fd: number, bits: number, handler: ReadyHandler): Watch {
    this.#handler = handler;
    this.#wants = bits;
    return {
      interest: (wanted) => {
        this.#wants = wanted;
        // A bridge waits for room only while bytes of its own wait here: their leaving offers it.
        this.#armDown();
      },
      close: () => {
        this.#handler = undefined;
      },
    };
  }

  connectResult(): IoResult {
    return this.#inner.connectResult();
  }

  read(target: Uint8Array, offset: number, length: number): IoResult {
    if (this.#error !== 0) return this.#error;
    const now = this.now();
    const { ring } = this.#down;
    let taken = 0;
    while (taken < length && this.#isDue(ring.firstDue(), now)) {
      const n = Math.min(length - taken, ring.firstLength);
      const from = ring.firstOffset;
      target.set(ring.bytes.subarray(from, from + n), offset + taken);
      ring.consume(n);
      taken += n;
    }
    if (taken === 0) return ring.count === 0 && this.#isDue(this.#endDue, now) ? 0 : -EAGAIN;
    this.#armDown();
    this.#setInterest();
    return taken;
  }

  write(source: Uint8Array, offset: number, length: number): IoResult {
    if (this.#error !== 0) return this.#error;
    if (this.#shutDue !== undefined) return -ECONNRESET;
    const now = this.now();
    const { ring, piece, limit } = this.#up;
    let taken = 0;
    while (taken < length && ring.held < limit) {
      const n = ring.room(Math.min(length - taken, piece), false);
      if (n === 0) break;
      ring.bytes.set(source.subarray(offset + taken, offset + taken + n), ring.tail);
      ring.commit(n, this.#up.leaves(now, n));
      taken += n;
    }
    if (!this.#isBlocked) this.#up.arm();
    return taken === 0 ? -EAGAIN : taken;
  }

  shutdownWrite(): void {
    if (this.#shutDue !== undefined) return;
    this.#shutDue = this.#up.leaves(this.now(), 0);
    if (this.#up.ring.count === 0) this.#up.armAt(this.#shutDue);
  }

  close(): void {
    this.#isClosing = true;
    this.#handler = undefined;
    this.#down.close();
    if (this.#isSent()) {
      this.#end(false);
      return;
    }
    this.#stopLinger = this.#reactor.at(later(this.now(), LINGER), () => this.#end(true));
    this.#setInterest();
  }

  abort(): void {
    this.#end(true);
  }

  /** Nothing waits that the other end is still to get. */
  #isSent(): boolean {
    return this.#up.ring.count === 0 && (this.#shutDue === undefined || this.#isShut);
  }

  #end(isAbort: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#handler = undefined;
    this.#stopLinger();
    this.#watch.close();
    this.#up.close();
    this.#down.close();
    if (isAbort) this.#inner.abort();
    else this.#inner.close();
  }

  #onReady(ready: number): void {
    const now = this.now();
    if ((ready & WRITABLE) !== 0) {
      this.#isBlocked = false;
      this.#flush(now);
    }
    if (this.#isOver) return;
    if ((ready & (READABLE | BROKEN)) !== 0 && !this.#isClosing) this.#fill(now);
    // Both ends of the stream are over for the kernel although one of ours still waits: the other end has given up.
    if ((ready & BROKEN) !== 0 && this.#endDue !== undefined && !this.#isShut) this.#fail(-ECONNRESET);
    if (!this.#isOver) this.#setInterest();
  }

  /** Reads what the other end has sent, as far as the lane has room. */
  #fill(now: Instant): void {
    const { ring, piece, limit } = this.#down;
    while (this.#endDue === undefined && ring.held < limit) {
      const want = ring.room(piece, false);
      if (want === 0) break;
      const n = this.#inner.read(ring.bytes, ring.tail, want);
      if (n === -EAGAIN) break;
      if (n < 0) {
        this.#fail(n);
        return;
      }
      const due = this.#down.leaves(now, n);
      if (n === 0) this.#endDue = due;
      else ring.commit(n, due);
    }
    this.#armDown();
  }

  /** Sends what is due, and the end of the stream behind it. */
  #flush(now: Instant): void {
    const { ring } = this.#up;
    while (this.#isDue(ring.firstDue(), now)) {
      const n = this.#inner.write(ring.bytes, ring.firstOffset, ring.firstLength);
      if (n === -EAGAIN) {
        this.#isBlocked = true;
        this.#setInterest();
        return;
      }
      if (n < 0) {
        this.#fail(n);
        return;
      }
      ring.consume(n);
    }
    if (ring.count > 0) this.#up.arm();
    else if (this.#shutDue !== undefined && !this.#isShut) {
      if (this.#shutDue <= now) {
        this.#isShut = true;
        this.#inner.shutdownWrite();
      } else this.#up.armAt(this.#shutDue);
    }
    if (this.#isClosing && this.#isSent()) this.#end(false);
    else this.#offer(0);
  }

  #fail(error: IoResult): void {
    this.#error = error;
    if (this.#isClosing) this.#end(true);
    else this.#offer(BROKEN);
  }

  /** Calls the bridge about what is ready; what it leaves has its turn again at once. */
  #offer(more: number): void {
    const now = this.now();
    const ready = this.#readiness(now) | more;
    if (ready !== 0) this.#handler?.(ready);
    if (this.#isOver || this.#isClosing) return;
    this.#armDown();
    this.#setInterest();
  }

  #armDown(): void {
    if (this.#isOver || this.#isClosing) return;
    if ((this.#wants & READABLE) === 0) this.#down.disarm();
    else if (this.#down.ring.count > 0) this.#down.arm();
    else if (this.#endDue !== undefined) this.#down.armAt(this.#endDue);
  }

  #readiness(now: Instant): number {
    const { ring } = this.#down;
    const hasEnded = ring.count === 0 && this.#endDue !== undefined && this.#endDue <= now;
    const readable = hasEnded || this.#isDue(ring.firstDue(), now) ? READABLE : 0;
    const writable = this.#up.ring.held < this.#up.limit / 2 ? WRITABLE : 0;
    return (readable | writable) & this.#wants;
  }

  #setInterest(): void {
    if (this.#isOver) return;
    const reads = !this.#isClosing && this.#endDue === undefined && this.#down.ring.held < this.#down.limit;
    this.#watch.interest((reads ? READABLE : 0) | (this.#isBlocked ? WRITABLE : 0));
  }

  #isDue(at: Instant | undefined, now: Instant): boolean {
    return at !== undefined && at <= now;
  }
}
