/**
 * Questions to one server over HTTPS: one POST after the other on one HTTP/1.1 connection.
 *
 *   POST /dns-query · content-type: application/dns-message · content-length          message
 *   HTTP/1.1 200 · content-length or transfer-encoding: chunked                       message
 *
 * Ids are 0 (RFC 8484 §4.1). RFC 9112 (HTTP/1.1), RFC 8484.
 */
import { later, Seconds } from '../../base/time.js';
import { HttpReply } from './http-reply.js';
import { readMessage } from './message.js';
import type { StreamAsker, StreamClientParts, StreamDone } from './stream-client.js';
import type { DnsStream } from './transport.js';
import { repeatsQuestion } from './udp-exchange.js';

const IDLE_TIME = Seconds(30);
/** Questions that wait for their turn. */
const WAITING_MAX = 256;

interface Asked {
  readonly query: Uint8Array;
  readonly questionEnd: number;
  readonly done: StreamDone;
}

export interface HttpsClientParts extends StreamClientParts {
  readonly host: string;
  readonly path: string;
}

export class HttpsClient implements StreamAsker {
  readonly #parts: HttpsClientParts;
  #waiting: Asked[] = [];
  #current: Asked | undefined;
  #stream: DnsStream | undefined;
  #isOpen = false;
  #reply: HttpReply | undefined;
  /** Counts connections: what an older one still says is nobody's. */
  #generation = 0;
  #stopIdle: () => void = () => {};

  constructor(parts: HttpsClientParts) {
    this.#parts = parts;
  }

  ask(query: Uint8Array, questionEnd: number, done: StreamDone): () => void {
    const { timers } = this.#parts;
    if (this.#waiting.length >= WAITING_MAX || !this.#connect()) return timers.at(timers.now(), () => done(undefined));
    const own = query.slice();
    own[0] = own[1] = 0;
    const asked = { query: own, questionEnd, done };
    this.#waiting.push(asked);
    this.#next();
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== asked);
      // The answer to a withdrawn question would be taken for the next one's.
      if (this.#current === asked) this.#drop(false);
    };
  }

  close(): void {
    const { timers } = this.#parts;
    const lost = [...(this.#current === undefined ? [] : [this.#current]), ...this.#waiting];
    this.#waiting = [];
    this.#current = undefined;
    this.#drop(false);
    // Not inside this call: whoever ends the connection may have more to end.
    if (lost.length === 0) return;
    timers.at(timers.now(), () => {
      for (const { done } of lost) done(undefined);
    });
  }

  #connect(): boolean {
    this.#stopIdle();
    if (this.#stream !== undefined) return true;
    const generation = ++this.#generation;
    const ifCurrent = (act: () => void) => {
      if (generation === this.#generation) act();
    };
    this.#isOpen = false;
    this.#stream = this.#parts.open({
      onOpen: () =>
        ifCurrent(() => {
          this.#isOpen = true;
          this.#next();
        }),
      onData: (bytes, offset, length) => ifCurrent(() => this.#onData(bytes, offset, length)),
      onClosed: () => ifCurrent(() => this.#drop(true)),
    });
    return this.#stream !== undefined;
  }

  #next(): void {
    if (!this.#isOpen || this.#current !== undefined) return;
    this.#current = this.#waiting.shift();
    if (this.#current === undefined) return;
    const { host, path } = this.#parts;
    const { query } = this.#current;
    // Host names and paths of servers are ASCII.
    const head = Uint8Array.from(
      `POST ${path} HTTP/1.1\r\nhost: ${host}\r\naccept: application/dns-message\r\n` +
        `content-type: application/dns-message\r\ncontent-length: ${query.length}\r\n\r\n`,
      (character) => character.charCodeAt(0),
    );
    const request = new Uint8Array(head.length + query.length);
    request.set(head);
    request.set(query, head.length);
    this.#reply = new HttpReply();
    this.#stream!.write(request);
  }

  #onData(bytes: Uint8Array, offset: number, length: number): void {
    const reply = this.#reply;
    // Bytes that nobody asked for end the connection: what follows could not be told apart.
    const isAsked = this.#current !== undefined && reply !== undefined;
    const progress = isAsked ? reply.feed(bytes, offset, length) : 'bad';
    if (progress === 'more') return;
    if (progress === 'bad' || !isAsked) {
      this.#parts.counters.add('dns_malformed');
      this.#drop(true);
      return;
    }
    const { query, questionEnd, done } = this.#current!;
    this.#current = undefined;
    const message = reply.status === 200 ? readMessage(reply.body) : undefined;
    const isOurs = message !== undefined && repeatsQuestion(query, questionEnd, reply.body) !== 'no';
    if (!isOurs) this.#parts.counters.add('dns_malformed');
    if (!reply.keepAlive) this.#drop(true);
    else this.#rest();
    done(isOurs ? { bytes: reply.body, message } : undefined);
    this.#next();
  }

  #rest(): void {
    const { timers } = this.#parts;
    this.#stopIdle();
    if (this.#waiting.length === 0) this.#stopIdle = timers.at(later(timers.now(), IDLE_TIME), () => this.#drop(false));
  }

  /** Ends the connection. The question on it fails; those that wait get another connection. */
  #drop(fails: boolean): void {
    this.#stopIdle();
    const wasOpen = this.#isOpen;
    this.#generation++;
    this.#stream?.close();
    this.#stream = undefined;
    this.#isOpen = false;
    const lost = this.#current === undefined ? [] : [this.#current];
    this.#current = undefined;
    // A connection that never opened would not open for the others either.
    if (fails && !wasOpen) lost.push(...this.#waiting.splice(0));
    else if (this.#waiting.length > 0 && !this.#connect()) lost.push(...this.#waiting.splice(0));
    if (fails) for (const { done } of lost) done(undefined);
  }
}
