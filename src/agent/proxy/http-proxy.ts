/**
 * The server's side of an HTTP proxy: one request at a time.
 *
 *   CONNECT host:port HTTP/1.1 …             ──►   then the stream is the service's
 *                                            ◄──   HTTP/1.1 200 …            or an error with a text body
 *   GET http://host[:port]/path HTTP/1.1 …   ──►   goes on as GET /path with its hop-by-hop fields taken out (http-exchange.ts)
 *
 * Only the request-target decides where a request goes; the Host of a request for a service is made from it. RFC 9110 §7.6, §9.3.6
 * (CONNECT), §11.7.1 (407); RFC 9112 §3.2.2 (absolute-form), §3.2.3 (authority-form).
 */
import type { SocketAddress } from '../../base/address.js';
import { IpAddress } from '../../base/address.js';
import { encodeUtf8 } from '../../base/utf8.js';
import type { ProxyAccess } from './access.js';
import {
  announcedFraming,
  encodeHead,
  endToEnd,
  type Framing,
  framingLines,
  type HeadField,
  HeadReader,
  listOf,
  MAX_HEAD,
  parseFields,
  TOKEN,
  valuesOf,
} from './http-head.js';
import { type Failure, type Negotiation, NO_BYTES, type PlainRequest, type Target } from './negotiation.js';

const CR = 0x0d;
const LF = 0x0a;
const HTTP_PORT = 80;

const REASON = {
  200: 'Connection established',
  400: 'Bad Request',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  407: 'Proxy Authentication Required',
  502: 'Bad Gateway',
  504: 'Gateway Timeout',
} as const;
type Status = keyof typeof REASON;

/** Fields that an answer of this status has to have. */
const EXTRA: Readonly<Partial<Record<Status, string>>> = {
  405: 'Allow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n',
  407: 'Proxy-Authenticate: Basic realm="sallyport", charset="UTF-8"\r\n',
};

const STATUS_OF: Readonly<Record<Failure, Status>> = {
  'not-allowed': 403,
  'net-unreachable': 502,
  'host-unreachable': 502,
  refused: 502,
  timeout: 504,
  failed: 502,
};

