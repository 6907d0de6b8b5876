/**
 * One request of an HTTP client and its answer, over a connection of its own to the service.
 *
 *   client ──(head rewritten) content──► service          content is read only as fast as the other side takes it
 *   client ◄── 1xx* head (rewritten) content ── service
 *
 *   running ─answer complete─► kept: the client may send its next request │ ending: the client is to be closed
 *      └─ truncated, malformed, reset ─► failed: told to the client when nothing of an answer has gone out, else a reset
 *
 * RFC 9110 §7.6 (intermediaries), §15.2 (1xx); RFC 9112 §6 (content), §7 (chunks), §9 (connections).
 */
import type { Span } from '../../netstack/tcp/byte-ring.js';
import type { TcpConnection } from '../../netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../../netstack/types.js';
import { BROKEN, EAGAIN, READABLE, type Reactor, type TcpStream, type Watch, WRITABLE } from '../../os/io.js';
import { type AnswerHead, judgeAnswer } from './http-answer.js';
import { HttpBody } from './http-body.js';
import { HeadReader } from './http-head.js';
import { NO_BYTES, type PlainRequest } from './negotiation.js';

export type ExchangeEnd =
  | { readonly kind: 'kept' }
  | { readonly kind: 'ending' }
  /** `told`: part of an answer has gone out, so that none can be given. */
  | { readonly kind: 'failed'; readonly told: boolean; readonly detail: string };

export interface ExchangeParts {
  readonly reactor: Reactor;
  readonly connection: TcpConnection;
  readonly stream: TcpStream;
  readonly request: PlainRequest;
  /** What the client has sent behind the request's head. */
  readonly early: Uint8Array;
  /** Memory to read into; nothing is kept in it between two calls. */
  readonly scratch: Uint8Array;
  /** Something was queued in the stack outside its own calls. */
  readonly onActivity: () => void;
  /** Called once. `rest`: what the client has sent behind its request. The connection is the exchange's to end. */
  readonly onEnd: (end: ExchangeEnd, rest: Uint8Array) => void;
}

/** What is still said by a service whose answer is complete. */
const DRAIN: TcpHandlers = { onData: (_bytes, _offset, length) => length, onClosed: () => {} };

export class HttpExchange implements TcpHandlers {
  bytesIn = 0;
  bytesOut = 0;
  readonly #parts: ExchangeParts;
  readonly #watch: Watch;
  readonly #span: Span = { bytes: NO_BYTES, offset: 0, length: 0 };
  readonly #requestBody: HttpBody;
  /** Bytes due to the service that were not read into its buffer: the head. */
  #head: Uint8Array;
  #early: Uint8Array;
  /** The stack's send buffer has room. */
  #hasRoom = true;
  #answerHead = new HeadReader();
  #answer: AnswerHead | undefined;
  #answerBody: HttpBody | undefined;
  /** Bytes due to the client. */
  #output: Uint8Array = NO_BYTES;
  /** Something of an answer has been written. */
  #told = false;
  #answered = false;
  #over = false;

  /** Takes both ends over. The connection is established. */
  constructor(parts: ExchangeParts) {
    this.#parts = parts;
    this.#requestBody = new HttpBody(parts.request.framing);
    this.#head = parts.request.head;
    this.#early = parts.early;
    this.#watch = parts.reactor.watch(parts.stream.fd, 0, (ready) => this.#onReady(ready));
    parts.connection.setHandlers(this);
  }

