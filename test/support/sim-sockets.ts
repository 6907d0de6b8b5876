/**
 * The operating system of one simulated host: UDP sockets on the simulated network, and backends in memory for the sockets a
 * connector opens.
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../src/base/address.js';
import { SallyportError } from '../../src/base/error.js';
import { type Duration, later, Millis } from '../../src/base/time.js';
import type {
  EchoSocket,
  Sockets,
  TakeDatagram,
  TcpListener,
  TcpStream,
  TunDevice,
  UdpFlowSocket,
  UdpOptions,
  UdpPortSocket,
} from '../../src/os/io.js';
import { EAGAIN, ECONNREFUSED, EHOSTUNREACH, READABLE } from '../../src/os/io.js';
import { type Path, type SimNetwork, SimUdpSocket } from './sim-network.js';
import type { Descriptor, SimReactor } from './sim-reactor.js';
import { SimStream } from './sim-stream.js';
import { SimTun } from './sim-tun.js';

/** What answers at one TCP address. */
export interface TcpBackend {
  /** 0 or a negated errno; undefined: no answer ever. */
  result: number | undefined;
  delay: Duration;
  onConnect?: (stream: SimStream) => void;
  readonly streams: SimStream[];
}

export interface UdpBackend {
  onDatagram?: (flow: SimUdpFlow, bytes: Uint8Array) => void;
  readonly flows: SimUdpFlow[];
}

export class SimSockets implements Sockets {
  readonly udpSockets: SimUdpSocket[] = [];
  readonly tcpBackends = new Map<string, TcpBackend>();
  readonly udpBackends = new Map<string, UdpBackend>();
  readonly streams: SimStream[] = [];
  readonly flows: SimUdpFlow[] = [];
  readonly ports: SimUdpPort[] = [];
  readonly echoes: SimEcho[] = [];
  /** False: ICMP sockets are refused. */
  permitsEcho = true;
  readonly #network: SimNetwork;
  readonly #reactor: SimReactor;
  readonly #v4: IpAddress;
  readonly #v6: IpAddress | undefined;
  readonly #path: Path;
  #nextPort = 40_000;

  constructor(network: SimNetwork, reactor: SimReactor, v4: IpAddress, v6: IpAddress | undefined, path: Path) {
    this.#network = network;
    this.#reactor = reactor;
    this.#v4 = v4;
    this.#v6 = v6;
    this.#path = path;
  }