const REQUEST_LINE = /^([^ ]+) ([\x21-\x7e]+) HTTP\/1\.(\d)$/;
/** Names and IPv4 literals, or an IPv6 literal in brackets. */
const AUTHORITY = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::(\d{1,5}))?$/;
const ABSOLUTE = /^http:\/\/([^/?#]*)([/?][^#]*)?$/i;
/** Whether another program's answer may be told from this: TRACE tells the client what it was sent, and we cut fields out. */
const REFUSED_METHOD = 'TRACE';

export class HttpProxy implements Negotiation {
  state: 'reading' | 'asked' | 'failed' = 'reading';
  target: Target | undefined;
  plain: PlainRequest | undefined;
  readonly #access: Pick<ProxyAccess, 'asksPassword' | 'isUser'>;
  readonly #head = new HeadReader();
  #reply: Uint8Array = NO_BYTES;

  constructor(access: Pick<ProxyAccess, 'asksPassword' | 'isUser'>) {
    this.#access = access;
  }

  feed(bytes: Uint8Array, offset: number, length: number): number {
    if (length > 0 && this.#head.isEmpty && !isBeginning(bytes[offset]!)) {
      this.#fail({ status: 400, detail: 'this is an HTTP proxy' });
      return 1;
    }
    const taken = this.#head.feed(bytes, offset, length);
    switch (this.#head.state) {
      case 'complete':
        this.#request();
        break;
      case 'malformed':
        this.#fail({ status: 400, detail: 'a line of the request header does not end with CR LF' });
        break;
      case 'too-long':
        this.#fail({ status: 400, detail: `the request header is longer than ${MAX_HEAD} bytes` });
        break;
      case 'reading':
        break;
    }
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

  #request(): void {
    const outcome = this.#judge(this.#head.takeLines());
    if ('status' in outcome) this.#fail(outcome);
    else {
      this.target = outcome.target;
      this.plain = outcome.plain;
      this.state = 'asked';
    }
  }

  #judge([first, ...lines]: readonly string[]): Asked | Refused {
    const line = REQUEST_LINE.exec(first!);
    const fields = parseFields(lines);
    if (line === null || !TOKEN.test(line[1]!)) return bad('the request line is not one of HTTP/1');
    if (fields === undefined) return bad('a header field is malformed');
    if (!this.#isAuthorized(fields)) return { status: 407, detail: 'this proxy asks for a user and a password' };
    const [, method, target, minor] = line;
    if (method === 'CONNECT') return judgeConnect(target!, fields);
    return judgePlain(method!, target!, minor === '0', fields);
  }

  #isAuthorized(fields: readonly HeadField[]): boolean {
    if (!this.#access.asksPassword) return true;
    const [value, ...more] = valuesOf(fields, 'proxy-authorization');
    const match = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(value ?? '');
    if (match === null || more.length > 0) return false;
    const text = Buffer.from(match[1]!, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    return colon >= 0 && this.#access.isUser(text.slice(0, colon), text.slice(colon + 1));
  }

  #fail({ status, detail }: Refused): void {
    this.#reply = encodeAnswer(status, detail);
    this.state = 'failed';
  }
}

interface Asked {
  readonly target: Target;
  readonly plain?: PlainRequest;
}

interface Refused {
  readonly status: Status;
  readonly detail: string;
}

function bad(detail: string): Refused {
  return { status: 400, detail };
}

/** The first byte already tells a client that speaks TLS or SOCKS here. */
function isBeginning(byte: number): boolean {
  return byte === CR || byte === LF || TOKEN.test(String.fromCharCode(byte));
}

function judgeConnect(text: string, fields: readonly HeadField[]): Asked | Refused {
  for (const { name, value } of fields) {
    // CONNECT has no content; a client that announces some and one that reads over it would not mean the same stream.
    if (name === 'transfer-encoding' || (name === 'content-length' && !/^0+$/.test(value))) {
      return bad(`CONNECT has no content, so no ${name}`);
    }
  }
  const target = parseAuthority(text);
  return target?.port === undefined ? bad('the target is not host:port') : { target };
}

function judgePlain(method: string, text: string, isHttp10: boolean, fields: readonly HeadField[]): Asked | Refused {
  const match = ABSOLUTE.exec(text);
  if (match === null) {
    return bad('this is a proxy: it takes http://host/path, and CONNECT host:port for everything else');
  }
  const target = parseAuthority(match[1]!, HTTP_PORT);
  if (target === undefined) return bad('the target is not http://host[:port]/path');
  if (method === REFUSED_METHOD) return { status: 405, detail: `${method} is not passed on` };
  const hosts = valuesOf(fields, 'host').length;
  if (hosts > 1 || (hosts === 0 && !isHttp10)) return bad('HTTP/1.1 wants exactly one Host');
  const framing = announcedFraming(fields, isHttp10) ?? { kind: 'none' };
  if (typeof framing === 'string') return bad(`the request has ${framing}`);
  const head = plainHead(method, match[1]!, match[2] ?? '', framing, fields);
  const asksClose = [...listOf(fields, 'connection'), ...listOf(fields, 'proxy-connection')].includes('close');
  return { target, plain: { method, head, framing, isHttp10, keepAlive: !isHttp10 && !asksClose } };
}

/** The request as the service gets it: origin-form, the Host of its target, one connection for one request. */
function plainHead(
  method: string,
  authority: string,
  path: string,
  framing: Framing,
  fields: readonly HeadField[],
): Uint8Array {
  const form = path === '' && method === 'OPTIONS' ? '*' : path.startsWith('/') ? path : `/${path}`;
  return encodeHead([
    `${method} ${form} HTTP/1.1`,
    `Host: ${authority}`,
    ...endToEnd(fields.filter(({ name }) => name !== 'host')),
    ...framingLines(framing),
    'Via: 1.1 sallyport',
    'Connection: close',
  ]);
}

/** A host and its port; undefined when it is not one. */
function parseAuthority(text: string, defaultPort?: number): Target | undefined {
  const match = AUTHORITY.exec(text);
  if (match === null) return undefined;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  if (port === 0 || (port !== undefined && port > 65535)) return undefined;
  if (match[1] !== undefined && IpAddress.parse(match[1]) === undefined) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

function encodeAnswer(status: Status, detail: string): Uint8Array {
  const body = encodeUtf8(`${detail}\n`);
  const head = encodeUtf8(
    `HTTP/1.1 ${status} ${REASON[status]}\r\n${EXTRA[status] ?? ''}` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
  );
  const out = new Uint8Array(head.length + body.length);
  out.set(head);
  out.set(body, head.length);
  return out;
}
