/**
 * Questions to one server over HTTPS: over HTTP/2 many at once, over HTTP/1.1 one POST after the other, as the server chooses (ALPN).
 *
 *   POST /dns-query · content-type: application/dns-message · content-length          message
 *   200 · content-length, or transfer-encoding: chunked (HTTP/1.1)                    message
 *
 *   idle ─ ask ─► connecting ─► open ─┬─ 30 s silent, garbage, a question unanswered ─────────────► idle
 *                                     └─ takes no more requests (GOAWAY) ─► answers what it has     the next question connects anew
 *
 * Ids are 0 (RFC 8484 §4.1). RFC 9113 (HTTP/2), RFC 9112 (HTTP/1.1), RFC 8484.
 */
import { later, Seconds } from '../../base/time.js';
import type { HttpRequests, HttpResponse } from '../../os/io.js';
import { HttpReply } from './http-reply.js';
import { readMessage } from './message.js';
import type { StreamAsker, StreamClientParts, StreamDone } from './stream-client.js';
import type { DnsStream } from './transport.js';
import { repeatsQuestion } from './udp-exchange.js';

const IDLE_TIME = Seconds(30);
/** Questions that wait for their turn. */
const WAITING_MAX = 256;
/** Questions at once on one connection; RFC 9113 §6.5.2 wants servers to allow no fewer. */
const STREAMS_MAX = 100;
/** Connections tried for a question that a server has not looked at. */
const REFUSALS_MAX = 2;
const MEDIA_TYPE = 'application/dns-message';

interface Asked {
  readonly query: Uint8Array;
  readonly questionEnd: number;
  readonly done: StreamDone;
  /** Withdraws it from the connection it is on. */
  withdraw: () => void;
  refusals: number;
}

/** One connection. Its handlers say nothing once it is not the client's any more, but what it was asked it still answers. */
interface Connection {
  stream: DnsStream | undefined;
  isOpen: boolean;
  /** Over HTTP/2. */
  requests: HttpRequests | undefined;
  /** Over HTTP/1.1: the response to the one question. */
  reply: HttpReply;
  readonly asked: Set<Asked>;
  /** Answers so far. */
  answers: number;
}

export interface HttpsClientParts extends StreamClientParts {
  readonly host: string;
  readonly path: string;
}

export class HttpsClient implements StreamAsker {
  readonly #parts: HttpsClientParts;
  #waiting: Asked[] = [];
  #connection: Connection | undefined;
  /** Connections that take no more questions, until they have answered those they have. */
  readonly #retired = new Set<Connection>();
  #stopIdle: () => void = () => {};

  constructor(parts: HttpsClientParts) {
    this.#parts = parts;
  }