  start(): void {
    this.#send();
    if (!this.#over) this.#parts.connection.pull();
    this.#setInterest();
    this.#parts.onActivity();
  }

  /** Resets the service; the client's stream is the owner's. */
  abort(): void {
    this.#end({ kind: 'failed', told: true, detail: 'closed here' });
  }

  // ---- the service's side

  onData(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length && !this.#answered && !this.#over && this.#output.length === 0) {
      const n =
        this.#answer === undefined
          ? this.#readHead(bytes, offset + taken, length - taken)
          : this.#readBody(bytes, offset + taken, length - taken);
      if (n === 0 && this.#answer !== undefined) break;
      taken += n;
    }
    this.bytesIn += taken;
    this.#finishIfDone();
    if (!this.#over) this.#setInterest();
    return taken;
  }

  onWritable(): void {
    this.#hasRoom = true;
    this.#send();
    this.#setInterest();
  }

  onPeerClosed(): void {
    if (this.#answered) return;
    if (this.#answerBody?.endOfStream() === true) {
      this.#answered = true;
      this.#finishIfDone();
    } else this.#fail('the service closed its connection before its answer was complete');
  }

  onClosed(reason: CloseReason): void {
    if (!this.#answered) this.#fail(`the service's end: ${reason}`);
  }

  #readHead(bytes: Uint8Array, offset: number, length: number): number {
    const taken = this.#answerHead.feed(bytes, offset, length);
    const { state } = this.#answerHead;
    if (state === 'reading') return taken;
    const { request } = this.#parts;
    const answer =
      state === 'complete'
        ? judgeAnswer(this.#answerHead.takeLines(), request, this.#requestBody.isComplete)
        : undefined;
    if (answer === undefined) this.#fail('the service’s answer is not one of HTTP/1');
    else if (answer.isInterim) {
      this.#answerHead = new HeadReader();
      this.#write(answer.head, 0, answer.head.length);
    } else {
      this.#answer = answer;
      this.#answerBody = new HttpBody(answer.framing, request.isHttp10);
      this.#write(answer.head, 0, answer.head.length);
      this.#answered = this.#answerBody.isComplete;
    }
    return taken;
  }

  /** Content that goes on as it is is written right from the receive buffer, as much as the client takes. */
  #readBody(bytes: Uint8Array, offset: number, length: number): number {
    const body = this.#answerBody!;
    const { scratch, stream } = this.#parts;
    let taken: number;
    if (body.isVerbatim) {
      taken = stream.write(bytes, offset, body.wanted(length));
      if (taken === -EAGAIN) {
        this.#wantsWrite = true;
        return 0;
      }
      if (taken < 0) {
        this.#fail('the client went away');
        return 0;
      }
      body.passed(taken);
    } else {
      taken = body.feed(bytes, offset, Math.min(length, scratch.length), scratch, 0);
      this.#write(scratch, 0, body.produced);
      if (body.isMalformed) this.#fail('the service’s answer has malformed chunks');
    }
    this.#answered ||= body.isComplete;
    return taken;
  }

  // ---- the client's side

  /** The receive buffer waits for the client. */
  #wantsWrite = false;

  #onReady(ready: number): void {
    if ((ready & WRITABLE) !== 0) this.#flush();
    if (!this.#over && (ready & (READABLE | BROKEN)) !== 0) {
      if (this.#readsClient()) this.#send();
      else if ((ready & BROKEN) !== 0) this.#fail('the client went away');
    }
    if (!this.#over) this.#setInterest();
    this.#parts.onActivity();
  }

  #readsClient(): boolean {
    return this.#hasRoom && this.#head.length === 0 && this.#early.length === 0 && !this.#requestBody.isComplete;
  }

  #flush(): void {
    this.#wantsWrite = false;
    if (this.#output.length > 0) {
      const due = this.#output;
      this.#output = NO_BYTES;
      this.#write(due, 0, due.length);
    }
    if (!this.#over && this.#output.length === 0 && !this.#answered) this.#parts.connection.pull();
    this.#finishIfDone();
  }

  /** Writes what the client takes and keeps the rest. */
  #write(bytes: Uint8Array, offset: number, length: number): void {
    if (length === 0 || this.#over) return;
    this.#told = true;
    const n = this.#output.length > 0 ? -EAGAIN : this.#parts.stream.write(bytes, offset, length);
    if (n < 0 && n !== -EAGAIN) {
      this.#fail('the client went away');
      return;
    }
    const written = Math.max(n, 0);
    if (written < length) this.#output = bytes.slice(offset + written, offset + length);
  }

  /** Moves the request towards the service: head, what came with it, then the stream. */
  #send(): void {
    const { connection, scratch, stream } = this.#parts;
    while (!this.#over && this.#hasRoom) {
      if (this.#head.length > 0) {
        const n = connection.write(this.#head, 0, this.#head.length);
        this.bytesOut += n;
        this.#head = n === this.#head.length ? NO_BYTES : this.#head.subarray(n);
        this.#hasRoom = this.#head.length === 0;
        continue;
      }
      if (this.#requestBody.isComplete || !connection.canSend) return;
      const { length: room } = connection.reserve(this.#span);
      if (room === 0) {
        this.#hasRoom = false;
        return;
      }
      if (this.#early.length > 0) {
        this.#early = this.#pass(
          this.#early,
          0,
          Math.min(this.#early.length, room, scratch.length),
          this.#early.length,
        );
        continue;
      }
      const n = stream.read(scratch, 0, Math.min(room, scratch.length));
      if (n === -EAGAIN) return;
      if (n <= 0) {
        this.#fail('the client ended inside its request');
        return;
      }
      this.#early = this.#pass(scratch, 0, n, n);
    }
  }

  /** Passes up to `length` bytes of content on; returns what is left of `bytes` up to `end`: the beginning of another request. */
  #pass(bytes: Uint8Array, offset: number, length: number, end: number): Uint8Array {
    const { connection, scratch } = this.#parts;
    const body = this.#requestBody;
    const taken = body.feed(bytes, offset, length, scratch, 0);
    const rest = taken === end ? NO_BYTES : bytes.slice(offset + taken, offset + end);
    if (body.isMalformed) {
      this.#fail('the request has malformed chunks');
      return NO_BYTES;
    }
    this.bytesOut += connection.write(scratch, 0, body.produced);
    return rest;
  }

  #setInterest(): void {
    const writes = this.#wantsWrite || this.#output.length > 0;
    if (!this.#over) this.#watch.interest((this.#readsClient() ? READABLE : 0) | (writes ? WRITABLE : 0));
  }

  // ---- ends

  #finishIfDone(): void {
    if (this.#over || !this.#answered || this.#output.length > 0) return;
    const kept = this.#answer!.keepsClient && this.#requestBody.isComplete;
    this.#end({ kind: kept ? 'kept' : 'ending' });
  }

  #fail(detail: string): void {
    this.#end({ kind: 'failed', told: this.#told, detail });
  }

  #end(end: ExchangeEnd): void {
    if (this.#over) return;
    this.#over = true;
    this.#watch.close();
    const { connection } = this.#parts;
    connection.setHandlers(DRAIN);
    if (end.kind === 'failed') connection.abort();
    else {
      connection.shutdownWrite();
      connection.pull();
    }
    this.#parts.onActivity();
    this.#parts.onEnd(end, this.#early);
  }
}
