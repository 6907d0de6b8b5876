/**
 * The server's side of HTTP CONNECT: one request, one answer, then the stream is the service's.
 *
 *   CONNECT host:port HTTP/1.1 CRLF  (field: value CRLF)* CRLF    ──►
 *                                                                 ◄──   HTTP/1.1 200 … CRLF CRLF   or an error with a text body
 *
 * Only the request-target decides where the connection goes; Host and every other field are read over. RFC 9110 §9.3.6
 * (CONNECT), §15.5.6 (405 and Allow); RFC 9112 §2.2 (lines), §3.2.3 (authority-form), §5 (fields), §6 (no message body).
 */
import type { SocketAddress } from '../../base/address.js';
import { IpAddress } from '../../base/address.js';
import { encodeUtf8 } from '../../base/utf8.js';
import { type Failure, type Negotiation, NO_BYTES, type Target } from './negotiation.js';

/** Longest request line and fields together, bytes; common servers take 8 – 16 KiB. */
export const MAX_HEADER_BLOCK = 16 * 1024;
/** Room a request usually fits into. */
const FIRST_ROOM = 512;

const CR = 0x0d;
const LF = 0x0a;

const REASON = {
  200: 'Connection established',
  400: 'Bad Request',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  502: 'Bad Gateway',
  504: 'Gateway Timeout',
} as const;
type Status = keyof typeof REASON;

const STATUS_OF: Readonly<Record<Failure, Status>> = {
  'not-allowed': 403,
  'net-unreachable': 502,
  'host-unreachable': 502,
  refused: 502,
  timeout: 504,
  failed: 502,
};

/** RFC 9110 §5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const REQUEST_LINE = /^(\S+) (\S+) (HTTP\/1\.\d)$/;
/** A field line: a token, a colon at once, then printable text, tabs and obs-text. */
const FIELD_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*$/;
/** Names and IPv4 literals, or an IPv6 literal in brackets; a port is required (RFC 9110 §9.3.6). */
const AUTHORITY = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255})):(\d{1,5})$/;

export class HttpConnect implements Negotiation {
  state: 'reading' | 'asked' | 'failed' = 'reading';
  target: Target | undefined;
  #reply: Uint8Array = NO_BYTES;
  #block = new Uint8Array(FIRST_ROOM);
  #length = 0;
  /** Where the line being read begins in `#block`. */
  #lineStart = 0;

  feed(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length && this.state === 'reading') this.#byte(bytes[offset + taken++]!);
    return taken;
  }

  takeReply(): Uint8Array {
    const reply = this.#reply;
    this.#reply = NO_BYTES;
    return reply;
  }

  accept(_bound: SocketAddress): Uint8Array {
    return encodeUtf8(`HTTP/1.1 200 ${REASON[200]}\r\n\r\n`);
  }

  refuse(failure: Failure, detail: string): Uint8Array {
    return encodeAnswer(STATUS_OF[failure], detail);
  }

  #byte(byte: number): void {
    // The first byte already tells a client that speaks TLS or SOCKS here.
    if (this.#length === 0 && byte !== CR && byte !== LF && !TOKEN.test(String.fromCharCode(byte))) {
      this.#fail(400, 'this is an HTTP proxy');
      return;
    }
    if (this.#length === MAX_HEADER_BLOCK) {
      this.#fail(400, `the request header is longer than ${MAX_HEADER_BLOCK} bytes`);
      return;
    }
    if (this.#length === this.#block.length) this.#grow();
    this.#block[this.#length++] = byte;
    if (byte === LF) this.#line();
  }

  /** A line has ended: the empty one ends the block, unless it stands before the request line (RFC 9112 §2.2). */
  #line(): void {
    const empty = this.#length - this.#lineStart === 1 || (this.#length - this.#lineStart === 2 && this.#isCr(-2));
    if (!empty) this.#lineStart = this.#length;
    else if (this.#lineStart === 0) this.#length = 0;
    else this.#request();
  }

  #isCr(at: number): boolean {
    return this.#block[this.#length + at] === CR;
  }

  #grow(): void {
    const grown = new Uint8Array(Math.min(this.#block.length * 2, MAX_HEADER_BLOCK));
    grown.set(this.#block);
    this.#block = grown;
  }

  #request(): void {
    let text = '';
    for (let i = 0; i < this.#lineStart; i++) text += String.fromCharCode(this.#block[i]!);
    this.#block = NO_BYTES;
    const outcome = parseRequest(text);
    if ('status' in outcome) this.#fail(outcome.status, outcome.detail);
    else {
      this.target = outcome;
      this.state = 'asked';
    }
  }

  #fail(status: Status, detail: string): void {
    this.#reply = encodeAnswer(status, detail);
    this.#block = NO_BYTES;
    this.state = 'failed';
  }
}

interface Refused {
  readonly status: Status;
  readonly detail: string;
}

/** The request line and the fields, each with its line end. */
function parseRequest(text: string): Target | Refused {
  const [first, ...fields] = text.split(/\r?\n/).slice(0, -1);
  const line = REQUEST_LINE.exec(first!);
  if (line === null || !TOKEN.test(line[1]!)) return { status: 400, detail: 'the request line is not one of HTTP/1' };
  if (line[1] !== 'CONNECT') {
    return { status: 405, detail: 'this proxy takes CONNECT only, and only to services of its network' };
  }
  for (const field of fields) {
    const name = FIELD_LINE.exec(field)?.[1]?.toLowerCase();
    if (name === undefined) return { status: 400, detail: 'a header field is malformed' };
    // CONNECT has no content; a client that announces some and one that reads over it would not mean the same stream.
    if (name === 'transfer-encoding' || (name === 'content-length' && !/:[\t ]*0+[\t ]*$/.test(field))) {
      return { status: 400, detail: `CONNECT has no content, so no ${name}` };
    }
  }
  return parseAuthority(line[2]!) ?? { status: 400, detail: 'the target is not host:port' };
}

/** The authority-form of a CONNECT; undefined when it is not one. */
function parseAuthority(text: string): Target | undefined {
  const match = AUTHORITY.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  if (port === 0 || port > 65535) return undefined;
  if (match[1] !== undefined && IpAddress.parse(match[1]) === undefined) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

function encodeAnswer(status: Status, detail: string): Uint8Array {
  const body = encodeUtf8(`${detail}\n`);
  const head = encodeUtf8(
    `HTTP/1.1 ${status} ${REASON[status]}\r\n${status === 405 ? 'Allow: CONNECT\r\n' : ''}` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
  );
  const out = new Uint8Array(head.length + body.length);
  out.set(head);
  out.set(body, head.length);
  return out;
}
