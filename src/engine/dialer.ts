/**
 * How flows leave: the one interface between the flow manager and whoever opens sockets.
 *
 *   tcp(target) ─► done(0, stream) │ done(−errno)          never within the call; the returned function gives the attempt up
 *   udp(client) ─► outlet          one per flow: to one peer (connected), or to any
 *   echo(family) ─► socket         throws where there is none; the echo is then answered here
 *
 * Failures of a dial are told apart by errno: ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EACCES (blocked); every
 * other one counts as unreachable.
 */
import { ADDRESS_WORDS, type SocketAddress } from '../base/address.js';
import { type Duration, later } from '../base/time.js';
import type {
  EchoSocket,
  IoResult,
  Reactor,
  Sockets,
  TakeDatagram,
  TcpStream,
  UdpFlowSocket,
  UdpPortSocket,
} from '../os/io.js';
import { EHOSTUNREACH, WRITABLE } from '../os/io.js';

/** A datagram socket of one flow. */
export interface UdpOutlet {
  readonly fd: number;
  /** Sends to the packed address at index 1 of `addresses`. One length, −EAGAIN, or −errno. */
  write(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult;
  /** As `UdpFlowSocket.receive`; within `take`, `source` says where the datagram is from. `take` may close the outlet. */
  receive(take: TakeDatagram): IoResult;
  /** Packed; the address the client is to see. */
  readonly source: Uint32Array;
  /** True: the next datagram will find no room, where that is known before. */
  readonly sendPaused?: boolean;
  /** True: it is still being dialled; whoever uses it sets the time for that. */
  readonly isDialling?: boolean;
  /**
   * Set by whoever uses the outlet; called at most once, never within `write`, when no datagram will pass any more. `result`: 0, or
   * why (a negated errno); `stood`: datagrams could pass before. May close the outlet.
   */
  onOver?: ((result: IoResult, stood: boolean) => void) | undefined;
  close(): void;
}

export interface Dialer {
  /** For people and metrics. */
  readonly name: string;
  /** Whether `tcp` uses a `host`: no address need be known then. */
  readonly takesNames?: boolean;
  /**
   * @param host with `takesNames`: the name to connect to, in the form of `hostName`, at the target's port; its address means nothing.
   * @returns gives the attempt up; `done` is not called any more. Throws where nothing can be opened at all.
   */
  tcp(
    target: SocketAddress,
    done: (result: IoResult, stream: TcpStream | undefined) => void,
    host?: string,
  ): () => void;
  /**
   * @param flow packed: index 0 = the client, 1 = the first destination as the client sees it.
   * @param target where that destination really is.
   * Undefined: this dialer carries no datagrams. Throws where nothing can be opened now.
   */
  udp(flow: Uint32Array, target: SocketAddress): UdpOutlet | undefined;
  echo(family: 4 | 6): EchoSocket;
}

/** Through the host's own sockets. */
export class DirectDialer implements Dialer {
  readonly name = 'direct';
  readonly #reactor: Reactor;
  readonly #sockets: Sockets;
  readonly #perPeer: boolean;

  /** @param perPeer every UDP flow has a socket connected to its one peer; otherwise one that reaches any (RFC 4787 REQ-1). */
  constructor(reactor: Reactor, sockets: Sockets, perPeer: boolean) {
    this.#reactor = reactor;
    this.#sockets = sockets;
    this.#perPeer = perPeer;
  }

  tcp(target: SocketAddress, done: (result: IoResult, stream: TcpStream | undefined) => void): () => void {
    const stream = this.#sockets.connect(target);
    const watch = this.#reactor.watch(stream.fd, WRITABLE, () => {
      watch.close();
      const result = stream.connectResult();
      if (result !== 0) stream.close();
      done(result, result === 0 ? stream : undefined);
    });
    return () => {
      watch.close();
      stream.abort();
    };
  }

  udp(flow: Uint32Array, target: SocketAddress): UdpOutlet {
    return this.#perPeer
      ? new ConnectedOutlet(this.#sockets.udpFlow(target), flow)
      : new PortOutlet(this.#sockets.udpPort(target.ip.family));
  }

  echo(family: 4 | 6): EchoSocket {
    return this.#sockets.echo(family);
  }
}

/** Dials through another dialer, some time after it was asked. */
export class DelayedDialer implements Dialer {
  readonly #inner: Dialer;
  readonly #reactor: Reactor;
  readonly #delay: Duration;

  constructor(inner: Dialer, reactor: Reactor, delay: Duration) {
    this.#inner = inner;
    this.#reactor = reactor;
    this.#delay = delay;
  }

  get name(): string {
    return this.#inner.name;
  }

  tcp(target: SocketAddress, done: (result: IoResult, stream: TcpStream | undefined) => void): () => void {
    let giveUp = this.#reactor.at(later(this.#reactor.now(), this.#delay), () => {
      try {
        giveUp = this.#inner.tcp(target, done);
      } catch {
        done(-EHOSTUNREACH, undefined);
      }
    });
    return () => giveUp();
  }

  udp(flow: Uint32Array, target: SocketAddress): UdpOutlet | undefined {
    return this.#inner.udp(flow, target);
  }

  echo(family: 4 | 6): EchoSocket {
    return this.#inner.echo(family);
  }
}

/** One peer, whose address the client knows by another name. */
class ConnectedOutlet implements UdpOutlet {
  readonly fd: number;
  readonly source: Uint32Array;
  readonly #socket: UdpFlowSocket;

  constructor(socket: UdpFlowSocket, flow: Uint32Array) {
    this.fd = socket.fd;
    this.#socket = socket;
    this.source = flow.slice(ADDRESS_WORDS, 2 * ADDRESS_WORDS);
  }

  write(_addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult {
    return this.#socket.write(bytes, offset, length);
  }

  receive(take: TakeDatagram): IoResult {
    return this.#socket.receive(take);
  }

  close(): void {
    this.#socket.close();
  }
}

/** Any peer of one family. */
class PortOutlet implements UdpOutlet {
  readonly fd: number;
  readonly #socket: UdpPortSocket;

  constructor(socket: UdpPortSocket) {
    this.fd = socket.fd;
    this.#socket = socket;
  }

  get source(): Uint32Array {
    return this.#socket.source;
  }

  write(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult {
    return this.#socket.sendTo(addresses, 1, bytes, offset, length);
  }

  receive(take: TakeDatagram): IoResult {
    return this.#socket.receive(take);
  }

  close(): void {
    this.#socket.close();
  }
}
