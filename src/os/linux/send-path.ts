/**
 * How probes leave, as socket options: device, mark, source address and port, for every kind of socket a trace opens.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { SendPath } from '../packet-io.js';
import { EPERM, SO_BINDTODEVICE, SO_MARK, SOL_SOCKET } from './constants.js';
import { errno, errnoName, setsockopt } from './libc.js';
import { NativeMemory } from './memory.js';
import { rawError } from './raw-error.js';
import { bindSocket, closeSocket, tryOption } from './socket.js';

/** The address of a family that stands for "any". */
export const anyAddress = (family: 4 | 6): IpAddress => (family === 4 ? IpAddress.v4(0) : new IpAddress(0, 0, 0, 0));

/** @throws SallyportError DEVICE_NOT_FOUND, RAW_NOT_PERMITTED (environment) */
export function applyPath(fd: number, path: SendPath): void {
  if (path.device !== undefined) {
    const name = new NativeMemory(new Uint8Array([...new TextEncoder().encode(path.device), 0]));
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name.address, name.bytes.length) < 0) {
      const code = errno();
      if (code === EPERM) throw rawError(code, `sending by device ${path.device}`);
      throw new SallyportError('environment', 'DEVICE_NOT_FOUND', `device ${path.device}: ${errnoName(code)}`);
    }
  }
  if (path.mark !== undefined && !tryOption(fd, SOL_SOCKET, SO_MARK, path.mark)) {
    throw rawError(errno(), `setting the mark ${path.mark}`);
  }
}

/** As `applyPath`, for a socket that is of no use without it: closed when it fails. */
export function leaveBy(fd: number, path: SendPath): void {
  try {
    applyPath(fd, path);
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
}

/** Binds to the path's source address, if it has one, and to `port` (0: any). @throws as `bindSocket` */
export function bindPath(fd: number, family: 4 | 6, path: SendPath, port: number): void {
  bindSocket(fd, new SocketAddress(path.source ?? anyAddress(family), port));
}
