/**
 * Joins a connection of our stack and a connection of the host's: bytes both ways, half-close both ways, and back-pressure end
 * to end, because neither side is read faster than the other takes.
 *
 *   stack ──onData──► write(2)         short write: the rest stays in the receive buffer, the window closes, `pull` later
 *   stack ◄──reserve, read(2) into it, commit         no room: the socket is not read until `onWritable`
 *   FIN ──► shutdown(SHUT_WR)          end of stream ──► FIN          error on either side ──► RST on the other
 */
import type { Instant } from '../base/time.js';
import type { Span } from '../netstack/tcp/byte-ring.js';
import type { TcpConnection } from '../netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../netstack/types.js';
import { BROKEN, EAGAIN, READABLE, type TcpStream, type Watch, WRITABLE } from '../os/io.js';
import { DEFAULT_FLOW_LIMITS, type PayloadTap } from './flow-options.js';
import type { StreamLoop } from './shaping/shaped-stream.js';

export interface BridgeOwner {
  /** Something was queued in the stack outside its own calls: it is to be flushed this turn. */
  onActivity(): void;
  /** Both sides are closed. */
  onBridgeClosed(bridge: TcpBridge, reason: CloseReason): void;
}

export class TcpBridge implements TcpHandlers {
  bytesIn = 0;
  bytesOut = 0;
  /** When bytes last moved, either way. */
  lastUsed: Instant;
  #reactor: StreamLoop;
  readonly #connection: TcpConnection;
  #stream: TcpStream;
  #watch: Watch;
  readonly #owner: BridgeOwner;
  readonly #span: Span = { bytes: new Uint8Array(0), offset: 0, length: 0 };
  #wantsRead = true;
  #wantsWrite = false;
  /** The host side's stream has ended. */
  #ended = false;
  /** We have ended the other direction of it: the hang-up that follows both ends is not an error. */
  #shut = false;
  #closed = false;
  #tap: PayloadTap | undefined;
  /** Bytes not yet taken that the tap has seen. */
  #seen = 0;
  readonly #readBudget: number;

  /** Takes over a connected stream and an open connection whose handlers it becomes. */
  constructor(
    reactor: StreamLoop,
    connection: TcpConnection,
    stream: TcpStream,
    owner: BridgeOwner,
    tap?: PayloadTap,
    readBudget = DEFAULT_FLOW_LIMITS.tcpReadBudget,
  ) {
    this.#reactor = reactor;
    this.#readBudget = readBudget;
    this.#tap = tap;
    this.lastUsed = reactor.now();
    this.#connection = connection;
    this.#stream = stream;
    this.#owner = owner;
    this.#watch = reactor.watch(stream.fd, READABLE, (ready) => this.#onReady(ready));
    connection.setHandlers(this);
  }

  /** What the program sends has to wait for the host's side. */
  get sendPaused(): boolean {
    return this.#wantsWrite || this.#stream.sendPaused === true;
  }

  /**
   * The stream goes on inside another one, which is to the bridge what it was, and the loop that watches it.
   * @param make is told whether our direction of the stream is over.
   */
  wrap(make: (inner: TcpStream, isShut: boolean) => TcpStream & StreamLoop): void {
    if (this.#closed) return;
    this.#watch.close();
    const outer = make(this.#stream, this.#shut);
    this.#stream = outer;
    this.#reactor = outer;
    this.#watch = outer.watch(outer.fd, READABLE, (ready) => this.#onReady(ready));
    // What has waited for room in the old one finds some in the new one.
    const hasWaited = this.#wantsWrite;
    this.#wantsWrite = false;
    this.#setInterest();
    if (hasWaited) this.#connection.pull();
  }

  /** Starts: what the stack has received already is offered now. */
  start(): void {
    this.#connection.pull();
  }

  /** Shows the tap what waits in front of the bridge (all of it, each time), once. */
  peek(bytes: Uint8Array, offset: number, length: number): void {
    const seen = this.#seen;
    if (length <= seen) return;
    this.#seen = length;
    if (this.#tap?.(true, bytes, offset + seen, length - seen) === false) this.#tap = undefined;
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length) {
      const n = this.#stream.write(bytes, offset + taken, length - taken);
      if (n < 0) {
        if (n !== -EAGAIN) this.#fail();
        break;
      }
      taken += n;
    }
    if (taken > 0) {
      this.bytesIn += taken;
      this.lastUsed = this.#reactor.now();
      if (this.#tap !== undefined) this.#show(bytes, offset, taken);
    }
    if (taken < length && !this.#closed) {
      this.#wantsWrite = true;
      this.#setInterest();
    }
    return taken;
  }

  onPeerClosed(): void {
    this.#shut = true;
    this.#stream.shutdownWrite();
  }

  onWritable(): void {
    this.#wantsRead = !this.#ended;
    this.#setInterest();
  }

  onClosed(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    if (reason === 'finished') this.#stream.close();
    else this.#stream.abort();
    this.#owner.onBridgeClosed(this, reason);
  }

  /** Ends both sides at once: RST to each. */
  abort(): void {
    if (!this.#closed) this.#fail();
  }

  #onReady(ready: number): void {
    if ((ready & WRITABLE) !== 0 && this.#wantsWrite) {
      this.#wantsWrite = false;
      this.#connection.pull();
    }
    if (!this.#closed && (ready & (READABLE | BROKEN)) !== 0 && this.#wantsRead) this.#read();
    else if (!this.#closed && (ready & BROKEN) !== 0 && this.#ended && !this.#shut) this.#fail();
    if (!this.#closed) this.#setInterest();
    this.#owner.onActivity();
  }

  /** Shows the tap what has been taken, but for what it has seen. */
  #show(bytes: Uint8Array, offset: number, length: number): void {
    const seen = Math.min(this.#seen, length);
    this.#seen -= seen;
    if (seen < length && !this.#tap!(true, bytes, offset + seen, length - seen)) this.#tap = undefined;
  }

  #read(): void {
    for (let left = this.#readBudget; ; ) {
      const span = this.#connection.reserve(this.#span);
      if (span.length === 0) {
        this.#wantsRead = false;
        return;
      }
      // What leaves as one piece is read as one: of 64 KiB some bytes would be left over, and cost a packet of their own.
      const want = Math.min(span.length, this.#connection.superSegment);
      const n = this.#stream.read(span.bytes, span.offset, want);
      if (n > 0) {
        if (this.#tap !== undefined && !this.#tap(false, span.bytes, span.offset, n)) this.#tap = undefined;
        this.#connection.commit(n);
        this.bytesOut += n;
        this.lastUsed = this.#reactor.now();
        left -= n;
        // Another one would be more than this flow's share of the turn.
        if (n < want || left < n) return;
      } else {
        if (n === 0) {
          this.#ended = true;
          this.#wantsRead = false;
          this.#connection.shutdownWrite();
        } else if (n !== -EAGAIN) this.#fail();
        return;
      }
    }
  }

  #setInterest(): void {
    this.#watch.interest((this.#wantsRead ? READABLE : 0) | (this.#wantsWrite ? WRITABLE : 0));
  }

  #fail(): void {
    this.#connection.abort();
    this.#owner.onActivity();
  }
}