  ask(query: Uint8Array, questionEnd: number, done: StreamDone): () => void {
    const { timers } = this.#parts;
    if (this.#waiting.length >= WAITING_MAX || !this.#connect()) return timers.at(timers.now(), () => done(undefined));
    const own = query.slice();
    own[0] = own[1] = 0;
    const asked: Asked = { query: own, questionEnd, done, withdraw: () => {}, refusals: 0 };
    this.#waiting.push(asked);
    this.#next();
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== asked);
      asked.withdraw();
    };
  }

  close(): void {
    const { timers } = this.#parts;
    const lost = this.#waiting.splice(0);
    for (const connection of [...this.#retired, this.#connection]) {
      if (connection !== undefined) lost.push(...this.#end(connection));
    }
    // Not inside this call: whoever ends the connection may have more to end.
    if (lost.length === 0) return;
    timers.at(timers.now(), () => {
      for (const { done } of lost) done(undefined);
    });
  }

  #connect(): boolean {
    this.#stopIdle();
    if (this.#connection !== undefined) return true;
    const connection: Connection = {
      stream: undefined,
      isOpen: false,
      requests: undefined,
      reply: new HttpReply(),
      asked: new Set(),
      answers: 0,
    };
    connection.stream = this.#parts.open({
      onOpen: (requests) => {
        connection.isOpen = true;
        connection.requests = requests;
        this.#next();
      },
      onData: (bytes, offset, length) => this.#onData(connection, bytes, offset, length),
      onClosed: () => this.#drop(connection),
    });
    if (connection.stream === undefined) return false;
    this.#connection = connection;
    return true;
  }

  /** Gives the connection as many questions as it takes at once. */
  #next(): void {
    const connection = this.#connection;
    if (connection === undefined || !connection.isOpen) return;
    const most = connection.requests === undefined ? 1 : STREAMS_MAX;
    while (connection.asked.size < most) {
      const asked = this.#waiting.shift();
      if (asked === undefined) return;
      connection.asked.add(asked);
      if (connection.requests === undefined) this.#write(connection, asked);
      else this.#post(connection, connection.requests, asked);
    }
  }

  #post(connection: Connection, requests: HttpRequests, asked: Asked): void {
    const { host, path } = this.#parts;
    const { answers } = connection;
    const withdraw = requests.post(host, path, MEDIA_TYPE, asked.query, (response) => {
      if (!connection.asked.delete(asked)) return;
      if (response === 'refused') this.#askAgain(connection, asked);
      else this.#answer(connection, asked, response === 'failed' ? undefined : response);
    });
    asked.withdraw = () => {
      if (!connection.asked.delete(asked)) return;
      withdraw();
      // Nothing has come since the question was put: there may be nobody any more.
      if (connection.answers === answers) this.#drop(connection);
      else this.#rest(connection);
    };
  }

  #write(connection: Connection, asked: Asked): void {
    const { host, path } = this.#parts;
    const { query } = asked;
    // Host names and paths of servers are ASCII.
    const head = Uint8Array.from(
      `POST ${path} HTTP/1.1\r\nhost: ${host}\r\naccept: ${MEDIA_TYPE}\r\n` +
        `content-type: ${MEDIA_TYPE}\r\ncontent-length: ${query.length}\r\n\r\n`,
      (character) => character.charCodeAt(0),
    );
    const request = new Uint8Array(head.length + query.length);
    request.set(head);
    request.set(query, head.length);
    connection.reply = new HttpReply();
    connection.stream!.write(request);
    asked.withdraw = () => {
      // The answer to a withdrawn question would be taken for the next one's.
      if (connection.asked.delete(asked)) this.#drop(connection);
    };
  }

  #onData(connection: Connection, bytes: Uint8Array, offset: number, length: number): void {
    const [asked] = connection.asked;
    // Bytes that nobody asked for end the connection: what follows could not be told apart.
    const progress = asked === undefined ? 'bad' : connection.reply.feed(bytes, offset, length);
    if (progress === 'more') return;
    if (progress === 'bad' || asked === undefined) {
      this.#parts.counters.add('dns_malformed');
      this.#drop(connection);
      return;
    }
    connection.asked.delete(asked);
    const { reply } = connection;
    if (!reply.keepAlive) this.#drop(connection);
    this.#answer(connection, asked, reply);
  }

  /** Tells whoever asked; without a response: that there is none. */
  #answer(connection: Connection, asked: Asked, response: HttpResponse | undefined): void {
    connection.answers++;
    const message = response?.status === 200 ? readMessage(response.body) : undefined;
    const isOurs = message !== undefined && repeatsQuestion(asked.query, asked.questionEnd, response!.body) !== 'no';
    if (response !== undefined && !isOurs) this.#parts.counters.add('dns_malformed');
    this.#rest(connection);
    asked.done(isOurs ? { bytes: response!.body, message } : undefined);
    this.#next();
  }

  /** Nobody has looked at the question, and this connection is not to be asked any more. */
  #askAgain(connection: Connection, asked: Asked): void {
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#retired.add(connection);
    }
    this.#rest(connection);
    if (++asked.refusals < REFUSALS_MAX && this.#connect()) {
      this.#waiting.push(asked);
      this.#next();
    } else asked.done(undefined);
  }

  /** Ends a connection that has answered everything: one that takes no more at once, another one after a while. */
  #rest(connection: Connection): void {
    if (connection.asked.size > 0) return;
    if (this.#retired.has(connection)) this.#end(connection);
    if (this.#connection !== connection || this.#waiting.length > 0) return;
    const { timers } = this.#parts;
    this.#stopIdle = timers.at(later(timers.now(), IDLE_TIME), () => this.#end(connection));
  }

  /** Ends a connection. The questions on it fail; those that wait get another one, unless it never opened: nor would that. */
  #drop(connection: Connection): void {
    const lost = this.#end(connection);
    if (this.#waiting.length > 0 && (!connection.isOpen || !this.#connect())) {
      lost.push(...this.#waiting.splice(0));
    }
    for (const { done } of lost) done(undefined);
  }

  /** Returns the questions on it. */
  #end(connection: Connection): Asked[] {
    this.#retired.delete(connection);
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#stopIdle();
    }
    const lost = [...connection.asked];
    connection.asked.clear();
    connection.stream?.close();
    return lost;
  }
}
