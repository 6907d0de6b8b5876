/**
 * The client's side of SOCKS version 5.
 *
 *   05 n method×n ─►  ◄─ 05 method      (02: 01 n user m password ─►  ◄─ 01 status)      05 command 00 address ─►  ◄─ 05 reply 00 address
 *
 * RFC 1928 §3–6, RFC 1929.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, type IoResult } from '../../os/io.js';
import { ATYP_NAME, ATYP_V4, ATYP_V6, readAddress, SocksReply } from '../../wire/socks.js';
import type { ProxyScript } from './proxy-connection.js';

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const USER_PASSWORD = 2;
const PASSWORD_VERSION = 1;
export const SOCKS_CONNECT = 1;
export const SOCKS_UDP_ASSOCIATE = 3;
/** Version, reply, reserved, address type, and the address's first byte (of a name: its length). */
const REPLY_HEAD = 5;

const RESULTS: Readonly<Record<number, number>> = {
  [SocksReply.succeeded]: 0,
  [SocksReply.notAllowed]: -EACCES,
  [SocksReply.networkUnreachable]: -ENETUNREACH,
  [SocksReply.hostUnreachable]: -EHOSTUNREACH,
  [SocksReply.refused]: -ECONNREFUSED,
  [SocksReply.ttlExpired]: -ETIMEDOUT,
};

/** User and password in UTF-8, 1–255 bytes each. */
export interface ProxyCredentials {
  readonly user: Uint8Array;
  readonly password: Uint8Array;
}

export class Socks5Script implements ProxyScript {
  readonly greeting: Uint8Array;
  wanted = 2;
  /** Where the proxy's own end is, once it has let us through; undefined when it says a name. */
  bound: SocketAddress | undefined;
  readonly #credentials: ProxyCredentials | undefined;
  readonly #request: Uint8Array;
  #step: 'method' | 'password' | 'reply' | 'address' = 'method';
  #head: Uint8Array = new Uint8Array(0);

  /** @param target type, address or name, and port. */
  constructor(command: number, target: Uint8Array, credentials: ProxyCredentials | undefined) {
    this.#credentials = credentials;
    this.#request = Uint8Array.of(VERSION, command, 0, ...target);
    this.greeting =
      credentials === undefined
        ? Uint8Array.of(VERSION, 1, NO_AUTHENTICATION)
        : Uint8Array.of(VERSION, 2, NO_AUTHENTICATION, USER_PASSWORD);
  }

  take(bytes: Uint8Array): Uint8Array | IoResult {
    switch (this.#step) {
      case 'method':
        return this.#method(bytes);
      case 'password':
        return bytes[1] === 0 ? this.#ask() : -EACCES;
      case 'reply':
        return this.#reply(bytes);
      case 'address':
        return this.#address(bytes);
    }
  }

  #method([version, method]: Uint8Array): Uint8Array | IoResult {
    if (version !== VERSION) return -EHOSTUNREACH;
    if (method === NO_AUTHENTICATION) return this.#ask();
    const credentials = this.#credentials;
    if (method !== USER_PASSWORD || credentials === undefined) return -EACCES;
    this.#step = 'password';
    const { user, password } = credentials;
    return Uint8Array.of(PASSWORD_VERSION, user.length, ...user, password.length, ...password);
  }

  #ask(): Uint8Array {
    this.#step = 'reply';
    this.wanted = REPLY_HEAD;
    return this.#request;
  }

  #reply(bytes: Uint8Array): Uint8Array | IoResult {
    const [version, reply, , type, first] = bytes;
    if (version !== VERSION) return -EHOSTUNREACH;
    if (reply !== SocksReply.succeeded) return RESULTS[reply!] ?? -EHOSTUNREACH;
    const length = type === ATYP_V4 ? 4 : type === ATYP_V6 ? 16 : type === ATYP_NAME ? 1 + first! : 0;
    if (length < 1) return -EHOSTUNREACH;
    this.#step = 'address';
    this.#head = bytes.slice(REPLY_HEAD - 2);
    // The rest of the address, whose first byte is here already, and the port.
    this.wanted = length - 1 + 2;
    return new Uint8Array(0);
  }

  #address(bytes: Uint8Array): IoResult {
    const whole = Uint8Array.of(...this.#head, ...bytes);
    const address = readAddress(whole, 0, whole.length);
    const ip = address === undefined ? undefined : IpAddress.parse(address.host);
    if (ip !== undefined) this.bound = new SocketAddress(ip, address!.port);
    return 0;
  }
}
