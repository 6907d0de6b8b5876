/**
 * Control messages on a bidirectional stream.
 *
 *   │ length u32 BE │ body, `length` bytes │ …          1 ≤ length ≤ 65,536
 *
 * Bodies are handed on as bytes; what they mean (JSON) is the roles' business. A longer message, or more of them than the
 * rate allows, ends the connection.
 */
import { TokenBucket } from '../base/bucket.js';
import type { Instant } from '../base/time.js';
import { CloseCode } from './close.js';
import { CONTROL_HEADER, MAX_CONTROL_MESSAGE } from './options.js';
import { SendQueue, type StreamHost, StreamState } from './stream.js';

/** Bytes that may wait here for the peer's credit: a peer that does not read this much is not worth more memory. */
const MAX_BACKLOG = 1024 * 1024;

export interface StreamProblem {
  readonly code: number;
  readonly reason: string;
}

export class ControlStream {
  readonly #connection: number;
  readonly #stream: number;
  readonly #host: StreamHost;
  readonly #rate: TokenBucket;
  readonly #deliver: (now: Instant, bytes: Uint8Array) => boolean;
  readonly #queue = new SendQueue();
  #partial: Uint8Array = new Uint8Array(1024);
  #length = 0;
  #over = false;

  /** @param deliver gets each message, in bytes of its own; returns false when no more are wanted. */
  constructor(
    connection: number,
    stream: number,
    host: StreamHost,
    messagesPerSecond: number,
    deliver: (now: Instant, bytes: Uint8Array) => boolean,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#host = host;
    this.#rate = new TokenBucket(messagesPerSecond, messagesPerSecond);
    this.#deliver = deliver;
  }

  /** Sends one message of 1 … 65,536 bytes. False when it is too long, the backlog is full, or the stream is over. */
  send(body: Uint8Array): boolean {
    if (this.#over || body.length === 0 || body.length > MAX_CONTROL_MESSAGE) return false;
    if (this.#queue.bytes + body.length > MAX_BACKLOG) return false;
    const framed = new Uint8Array(CONTROL_HEADER + body.length);
    new DataView(framed.buffer).setUint32(0, body.length);
    framed.set(body, CONTROL_HEADER);
    this.#queue.add(framed);
    this.writable();
    return !this.#over;
  }

  /** Bytes not yet taken by the stream. */
  get backlog(): number {
    return this.#queue.bytes;
  }

  /** For the connection: the peer gave more credit. */
  writable(): void {
    if (this.#over || this.#queue.drain(this.#host, this.#connection, this.#stream)) return;
    this.#over = true;
    this.#queue.clear();
  }

  /** For the connection: reads everything there is and delivers what is complete. */
  readable(now: Instant): StreamProblem | undefined {
    for (;;) {
      const read = this.#host.readStream(this.#connection, this.#stream, this.#host.scratch.length);
      if (read < 0) return undefined;
      const state = this.#host.readState;
      this.#append(this.#host.scratch, read);
      const problem = this.#parse(now);
      if (problem !== undefined) return problem.code < 0 ? undefined : problem;
      if (state !== StreamState.open) {
        return { code: CloseCode.streamProtocol, reason: 'the control stream has ended' };
      }
      if (read === 0) return undefined;
    }
  }

  #append(bytes: Uint8Array, length: number): void {
    if (this.#length + length > this.#partial.length) {
      const larger = new Uint8Array(Math.max(this.#partial.length * 2, this.#length + length));
      larger.set(this.#partial.subarray(0, this.#length));
      this.#partial = larger;
    }
    this.#partial.set(bytes.subarray(0, length), this.#length);
    this.#length += length;
  }

  /** Delivers complete messages and keeps the rest, which is always shorter than one message. */
  #parse(now: Instant): StreamProblem | undefined {
    const view = new DataView(this.#partial.buffer);
    let at = 0;
    while (this.#length - at >= CONTROL_HEADER) {
      const length = view.getUint32(at);
      if (length === 0 || length > MAX_CONTROL_MESSAGE) {
        return { code: CloseCode.framing, reason: `a control message of ${length} bytes` };
      }
      const end = at + CONTROL_HEADER + length;
      if (end > this.#length) break;
      if (!this.#rate.take(now)) return { code: CloseCode.messageRate, reason: 'too many control messages' };
      const body = this.#partial.slice(at + CONTROL_HEADER, end);
      at = end;
      if (!this.#deliver(now, body)) return STOPPED;
    }
    this.#partial.copyWithin(0, at, this.#length);
    this.#length -= at;
    return undefined;
  }
}

/** The receiver has closed the connection: no problem of the stream's. */
const STOPPED: StreamProblem = { code: -1, reason: '' };
