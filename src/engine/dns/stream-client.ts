/**
 * Questions to one server over a stream, TCP or TLS, many at once on one connection:
 *
 *   length u16 · message …                 idle ─ ask ─► connecting ─► open ─ all answered, 10 s silent ─► idle
 *
 * A connection that ends takes its questions with it; the next one makes another. RFC 7766, RFC 7858.
 */
import type { Counters } from '../../base/counters.js';
import type { Entropy } from '../../base/entropy.js';
import { later, Seconds } from '../../base/time.js';
import { writeU16 } from '../../wire/bytes.js';
import { DnsFraming, frame } from './framing.js';
import { type DnsMessage, FLAG_QR, readMessage } from './message.js';
import type { DnsCounter, DnsStream, DnsStreamHandlers, DnsTimers } from './transport.js';
import { repeatsQuestion } from './udp-exchange.js';

/** RFC 7766 §6.2.3: some seconds. */
const IDLE_TIME = Seconds(10);
/** Questions at once on one connection. */
const OUTSTANDING_MAX = 256;

/** The answer, or undefined when the connection could not be had or ended. */
export type StreamDone = (answer: { readonly bytes: Uint8Array; readonly message: DnsMessage } | undefined) => void;

/** Asks over a stream of its own; `ask` returns a function that withdraws the question. */
export interface StreamAsker {
  ask(query: Uint8Array, questionEnd: number, done: StreamDone): () => void;
  close(): void;
}

export interface StreamClientParts {
  readonly open: (handlers: DnsStreamHandlers) => DnsStream | undefined;
  readonly timers: DnsTimers;
  readonly entropy: Entropy;
  readonly counters: Counters<DnsCounter>;
}

interface Outstanding {
  readonly query: Uint8Array;
  readonly questionEnd: number;
  readonly done: StreamDone;
}

export class StreamClient implements StreamAsker {
  readonly #parts: StreamClientParts;
  readonly #outstanding = new Map<number, Outstanding>();
  #connection: Connection | undefined;
  #stopIdle: () => void = () => {};

  constructor(parts: StreamClientParts) {
    this.#parts = parts;
  }

  ask(query: Uint8Array, questionEnd: number, done: StreamDone): () => void {
    this.#stopIdle();
    const id = this.#freeId();
    this.#connection ??= this.#connect();
    if (id === undefined || this.#connection === undefined) {
      const now = this.#parts.timers.now();
      return this.#parts.timers.at(now, () => done(undefined));
    }
    const own = query.slice();
    writeU16(own, 0, id);
    this.#outstanding.set(id, { query: own, questionEnd, done });
    this.#connection.send(own);
    return () => {
      if (this.#outstanding.delete(id)) this.#rest();
    };
  }

  close(): void {
    this.#stopIdle();
    this.#connection?.close();
    this.#connection = undefined;
    this.#failAll();
  }

  /** Every question fails, not inside this call: whoever ends the connection may have more to end. */
  #failAll(): void {
    const lost = [...this.#outstanding.values()];
    this.#outstanding.clear();
    if (lost.length === 0) return;
    this.#parts.timers.at(this.#parts.timers.now(), () => {
      for (const { done } of lost) done(undefined);
    });
  }

  #connect(): Connection | undefined {
    const connection = new Connection(
      this.#parts.open,
      (bytes) => this.#onMessage(connection, bytes),
      () => this.#onClosed(connection),
    );
    return connection.isOpening ? connection : undefined;
  }

  #onMessage(connection: Connection, bytes: Uint8Array): void {
    const message = readMessage(bytes);
    if (message === undefined) {
      this.#parts.counters.add('dns_malformed');
      connection.close();
      this.#onClosed(connection);
      return;
    }
    const asked = this.#outstanding.get(message.id);
    const repeats = asked === undefined ? 'no' : repeatsQuestion(asked.query, asked.questionEnd, bytes);
    if (asked === undefined || repeats === 'no' || (message.flags & FLAG_QR) === 0) {
      this.#parts.counters.add('dns_spoofed');
      return;
    }
    this.#outstanding.delete(message.id);
    this.#rest();
    asked.done({ bytes, message });
  }

  #onClosed(connection: Connection): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#failAll();
  }

  #rest(): void {
    if (this.#outstanding.size > 0) return;
    const { timers } = this.#parts;
    this.#stopIdle();
    this.#stopIdle = timers.at(later(timers.now(), IDLE_TIME), () => this.close());
  }

  #freeId(): number | undefined {
    if (this.#outstanding.size >= OUTSTANDING_MAX) return undefined;
    for (;;) {
      const id = this.#parts.entropy.uint32() >>> 16;
      if (!this.#outstanding.has(id)) return id;
    }
  }
}

/** One connection and its framing. */
class Connection {
  readonly #stream: DnsStream | undefined;
  #isOpen = false;
  #waiting: Uint8Array[] = [];
  readonly #framing: DnsFraming;
  #over = false;

  constructor(open: StreamClientParts['open'], onMessage: (bytes: Uint8Array) => void, onClosed: () => void) {
    this.#framing = new DnsFraming((message) => {
      if (!this.#over) onMessage(message);
    });
    this.#stream = open({
      onOpen: () => {
        this.#isOpen = true;
        for (const framed of this.#waiting) this.#stream?.write(framed);
        this.#waiting = [];
      },
      onData: (bytes, offset, length) => this.#framing.feed(bytes, offset, length),
      onClosed: () => {
        if (this.#over) return;
        this.#over = true;
        onClosed();
      },
    });
  }

  get isOpening(): boolean {
    return this.#stream !== undefined;
  }

  send(message: Uint8Array): void {
    const framed = frame(message);
    if (this.#isOpen) this.#stream?.write(framed);
    else this.#waiting.push(framed);
  }

  close(): void {
    this.#over = true;
    this.#stream?.close();
  }
}
