/**
 * Scratch memory for descriptors whose callers pass ordinary byte arrays: data pass through it by copy, so that no
 * caller's array is ever known to the kernel and no address has to be looked up per call.
 */
import type { IoResult } from '../io.js';
import { MSG_NOSIGNAL } from './constants.js';
import { read, result, send } from './libc.js';
import { NativeMemory } from './memory.js';

/** One read or write moves at most this much: the largest datagram, and a good size for a stream. */
export const SCRATCH_BYTES = 65_536;

/** One per thread is enough: no call keeps anything in it. */
export class Scratch {
  readonly memory = NativeMemory.allocate(SCRATCH_BYTES);

  read(fd: number, target: Uint8Array, offset: number, length: number): IoResult {
    const got = result(read(fd, this.memory.address, Math.min(length, SCRATCH_BYTES)));
    if (got > 0) copy(this.memory.bytes, 0, target, offset, got);
    return got;
  }

  write(fd: number, source: Uint8Array, offset: number, length: number): IoResult {
    const size = Math.min(length, SCRATCH_BYTES);
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
