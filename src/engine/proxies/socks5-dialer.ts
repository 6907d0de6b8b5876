/**
 * A dialer through a SOCKS 5 proxy: CONNECT for TCP, one UDP ASSOCIATE per client port.
 *
 *   outlet: datagrams wait (bounded) ─► association stands ─► header · data ─► relay        the control connection's end is its end
 *
 * Names go to a proxy that is to look them up itself (`socks5h`) as such; datagrams always by address. RFC 1928, RFC 1929.
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress, sameWords } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import {
  EAGAIN,
  type EchoSocket,
  EMSGSIZE,
  type IoResult,
  READABLE,
  type Reactor,
  type Sockets,
  type TakeDatagram,
  type TcpStream,
  type UdpPortSocket,
  type Watch,
} from '../../os/io.js';
import { readU16, readU32 } from '../../wire/bytes.js';
import { ATYP_V4, ATYP_V6, addressLength, encodeAddress, encodeName, UDP_HEAD } from '../../wire/socks.js';
import type { Dialer, UdpOutlet } from '../dialer.js';
import { ProxyConnection } from './proxy-connection.js';
import { type ProxyCredentials, SOCKS_CONNECT, SOCKS_UDP_ASSOCIATE, Socks5Script } from './socks5-script.js';

/** Datagrams that wait for an association: count and bytes; the first goes when another one comes on top. */
const WAITING = 64;
const WAITING_BYTES = 128 * 1024;
/** Header with an IPv6 address. */
const LONGEST_HEADER = UDP_HEAD + 1 + 16 + 2;
const MAX_DATAGRAM = 65_507;

const scratch = new Uint8Array(MAX_DATAGRAM + LONGEST_HEADER);
const control = new Uint8Array(256);

export interface Socks5DialerParts {
  readonly reactor: Reactor;
  readonly sockets: Sockets;
  readonly proxy: SocketAddress;
  readonly credentials: ProxyCredentials | undefined;
  /** Whether the proxy looks names up. */
  readonly takesNames: boolean;
}

export class Socks5Dialer implements Dialer {
  readonly name = 'socks5';
  readonly takesNames: boolean;
  readonly #parts: Socks5DialerParts;

  constructor(parts: Socks5DialerParts) {
    this.#parts = parts;
    this.takesNames = parts.takesNames;
  }

  tcp(
    target: SocketAddress,
    done: (result: IoResult, stream: TcpStream | undefined) => void,
    host?: string,
  ): () => void {
    const { reactor, sockets, proxy, credentials } = this.#parts;
    const script = new Socks5Script(
      SOCKS_CONNECT,
      host === undefined ? encodeAddress(target) : encodeName(host, target.port),
      credentials,
    );
    const connection = new ProxyConnection(reactor, sockets, proxy, script, done);
    return () => connection.cancel();
  }

  udp(): UdpOutlet {
    return new Socks5Outlet(this.#parts);
  }

  /** SOCKS carries no ICMP: the engine answers. */
  echo(): EchoSocket {
    throw new SallyportError('caller', 'NO_ECHO', 'a SOCKS proxy carries no ICMP');
  }
}

class Socks5Outlet implements UdpOutlet {
  readonly fd: number;
  readonly source = new Uint32Array(ADDRESS_WORDS);
  onOver: ((result: IoResult, stood: boolean) => void) | undefined;
  readonly #socket: UdpPortSocket;
  readonly #control: ProxyConnection;
  /** Packed address of the relay, at index 1 (where `sendTo` of a flow's addresses has its destination). */
  readonly #relay = new Uint32Array(2 * ADDRESS_WORDS);
  #stream: TcpStream | undefined;
  #watch: Watch | undefined;
  #take: TakeDatagram = () => {};
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;

  constructor({ reactor, sockets, proxy, credentials }: Socks5DialerParts) {
    const { family } = proxy.ip;
    this.#socket = sockets.udpPort(family);
    this.fd = this.#socket.fd;
    // The port is not known to us as the proxy sees it: any (RFC 1928 §7).
    const unspecified = new SocketAddress(family === 4 ? IpAddress.v4(0) : new IpAddress(0, 0, 0, 0), 0);
    const script = new Socks5Script(SOCKS_UDP_ASSOCIATE, encodeAddress(unspecified), credentials);
    try {
      this.#control = new ProxyConnection(reactor, sockets, proxy, script, (result, stream) => {
        if (stream === undefined) {
          this.#waiting = [];
          this.onOver?.(result, false);
          return;
        }
        this.#stream = stream;
        this.#watch = reactor.watch(stream.fd, READABLE, () => this.#onControl());
        this.#associated(script.bound, proxy);
      });
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  get isDialling(): boolean {
    return this.#stream === undefined;
  }

