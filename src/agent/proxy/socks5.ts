/**
 * The server's side of SOCKS version 5: no authentication, CONNECT only.
 *
 *   client                                             server
 *   05 n method×n                            ──►
 *                                            ◄──       05 00            (05 FF: "no authentication" was not offered)
 *   05 01 00 atyp address port(2)            ──►
 *                                            ◄──       05 reply 00 atyp address port(2)
 *
 *   atyp: 01 IPv4 (4 bytes) · 03 name (length byte, then as many) · 04 IPv6 (16 bytes)
 *
 * RFC 1928 §3–6. A first byte other than 05 gets no answer: the client speaks something else.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { type Failure, type Negotiation, NO_BYTES, type Target } from './negotiation.js';

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NO_ACCEPTABLE_METHOD = 0xff;
const CONNECT = 1;

const ATYP_V4 = 1;
const ATYP_NAME = 3;
const ATYP_V6 = 4;

/** RFC 1928 §6. */
export const SocksReply = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;

/** There is no code for a dial that timed out; clients show "TTL expired" as such. */
const REPLY_OF: Readonly<Record<Failure, number>> = {
  'not-allowed': SocksReply.notAllowed,
  'net-unreachable': SocksReply.networkUnreachable,
  'host-unreachable': SocksReply.hostUnreachable,
  refused: SocksReply.refused,
  timeout: SocksReply.ttlExpired,
  failed: SocksReply.generalFailure,
};

/** Version, command, reserved, address type. */
const REQUEST_HEAD = 4;
const PORT_BYTES = 2;
/** The longest message is a request with a 255-byte name; a greeting has at most 257 bytes. */
const LONGEST_MESSAGE = REQUEST_HEAD + 1 + 255 + PORT_BYTES;

const UNSPECIFIED = new SocketAddress(IpAddress.v4(0), 0);

export class Socks5 implements Negotiation {
  state: 'reading' | 'asked' | 'failed' = 'reading';
  target: Target | undefined;
  #greeted = false;
  #reply: Uint8Array = NO_BYTES;
  readonly #message = new Uint8Array(LONGEST_MESSAGE);
  #length = 0;

  feed(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length && this.state === 'reading') {
      this.#message[this.#length++] = bytes[offset + taken++]!;
      if (this.#length < this.#wanted()) continue;
      if (this.#greeted) this.#request();
      else this.#greeting();
    }
    return taken;
  }

  takeReply(): Uint8Array {
    const reply = this.#reply;
    this.#reply = NO_BYTES;
    return reply;
  }

  accept(bound: SocketAddress): Uint8Array {
    return encodeReply(SocksReply.succeeded, bound);
  }

  refuse(failure: Failure): Uint8Array {
    return encodeReply(REPLY_OF[failure], UNSPECIFIED);
  }

  /** Length of the message as far as its bytes tell. A message that is already wrong is complete. */
  #wanted(): number {
    const m = this.#message;
    const n = this.#length;
    if (m[0] !== VERSION) return 1;
    if (!this.#greeted) return n < 2 ? 2 : 2 + m[1]!;
    if (n < REQUEST_HEAD || m[1] !== CONNECT) return REQUEST_HEAD;
    if (m[3] === ATYP_V4) return REQUEST_HEAD + 4 + PORT_BYTES;
    if (m[3] === ATYP_V6) return REQUEST_HEAD + 16 + PORT_BYTES;
    if (m[3] !== ATYP_NAME) return REQUEST_HEAD;
    return REQUEST_HEAD + 1 + (n > REQUEST_HEAD ? m[REQUEST_HEAD]! + PORT_BYTES : 0);
  }

  #greeting(): void {
    if (this.#message[0] !== VERSION) this.#fail(NO_BYTES);
    else if (!this.#message.subarray(2, this.#length).includes(NO_AUTHENTICATION)) {
      this.#fail(Uint8Array.of(VERSION, NO_ACCEPTABLE_METHOD));
    } else {
      this.#greeted = true;
      this.#length = 0;
      this.#reply = Uint8Array.of(VERSION, NO_AUTHENTICATION);
    }
  }

  #request(): void {
    const m = this.#message;
    if (m[0] !== VERSION) this.#fail(NO_BYTES);
    else if (m[1] !== CONNECT) this.#fail(encodeReply(SocksReply.commandNotSupported, UNSPECIFIED));
    else if (m[3] !== ATYP_V4 && m[3] !== ATYP_V6 && m[3] !== ATYP_NAME) {
      this.#fail(encodeReply(SocksReply.addressTypeNotSupported, UNSPECIFIED));
    } else {
      const end = this.#length - PORT_BYTES;
      const host = m[3] === ATYP_NAME ? printable(m, REQUEST_HEAD + 1, end) : literal(m, m[3] === ATYP_V4 ? 4 : 16);
      if (host === undefined) this.#fail(encodeReply(SocksReply.generalFailure, UNSPECIFIED));
      else {
        this.target = { host, port: (m[end]! << 8) | m[end + 1]! };
        this.state = 'asked';
      }
    }
  }

  /** The answer to a greeting that came in the same bytes still goes first. */
  #fail(reply: Uint8Array): void {
    this.#reply = Uint8Array.of(...this.#reply, ...reply);
    this.state = 'failed';
  }
}

function literal(message: Uint8Array, length: 4 | 16): string {
  return IpAddress.fromBytes(message, REQUEST_HEAD, length).toString();
}

/** A name in printable ASCII; undefined when it is empty or has other bytes. */
function printable(bytes: Uint8Array, from: number, end: number): string | undefined {
  if (from >= end) return undefined;
  let text = '';
  for (let i = from; i < end; i++) {
    const byte = bytes[i]!;
    if (byte <= 0x20 || byte >= 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}

function encodeReply(code: number, bound: SocketAddress): Uint8Array {
  const { ip, port } = bound;
  return Uint8Array.of(VERSION, code, 0, ip.isV4 ? ATYP_V4 : ATYP_V6, ...ip.toBytes(), port >>> 8, port & 0xff);
}
