/**
 * A TCP connection of this host's own stack that a trace sends its probes into (from a raw sink, with the same ports): opened in
 * two steps, so that its port is known, and watched for, before the first packet leaves.
 *
 *   bound ──connect──► connecting ──writable or error──► done(0 or −errno), once ──close──► closed (FIN)
 */
import type { SocketAddress } from '../../base/address.js';
import { type IoResult, type Watch, WRITABLE } from '../io.js';
import type { SendPath, SessionConnection } from '../packet-io.js';
import { EINPROGRESS, IPPROTO_TCP, SO_ERROR, SOCK_STREAM, SOL_SOCKET } from './constants.js';
import { close, connect, errno } from './libc.js';
import type { MainLoop } from './main-loop.js';
import { reserveUdp } from './reservation.js';
import { applyPath, bindPath } from './send-path.js';
import { localAddress, SockaddrBuffer } from './sockaddr.js';
import { openSocket, readOption } from './socket.js';

/** @throws SallyportError ENETUNREACH … (environment) */
export function openSession(to: SocketAddress, path: SendPath, loop: MainLoop): SessionConnection {
  const route = reserveUdp(to, 0, path);
  const source = route.local.ip;
  route.close();
  const fd = openSocket(to.ip.isV4, SOCK_STREAM, IPPROTO_TCP);
  try {
    applyPath(fd, path);
    bindPath(fd, to.ip.family, { ...path, source }, 0);
    return new LinuxSession(fd, to, loop);
  } catch (error) {
    close(fd);
    throw error;
  }
}

class LinuxSession implements SessionConnection {
  readonly local: SocketAddress;
  readonly #fd: number;
  readonly #to: SocketAddress;
  readonly #loop: MainLoop;
  #watch: Watch | undefined;
  #open = true;

  constructor(fd: number, to: SocketAddress, loop: MainLoop) {
    this.#fd = fd;
    this.#to = to;
    this.#loop = loop;
    this.local = localAddress(fd);
  }

  connect(done: (result: IoResult) => void): void {
    const name = new SockaddrBuffer();
    const failed = connect(this.#fd, name.address, name.set(this.#to)) < 0 ? errno() : 0;
    if (failed !== 0 && failed !== EINPROGRESS) {
      done(-failed);
      return;
    }
    this.#watch = this.#loop.watch(this.#fd, WRITABLE, () => {
      const result = -readOption(this.#fd, SOL_SOCKET, SO_ERROR) || 0;
      this.#watch!.close();
      this.#watch = undefined;
      done(result);
    });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch?.close();
    close(this.#fd);
  }
}
