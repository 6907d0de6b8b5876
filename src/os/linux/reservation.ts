/**
 * Ports held for a trace, so that no program of this host gets its answers, and the address packets to the target leave from.
 *
 *   UDP   a connected socket: the kernel swallows a datagram that answers instead of reporting "port unreachable"
 *   TCP   a listener nobody connects to: the kernel itself resets what a target's SYN+ACK opened
 */
import { SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { PortReservation, SendPath } from '../packet-io.js';
import { IPPROTO_TCP, IPPROTO_UDP, SO_RCVBUF, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET } from './constants.js';
import { close, connect, errno, errnoName, listen } from './libc.js';
import { applyPath, bindPath } from './send-path.js';
import { localAddress, SockaddrBuffer } from './sockaddr.js';
import { openSocket, socketError, tryOption } from './socket.js';

/** Nobody reads it; the kernel rounds up to its minimum. */
const UNREAD_BUFFER = 1;

/** A port that UDP connects from when the target's port does not matter: discard (RFC 863). */
const DISCARD_PORT = 9;

/** @throws SallyportError ENETUNREACH, EHOSTUNREACH, ADDRESS_IN_USE … (environment) */
export function reserveUdp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
  const fd = openSocket(to.ip.isV4, SOCK_DGRAM, IPPROTO_UDP);
  return held(fd, () => {
    tryOption(fd, SOL_SOCKET, SO_RCVBUF, UNREAD_BUFFER);
    applyPath(fd, path);
    if (path.source !== undefined || localPort !== 0) bindPath(fd, to.ip.family, path, localPort);
    const name = new SockaddrBuffer();
    const target = to.port === 0 ? new SocketAddress(to.ip, DISCARD_PORT) : to;
    if (connect(fd, name.address, name.set(target)) < 0) throw routeError(errno(), to);
  });
}

/** @throws as `reserveUdp` */
export function reserveTcp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
  const route = reserveUdp(to, 0, path);
  const source = route.local.ip;
  route.close();
  const fd = openSocket(to.ip.isV4, SOCK_STREAM, IPPROTO_TCP);
  return held(fd, () => {
    applyPath(fd, path);
    bindPath(fd, to.ip.family, { ...path, source }, localPort);
    if (listen(fd, 1) < 0) throw socketError(errno(), 'reserving a TCP port');
  });
}

/** Its code is the name of the errno: ENETUNREACH, EHOSTUNREACH, EACCES … */
function routeError(code: number, to: SocketAddress): SallyportError {
  return new SallyportError('environment', errnoName(code), `no way to ${to.ip}: ${errnoName(code)}`);
}

function held(fd: number, prepare: () => void): PortReservation {
  let open = true;
  const release = (): void => {
    if (open) close(fd);
    open = false;
  };
  try {
    prepare();
    return { local: localAddress(fd), close: release };
  } catch (error) {
    release();
    throw error;
  }
}
