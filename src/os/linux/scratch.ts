/**
 * Reads and writes of descriptors whose callers pass ordinary byte arrays: data of large buffers go where they are, those of other
 * arrays through scratch memory by copy, so that no address has to be looked up per call.
 */
import type { IoResult } from '../io.js';
import { MSG_NOSIGNAL } from './constants.js';
import { read, result, send } from './libc.js';
import { lastingAddress, NativeMemory } from './memory.js';

/** One read or write moves at most this much: the largest datagram, and a good size for a stream. */
export const SCRATCH_BYTES = 65_536;

/** One per thread is enough: no call keeps anything in it. */
export class Scratch {
  readonly memory = NativeMemory.allocate(SCRATCH_BYTES);

  read(fd: number, target: Uint8Array, offset: number, length: number): IoResult {
    const size = Math.min(length, SCRATCH_BYTES);
    const address = lastingAddress(target);
    if (address !== 0) return result(read(fd, address + offset, size));
    const got = result(read(fd, this.memory.address, size));
    if (got > 0) copy(this.memory.bytes, 0, target, offset, got);
    return got;
  }

  write(fd: number, source: Uint8Array, offset: number, length: number): IoResult {
    const size = Math.min(length, SCRATCH_BYTES);
    const address = lastingAddress(source);
    if (address !== 0) return result(send(fd, address + offset, size, MSG_NOSIGNAL));
    copy(source, offset, this.memory.bytes, 0, size);
    return result(send(fd, this.memory.address, size, MSG_NOSIGNAL));
  }
}

/** Below this many bytes a loop is faster than making the view that `set` needs. */
const COPY_BY_LOOP = 64;

export function copy(from: Uint8Array, start: number, to: Uint8Array, at: number, length: number): void {
  if (length <= COPY_BY_LOOP) for (let i = 0; i < length; i++) to[at + i] = from[start + i]!;
  else to.set(from.subarray(start, start + length), at);
}
