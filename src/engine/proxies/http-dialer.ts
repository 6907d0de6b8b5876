/**
 * A dialer through an HTTP proxy: CONNECT for TCP, nothing for datagrams.
 *
 *   CONNECT address:port │ name:port HTTP/1.1 · Host · [Proxy-Authorization: Basic …] ─►      ◄─ HTTP/1.x 2xx … empty line
 *
 * The answer's head is read byte by byte, because what follows it is the target's already. RFC 9110 §9.3.6, RFC 7617.
 */
import type { SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import {
  EACCES,
  ECONNREFUSED,
  type EchoSocket,
  EHOSTUNREACH,
  ETIMEDOUT,
  type IoResult,
  type Reactor,
  type Sockets,
  type TcpStream,
} from '../../os/io.js';
import type { Dialer } from '../dialer.js';
import { ProxyConnection, type ProxyScript } from './proxy-connection.js';

/** Longest head that is read. */
const MAX_HEAD = 16 * 1024;

export interface HttpDialerParts {
  readonly reactor: Reactor;
  readonly sockets: Sockets;
  readonly proxy: SocketAddress;
  /** `user:password` in Base64, as Proxy-Authorization has it. */
  readonly basic: string | undefined;
}

export class HttpDialer implements Dialer {
  readonly name = 'http';
  readonly takesNames = true;
  readonly #parts: HttpDialerParts;

  constructor(parts: HttpDialerParts) {
    this.#parts = parts;
  }

  tcp(
    target: SocketAddress,
    done: (result: IoResult, stream: TcpStream | undefined) => void,
    host?: string,
  ): () => void {
    const { reactor, sockets, proxy, basic } = this.#parts;
    const connection = new ProxyConnection(
      reactor,
      sockets,
      proxy,
      new ConnectScript(host === undefined ? `${target}` : `${host}:${target.port}`, basic),
      done,
    );
    return () => connection.cancel();
  }

  udp(): undefined {
    return undefined;
  }

  /** HTTP carries no ICMP: the engine answers. */
  echo(): EchoSocket {
    throw new SallyportError('caller', 'NO_ECHO', 'an HTTP proxy carries no ICMP');
  }
}

export class ConnectScript implements ProxyScript {
  readonly greeting: Uint8Array;
  readonly wanted = 1;
  #head = '';

  /** @param target `name:port`, `address:port` or `[address]:port` */
  constructor(target: string, basic: string | undefined) {
    const lines = [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`];
    if (basic !== undefined) lines.push(`Proxy-Authorization: Basic ${basic}`);
    this.greeting = Uint8Array.from(`${lines.join('\r\n')}\r\n\r\n`, (character) => character.charCodeAt(0));
  }

  take(bytes: Uint8Array): Uint8Array | IoResult {
    this.#head += String.fromCharCode(bytes[0]!);
    if (!this.#head.endsWith('\r\n\r\n')) return this.#head.length < MAX_HEAD ? new Uint8Array(0) : -EHOSTUNREACH;
    const status = /^HTTP\/1\.\d (\d{3})/.exec(this.#head)?.[1];
    if (status === undefined) return -EHOSTUNREACH;
    // Interim answers announce the real one.
    if (status.startsWith('1')) {
      this.#head = '';
      return new Uint8Array(0);
    }
    return status.startsWith('2') ? 0 : errorOf(status);
  }
}

function errorOf(status: string): IoResult {
  if (status === '403' || status === '407') return -EACCES;
  if (status === '502') return -ECONNREFUSED;
  return status === '504' ? -ETIMEDOUT : -EHOSTUNREACH;
}
