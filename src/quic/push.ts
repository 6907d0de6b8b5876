/**
 * Messages too large for the control stream: each has a unidirectional stream of its own, its end is the message's end.
 *
 *   stream n: │ message │ FIN        the next stream is opened when this one has been acknowledged, so messages keep their order
 */
import { CloseCode } from './close.js';
import type { StreamProblem } from './control-stream.js';
import { SendQueue, type StreamHost, StreamState } from './stream.js';

/** Bytes of one pushed message (protocol.md §2). */
export const MAX_PUSH = 8 * 1024 * 1024;
/** Bytes that may wait for their turn: two of the largest. */
const MAX_WAITING = 2 * MAX_PUSH;

/** Our side: sends one message after another. */
export class Pusher {
  readonly #connection: number;
  readonly #host: StreamHost;
  readonly #open: () => number | undefined;
  readonly #queue = new SendQueue();
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #stream: number | undefined;
  #finished = false;

  constructor(connection: number, host: StreamHost, open: () => number | undefined) {
    this.#connection = connection;
    this.#host = host;
    this.#open = open;
  }

  push(message: Uint8Array): boolean {
    if (message.length > MAX_PUSH || this.#waitingBytes + message.length > MAX_WAITING) return false;
    this.#waiting.push(message);
    this.#waitingBytes += message.length;
    this.resume();
    return true;
  }

  /** Starts the next message if none is under way. */
  resume(): void {
    if (this.#stream !== undefined || this.#waiting.length === 0) return;
    this.#stream = this.#open();
    if (this.#stream === undefined) return;
    const message = this.#waiting.shift()!;
    this.#waitingBytes -= message.length;
    this.#finished = false;
    this.#queue.add(message);
    this.writable(this.#stream);
  }

  writable(stream: number): void {
    if (stream !== this.#stream || this.#finished) return;
    if (!this.#queue.drain(this.#host, this.#connection, stream)) this.ended(stream);
    else if (this.#queue.bytes === 0) {
      this.#finished = true;
      this.#host.finishStream(this.#connection, stream);
    }
  }

  /** The stream has been acknowledged, or stopped by the peer. */
  ended(stream: number): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.#queue.clear();
    this.resume();
  }
}

/** The other side: collects one message. */
export class PushReader {
  readonly #connection: number;
  readonly #stream: number;
  readonly #host: StreamHost;
  readonly #chunks: Uint8Array[] = [];
  /** Shared by all pushes of the connection: together they hold no more than one may. */
  readonly #budget: { left: number };
  #length = 0;

  constructor(connection: number, stream: number, host: StreamHost, budget: { left: number }) {
    this.#budget = budget;
    this.#connection = connection;
    this.#stream = stream;
    this.#host = host;
  }

  /** Reads what there is: the whole message at its end, `abandoned` when the peer gave it up, undefined until then. */
  readable(): Uint8Array | 'abandoned' | StreamProblem | undefined {
    const result = this.#read();
    if (result !== undefined) this.#budget.left += this.#length;
    return result;
  }

  #read(): Uint8Array | 'abandoned' | StreamProblem | undefined {
    for (;;) {
      const read = this.#host.readStream(this.#connection, this.#stream, this.#host.scratch.length);
      if (read < 0) return 'abandoned';
      const state = this.#host.readState;
      this.#length += read;
      this.#budget.left -= read;
      if (this.#budget.left < 0) {
        this.#host.stopStream(this.#connection, this.#stream, CloseCode.pushTooLong);
        return { code: CloseCode.pushTooLong, reason: 'pushed messages of more than 8 MiB' };
      }
      if (read > 0) this.#chunks.push(this.#host.scratch.slice(0, read));
      if (state === StreamState.finished) return this.#join();
      if (state === StreamState.reset) return 'abandoned';
      if (read === 0) return undefined;
    }
  }

  #join(): Uint8Array {
    const message = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      message.set(chunk, at);
      at += chunk.length;
    }
    return message;
  }
}
