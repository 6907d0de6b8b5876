/**
 * TCP connections of the host's own stack, non-blocking.
 *
 *   connecting ──WRITABLE or BROKEN, connectResult() = 0──► established ──shutdownWrite──► half-closed ──close──► closed
 *        └────────────── connectResult() < 0 ──close──► closed          └────── abort (RST) ──────────────────────┘
 */
import type { SocketAddress } from '../../base/address.js';
import type { IoResult, TcpListener, TcpStream } from '../io.js';
import type { SendPath } from '../packet-io.js';
import {
  ECONNABORTED,
  EINPROGRESS,
  EINTR,
  EMFILE,
  ENFILE,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  O_CLOEXEC,
  SHUT_WR,
  SO_ERROR,
  SO_LINGER,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_NODELAY,
} from './constants.js';
import { accept4, close, connect, errno, listen, open, setsockopt, shutdown } from './libc.js';
import { NativeMemory } from './memory.js';
import type { Scratch } from './scratch.js';
import { leaveBy } from './send-path.js';
import { localAddress, SockaddrBuffer } from './sockaddr.js';
import { bindSocket, openSocket, readOption, requireOption, socketError, tryOption } from './socket.js';

/** Connections the kernel completes before they are accepted; it caps this by net.core.somaxconn. */
const BACKLOG = 1024;

/** `struct linger { int onoff; int seconds; }` with 1, 0: closing sends RST and forgets unsent data. */
const LINGER_RESET = NativeMemory.allocate(8);
LINGER_RESET.ints()[0] = 1;

/** Starts a connection; errors that show at once (no route) come from `connectResult` like the later ones. */
export function connectTcp(to: SocketAddress, scratch: Scratch, path: SendPath): TcpStream {
  const fd = openSocket(to.ip.isV4, SOCK_STREAM, IPPROTO_TCP);
  leaveBy(fd, path);
  tryOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  const name = new SockaddrBuffer();
  const failed = connect(fd, name.address, name.set(to)) < 0;
  const code = failed ? errno() : 0;
  return new LinuxTcpStream(fd, scratch, code === EINPROGRESS || code === EINTR ? 0 : code);
}

/** @throws SallyportError ADDRESS_IN_USE … (environment) */
export function listenTcp(local: SocketAddress, scratch: Scratch): TcpListener {
  return new LinuxTcpListener(local, scratch);
}

class LinuxTcpStream implements TcpStream {
  readonly fd: number;
  readonly #scratch: Scratch;
  /** The errno with which the connection failed before it began, if so. */
  readonly #refused: number;
  #open = true;

  constructor(fd: number, scratch: Scratch, refused: number) {
    this.fd = fd;
    this.#scratch = scratch;
    this.#refused = refused;
  }

  get local(): SocketAddress {
    return localAddress(this.fd);
  }

  connectResult(): IoResult {
    if (this.#refused !== 0) return -this.#refused;
    return -readOption(this.fd, SOL_SOCKET, SO_ERROR) || 0;
  }

  read(target: Uint8Array, offset: number, length: number): IoResult {
    return this.#scratch.read(this.fd, target, offset, length);
  }

  write(source: Uint8Array, offset: number, length: number): IoResult {
    return this.#scratch.write(this.fd, source, offset, length);
  }

  shutdownWrite(): void {
    shutdown(this.fd, SHUT_WR);
  }

  close(): void {
    if (this.#open) close(this.fd);
    this.#open = false;
  }

  abort(): void {
    if (this.#open) setsockopt(this.fd, SOL_SOCKET, SO_LINGER, LINGER_RESET.address, 8);
    this.close();
  }
}

class LinuxTcpListener implements TcpListener {
  readonly fd: number;
  readonly local: SocketAddress;
  readonly #scratch: Scratch;
  readonly #name = new SockaddrBuffer();
  #reserve = openReserve();
  #open = true;

  constructor(local: SocketAddress, scratch: Scratch) {
    this.#scratch = scratch;
    this.fd = openSocket(local.ip.isV4, SOCK_STREAM, IPPROTO_TCP);
    try {
      requireOption(this.fd, SOL_SOCKET, SO_REUSEADDR, 1);
      if (!local.ip.isV4) requireOption(this.fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
      bindSocket(this.fd, local);
      if (listen(this.fd, BACKLOG) < 0) throw socketError(errno(), `listening on ${local}`);
      this.local = localAddress(this.fd);
    } catch (error) {
      close(this.fd);
      close(this.#reserve);
      throw error;
    }
  }

  accept(): { readonly stream: TcpStream; readonly peer: SocketAddress } | undefined {
    for (;;) {
      const fd = this.#acceptOne();
      if (fd >= 0) {
        tryOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        return { stream: new LinuxTcpStream(fd, this.#scratch, 0), peer: this.#name.get() };
      }
      const code = errno();
      if (code === EMFILE || code === ENFILE) {
        if (!this.#refuseOne()) return undefined;
      } else if (code !== EINTR && code !== ECONNABORTED) return undefined;
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
    close(this.#reserve);
  }

  #acceptOne(): number {
    this.#name.reset();
    return accept4(this.fd, this.#name.address, this.#name.lengthAddress, SOCK_NONBLOCK | SOCK_CLOEXEC);
  }

  /**
   * Out of descriptors: the waiting connection is taken with the reserved one and closed. Left in the queue, it would
   * make the listener readable for ever, and the peer would wait for an answer that does not come. False when none
   * waits (the kernel looks for a descriptor first, so that it says "none left" of an empty queue too).
   */
  #refuseOne(): boolean {
    close(this.#reserve);
    const fd = this.#acceptOne();
    if (fd >= 0) close(fd);
    this.#reserve = openReserve();
    return fd >= 0;
  }
}

function openReserve(): number {
  return open('/dev/null', O_CLOEXEC);
}
