/**
 * What all sockets have in common: opening, options, binding, and the errors of these in words a reader can use. None of
 * this is on the packet path.
 */
import type { SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import {
  AF_INET,
  AF_INET6,
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EMFILE,
  ENFILE,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from './constants.js';
import { bind, check, close, errno, errnoName, getsockopt, setsockopt, socket } from './libc.js';
import { NativeMemory } from './memory.js';
import { SockaddrBuffer } from './sockaddr.js';

/** A non-blocking, close-on-exec socket. */
export function openSocket(v4: boolean, type: number, protocol: number): number {
  const fd = socket(v4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw socketError(errno(), 'opening a socket');
  return fd;
}

export function closeSocket(fd: number): void {
  close(fd);
}

/** Sets an integer option; false when the kernel refuses. */
export function tryOption(fd: number, level: number, option: number, value: number): boolean {
  const memory = NativeMemory.allocate(8);
  memory.ints()[0] = value;
  return setsockopt(fd, level, option, memory.address, 4) === 0;
}

/** @throws SallyportError SOCKET_OPTION (environment) */
export function requireOption(fd: number, level: number, option: number, value: number): void {
  if (tryOption(fd, level, option, value)) return;
  throw new SallyportError('environment', 'SOCKET_OPTION', `socket option ${level}/${option}: ${errnoName(errno())}`);
}

/** Asks for buffers of `bytes` in both directions; without privileges net.core.{r,w}mem_max limits them. */
export function setBuffers(fd: number, bytes: number): void {
  if (!tryOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes)) tryOption(fd, SOL_SOCKET, SO_RCVBUF, bytes);
  if (!tryOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes)) tryOption(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

/** Lets the kernel hold `bytes` bytes for the socket, as it counts them: it doubles what it is asked for (socket(7)). */
export function setSendRoom(fd: number, bytes: number): void {
  const half = bytes >>> 1;
  if (!tryOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, half)) tryOption(fd, SOL_SOCKET, SO_SNDBUF, half);
}

/** Reads an integer option. */
export function readOption(fd: number, level: number, option: number): number {
  const memory = NativeMemory.allocate(16);
  memory.words()[2] = 4;
  check(getsockopt(fd, level, option, memory.address, memory.address + 8), `socket option ${level}/${option}`);
  return memory.ints()[0]!;
}

/** Binds to `local`, or, when that fails with `retryAnyPort` (an errno), to the same address on a port of the kernel's. */
export function bindSocket(fd: number, local: SocketAddress, retryAnyPort?: number): void {
  const name = new SockaddrBuffer();
  if (bind(fd, name.address, name.set(local)) === 0) return;
  const code = errno();
  if (code === retryAnyPort) {
    const length = name.set(local);
    name.memory.bytes[2] = 0;
    name.memory.bytes[3] = 0;
    if (bind(fd, name.address, length) === 0) return;
  }
  throw socketError(code, `binding to ${local}`);
}

/** An errno of a socket call as an error with its own code where a reader can do something about it. */
export function socketError(code: number, what: string): SallyportError {
  const known = KNOWN.get(code);
  if (known === undefined) return new SallyportError('environment', 'SOCKET_FAILED', `${what}: ${errnoName(code)}`);
  return new SallyportError('environment', known.code, `${what}: ${known.text}`, { hint: known.hint });
}

const KNOWN: ReadonlyMap<number, { readonly code: string; readonly text: string; readonly hint: string }> = new Map([
  [
    EADDRINUSE,
    { code: 'ADDRESS_IN_USE', text: 'the address is in use', hint: 'stop the other program or choose another port' },
  ],
  [
    EADDRNOTAVAIL,
    {
      code: 'ADDRESS_NOT_AVAILABLE',
      text: 'this host does not have that address',
      hint: 'see the addresses with: ip address',
    },
  ],
  [
    EAFNOSUPPORT,
    {
      code: 'FAMILY_NOT_SUPPORTED',
      text: 'the kernel does not support this address family',
      hint: 'IPv6 may be switched off on this host',
    },
  ],
  [
    EACCES,
    {
      code: 'PORT_NOT_PERMITTED',
      text: 'not permitted',
      hint: 'ports below 1024 need CAP_NET_BIND_SERVICE',
    },
  ],
  [
    EMFILE,
    { code: 'TOO_MANY_FILES', text: 'too many open descriptors in this process', hint: 'raise the limit: ulimit -n' },
  ],
  [ENFILE, { code: 'TOO_MANY_FILES', text: 'too many open descriptors on this host', hint: 'see sysctl fs.file-max' }],
]);