  write(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult {
    const header = putHeader(addresses);
    if (length > MAX_DATAGRAM - header) return -EMSGSIZE;
    scratch.set(bytes.subarray(offset, offset + length), header);
    if (this.#stream === undefined) return this.#wait(header + length);
    const sent = this.#socket.sendTo(this.#relay, 1, scratch, 0, header + length);
    return sent < 0 ? sent : length;
  }

  receive(take: TakeDatagram): IoResult {
    this.#take = take;
    return this.#socket.receive(this.#unwrap);
  }

  readonly #unwrap: TakeDatagram = (bytes, offset, length) => {
    // Only the relay speaks for others, and fragments are not put together (RFC 1928 §7 allows to drop them).
    if (this.#stream === undefined || !sameWords(this.#socket.source, 0, this.#relay, 1)) return;
    const isWhole = length > UDP_HEAD && bytes[offset + 2] === 0;
    const address = isWhole ? addressLength(bytes, offset + UDP_HEAD, length - UDP_HEAD) : -1;
    if (address < 0 || !takeAddress(bytes, offset, this.source)) return;
    const header = UDP_HEAD + address;
    this.#take(bytes, offset + header, length - header);
  };

  close(): void {
    this.#watch?.close();
    if (this.#stream === undefined) this.#control.cancel();
    else this.#stream.close();
    this.#socket.close();
    this.#waiting = [];
  }

  #associated(bound: SocketAddress | undefined, proxy: SocketAddress): void {
    // A proxy that says "any address" means the one it was reached by.
    const isAny = bound === undefined || bound.ip.family !== proxy.ip.family || isUnspecified(bound.ip);
    const relay = bound === undefined ? proxy : isAny ? new SocketAddress(proxy.ip, bound.port) : bound;
    relay.write(this.#relay, 1);
    for (const datagram of this.#waiting) this.#socket.sendTo(this.#relay, 1, datagram, 0, datagram.length);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #wait(length: number): IoResult {
    let isFull = false;
    while (
      this.#waiting.length >= WAITING ||
      (this.#waiting.length > 0 && this.#waitingBytes + length > WAITING_BYTES)
    ) {
      this.#waitingBytes -= this.#waiting.shift()!.length;
      isFull = true;
    }
    this.#waiting.push(scratch.slice(0, length));
    this.#waitingBytes += length;
    return isFull ? -EAGAIN : length;
  }

  /** Nothing is said on the control connection any more: whatever comes is its end, or to be ignored. */
  #onControl(): void {
    const n = this.#stream!.read(control, 0, control.length);
    if (n > 0 || n === -EAGAIN) return;
    this.#watch?.close();
    this.onOver?.(0, true);
  }
}

function isUnspecified({ isV4, w0, w1, w2, w3 }: IpAddress): boolean {
  return w3 === 0 && (isV4 || (w0 === 0 && w1 === 0 && w2 === 0));
}

/** Writes the header for the destination at index 1 to `scratch`; returns its length. */
function putHeader(addresses: Uint32Array): number {
  const at = ADDRESS_WORDS;
  const isV4 = addresses[at] === 0 && addresses[at + 1] === 0 && addresses[at + 2] === 0xffff;
  scratch[0] = 0;
  scratch[1] = 0;
  scratch[2] = 0;
  scratch[3] = isV4 ? ATYP_V4 : ATYP_V6;
  let to = UDP_HEAD + 1;
  for (let word = isV4 ? 3 : 0; word < 4; word++) {
    const value = addresses[at + word]!;
    scratch[to++] = value >>> 24;
    scratch[to++] = value >>> 16;
    scratch[to++] = value >>> 8;
    scratch[to++] = value;
  }
  const port = addresses[at + 4]!;
  scratch[to++] = port >>> 8;
  scratch[to++] = port;
  return to;
}

/** Reads the address of the header at `offset`; false for a name. */
function takeAddress(bytes: Uint8Array, offset: number, words: Uint32Array): boolean {
  const type = bytes[offset + UDP_HEAD];
  if (type !== ATYP_V4 && type !== ATYP_V6) return false;
  let at = offset + UDP_HEAD + 1;
  for (let i = 0; i < 4; i++) {
    const isMapped = type === ATYP_V4 && i < 3;
    words[i] = !isMapped ? readU32(bytes, at) : i === 2 ? 0xffff : 0;
    if (!isMapped) at += 4;
  }
  words[4] = readU16(bytes, at);
  return true;
}