  udp(local: SocketAddress, options?: UdpOptions): SimUdpSocket {
    const ip = local.ip.isV4 ? this.#v4 : this.#v6;
    if (ip === undefined) throw new SallyportError('environment', 'UDP_SOCKET', 'this host has no IPv6');
    let address = new SocketAddress(ip, local.port === 0 ? this.#nextPort++ : local.port);
    // Another program of the same host may have it.
    while (local.port === 0 && this.#network.isTaken(address)) address = new SocketAddress(ip, this.#nextPort++);
    if (this.#network.isTaken(address)) throw new SallyportError('environment', 'ADDRESS_IN_USE', `${address}`);
    const socket = new SimUdpSocket(this.#network, this.#reactor, address, address, this.#path, options);
    this.udpSockets.push(socket);
    return socket;
  }

  /** What is at a TCP address; made on first use, accepting. */
  tcpBackend(address: string): TcpBackend {
    let backend = this.tcpBackends.get(address);
    if (backend === undefined) {
      backend = { result: 0, delay: Millis(1), streams: [] };
      this.tcpBackends.set(address, backend);
    }
    return backend;
  }

  udpBackend(address: string): UdpBackend {
    let backend = this.udpBackends.get(address);
    if (backend === undefined) {
      backend = { flows: [] };
      this.udpBackends.set(address, backend);
    }
    return backend;
  }

  connect(to: SocketAddress): TcpStream {
    const backend = this.tcpBackends.get(to.toString());
    const stream = new SimStream(this.#reactor, to);
    this.streams.push(stream);
    const now = this.#reactor.now();
    if (backend === undefined) this.#reactor.at(later(now, Millis(1)), () => stream.settle(-ECONNREFUSED));
    else if (backend.result !== undefined) {
      this.#reactor.at(later(now, backend.delay), () => {
        if (stream.closed !== undefined) return;
        stream.settle(backend.result!);
        if (backend.result !== 0) return;
        backend.streams.push(stream);
        backend.onConnect?.(stream);
      });
    }
    return stream;
  }

  udpFlow(to: SocketAddress): UdpFlowSocket {
    const flow = new SimUdpFlow(this.#reactor, to, this.udpBackends.get(to.toString()));
    this.flows.push(flow);
    return flow;
  }

  /** Datagrams leave at once here. */
  flushDatagrams(): void {}

  udpPort(family: 4 | 6): UdpPortSocket {
    const port = new SimUdpPort(this.#reactor, family);
    this.ports.push(port);
    return port;
  }

  echo(family: 4 | 6): EchoSocket {
    if (!this.permitsEcho) throw new SallyportError('environment', 'ICMP_NOT_PERMITTED', 'no ICMP sockets here');
    const echo = new SimEcho(this.#reactor, family);
    this.echoes.push(echo);
    return echo;
  }

  tun(): TunDevice {
    return new SimTun(this.#reactor);
  }

  listen(): TcpListener {
    throw new SallyportError('environment', 'LISTEN', 'this host listens to nobody');
  }
}

/** A connected UDP socket; the test is its backend. */
export class SimUdpFlow implements UdpFlowSocket, Descriptor {
  readonly fd: number;
  readonly to: SocketAddress;
  readonly sent: Uint8Array[] = [];
  isClosed = false;
  readonly #backend: UdpBackend | undefined;
  readonly #incoming: Uint8Array[] = [];
  #error = 0;

  constructor(reactor: SimReactor, to: SocketAddress, backend: UdpBackend | undefined) {
    this.fd = reactor.register(this);
    this.to = to;
    this.#backend = backend;
    backend?.flows.push(this);
  }

  reply(bytes: Uint8Array): void {
    this.#incoming.push(bytes.slice());
  }

  readiness(): number {
    return this.#incoming.length > 0 || this.#error !== 0 ? READABLE : 0;
  }

  receive(take: TakeDatagram): number {
    if (this.#error !== 0) {
      const error = this.#error;
      this.#error = 0;
      return error;
    }
    let count = 0;
    for (; this.#incoming.length > 0 && !this.isClosed; count++) {
      const bytes = this.#incoming.shift()!;
      take(bytes, 0, bytes.length);
    }
    return count;
  }

  write(source: Uint8Array, offset: number, length: number): number {
    if (this.isClosed) throw new Error('write on a closed flow');
    if (this.#error !== 0) {
      const error = this.#error;
      this.#error = 0;
      return error;
    }
    const bytes = source.slice(offset, offset + length);
    this.sent.push(bytes);
    if (this.#backend === undefined) this.#error = -ECONNREFUSED;
    else this.#backend.onDatagram?.(this, bytes);
    return length;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** An unconnected UDP socket; the test is everybody it sends to. */
export class SimUdpPort implements UdpPortSocket, Descriptor {
  readonly fd: number;
  readonly family: 4 | 6;
  readonly source = new Uint32Array(ADDRESS_WORDS);
  readonly sent: { readonly to: string; readonly bytes: Uint8Array }[] = [];
  isClosed = false;
  /** What the next sends return instead of a length. */
  result: number | undefined;
  readonly #incoming: { readonly from: SocketAddress; readonly bytes: Uint8Array }[] = [];

  constructor(reactor: SimReactor, family: 4 | 6) {
    this.fd = reactor.register(this);
    this.family = family;
  }

  reply(from: string, text: string): void {
    this.#incoming.push({ from: SocketAddress.parse(from)!, bytes: new TextEncoder().encode(text) });
  }

  readiness(): number {
    return this.#incoming.length > 0 ? READABLE : 0;
  }

  sendTo(addresses: Uint32Array, index: number, bytes: Uint8Array, offset: number, length: number): number {
    if (this.result !== undefined) return this.result;
    this.sent.push({
      to: SocketAddress.read(addresses, index).toString(),
      bytes: bytes.slice(offset, offset + length),
    });
    return length;
  }

  receive(take: TakeDatagram): number {
    let count = 0;
    for (; this.#incoming.length > 0 && !this.isClosed; count++) {
      const { from, bytes } = this.#incoming.shift()!;
      from.write(this.source, 0);
      take(bytes, 0, bytes.length);
    }
    return count;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** An ICMP socket whose every destination answers. */
export class SimEcho implements EchoSocket, Descriptor {
  readonly fd: number;
  readonly family: 4 | 6;
  lastSequence = 0;
  lastSource = new SocketAddress(IpAddress.v4(0), 0);
  isClosed = false;
  /** Nobody answers any more. */
  loses = false;
  /** Calls of `read`. */
  reads = 0;
  readonly #answers: { readonly from: SocketAddress; readonly sequence: number; readonly data: Uint8Array }[] = [];

  constructor(reactor: SimReactor, family: 4 | 6) {
    this.fd = reactor.register(this);
    this.family = family;
  }

  readiness(): number {
    return this.#answers.length > 0 ? READABLE : 0;
  }

  /** An answer that nobody asked for. */
  answer(from: SocketAddress, sequence: number, data: Uint8Array): void {
    this.#answers.push({ from, sequence, data });
  }

  send(to: SocketAddress, sequence: number, data: Uint8Array, offset: number, length: number): number {
    if (to.ip.family !== this.family) return -EHOSTUNREACH;
    if (!this.loses) this.answer(to, sequence, data.slice(offset, offset + length));
    return length;
  }

  read(target: Uint8Array, offset: number, length: number): number {
    this.reads++;
    const next = this.#answers.shift();
    if (next === undefined) return -EAGAIN;
    this.lastSequence = next.sequence;
    this.lastSource = next.from;
    target.set(next.data.subarray(0, length), offset);
    return next.data.length;
  }

  close(): void {
    this.isClosed = true;
  }
}
