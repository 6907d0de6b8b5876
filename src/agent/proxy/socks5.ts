/**
 * The server's side of SOCKS version 5: CONNECT and UDP ASSOCIATE, with or without a password.
 *
 *   client                                             server
 *   05 n method×n                            ──►
 *                                            ◄──       05 00            (05 FF: the method wanted here was not offered)
 *                                            ◄──       05 02            where users are configured, then:
 *   01 n name m password                     ──►
 *                                            ◄──       01 00            (01 01: wrong)
 *   05 command 00 atyp address port(2)       ──►                        command: 01 CONNECT · 03 UDP ASSOCIATE
 *                                            ◄──       05 reply 00 atyp address port(2)
 *
 *   atyp: 01 IPv4 (4 bytes) · 03 name (length byte, then as many) · 04 IPv6 (16 bytes)
 *
 * RFC 1928 §3–7, RFC 1929. A first byte other than 05 gets no answer: the client speaks something else.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { ATYP_NAME, ATYP_V4, ATYP_V6, encodeAddress, readAddress, SocksReply } from '../../wire/socks.js';
import type { ProxyAccess } from './access.js';
import { type Failure, type Negotiation, NO_BYTES, type Target } from './negotiation.js';

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const USER_PASSWORD = 2;
const NO_ACCEPTABLE_METHOD = 0xff;
/** Version of the exchange of user and password, and its answers (RFC 1929 §2). */
const PASSWORD_VERSION = 1;
const PASSWORD_RIGHT = 0;
const PASSWORD_WRONG = 1;
const CONNECT = 1;
const UDP_ASSOCIATE = 3;

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
/** User and password of 255 bytes each; a request with a 255-byte name and a greeting are shorter. */
const LONGEST_MESSAGE = 1 + 2 * (1 + 255);

const UNSPECIFIED = new SocketAddress(IpAddress.v4(0), 0);

export class Socks5 implements Negotiation {
  state: 'reading' | 'asked' | 'failed' = 'reading';
  target: Target | undefined;
  /** Set instead of `target` for UDP ASSOCIATE: the address and port the client says it will send from. */
  association: Target | undefined;
  readonly #access: Pick<ProxyAccess, 'asksPassword' | 'isUser'>;
  #step: 'greeting' | 'password' | 'request' = 'greeting';
  #reply: Uint8Array = NO_BYTES;
  readonly #message = new Uint8Array(LONGEST_MESSAGE);
  #length = 0;

  constructor(access: Pick<ProxyAccess, 'asksPassword' | 'isUser'>) {
    this.#access = access;
  }

  feed(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length && this.state === 'reading') {
      this.#message[this.#length++] = bytes[offset + taken++]!;
      if (this.#length < this.#wanted()) continue;
      if (this.#step === 'greeting') this.#greeting();
      else if (this.#step === 'password') this.#password();
      else this.#request();
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
    if (this.#step === 'password') return this.#passwordLength();
    if (m[0] !== VERSION) return 1;
    if (this.#step === 'greeting') return n < 2 ? 2 : 2 + m[1]!;
    if (n < REQUEST_HEAD || (m[1] !== CONNECT && m[1] !== UDP_ASSOCIATE)) return REQUEST_HEAD;
    if (m[3] === ATYP_V4) return REQUEST_HEAD + 4 + PORT_BYTES;
    if (m[3] === ATYP_V6) return REQUEST_HEAD + 16 + PORT_BYTES;
    if (m[3] !== ATYP_NAME) return REQUEST_HEAD;
    return REQUEST_HEAD + 1 + (n > REQUEST_HEAD ? m[REQUEST_HEAD]! + PORT_BYTES : 0);
  }

  #passwordLength(): number {
    const m = this.#message;
    const n = this.#length;
    if (m[0] !== PASSWORD_VERSION) return 1;
    if (n < 2) return 2;
    const second = 2 + m[1]!;
    return n <= second ? second + 1 : second + 1 + m[second]!;
  }

  #greeting(): void {
    const method = this.#access.asksPassword ? USER_PASSWORD : NO_AUTHENTICATION;
    if (this.#message[0] !== VERSION) this.#fail(NO_BYTES);
    else if (!this.#message.subarray(2, this.#length).includes(method)) {
      this.#fail(Uint8Array.of(VERSION, NO_ACCEPTABLE_METHOD));
    } else this.#next(method === USER_PASSWORD ? 'password' : 'request', Uint8Array.of(VERSION, method));
  }

  #password(): void {
    const m = this.#message;
    const second = 2 + m[1]!;
    const text = (from: number, end: number): string => Buffer.from(m.subarray(from, end)).toString('utf8');
    if (m[0] !== PASSWORD_VERSION) this.#fail(NO_BYTES);
    else if (!this.#access.isUser(text(2, second), text(second + 1, this.#length))) {
      this.#fail(Uint8Array.of(PASSWORD_VERSION, PASSWORD_WRONG));
    } else this.#next('request', Uint8Array.of(PASSWORD_VERSION, PASSWORD_RIGHT));
  }

  /** The client may have sent its next message already, so answers collect. */
  #next(step: 'password' | 'request', reply: Uint8Array): void {
    this.#step = step;
    this.#length = 0;
    this.#reply = Uint8Array.of(...this.#reply, ...reply);
  }

  #request(): void {
    const m = this.#message;
    if (m[0] !== VERSION) this.#fail(NO_BYTES);
    else if (m[1] !== CONNECT && m[1] !== UDP_ASSOCIATE) {
      this.#fail(encodeReply(SocksReply.commandNotSupported, UNSPECIFIED));
    } else if (m[3] !== ATYP_V4 && m[3] !== ATYP_V6 && m[3] !== ATYP_NAME) {
      this.#fail(encodeReply(SocksReply.addressTypeNotSupported, UNSPECIFIED));
    } else {
      const asked = readAddress(m, REQUEST_HEAD - 1, this.#length - REQUEST_HEAD + 1);
      if (asked === undefined) this.#fail(encodeReply(SocksReply.generalFailure, UNSPECIFIED));
      else {
        if (m[1] === CONNECT) this.target = asked;
        else this.association = asked;
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

function encodeReply(code: number, bound: SocketAddress): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, ...encodeAddress(bound));
}
