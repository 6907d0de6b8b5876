/**
 * Tables of `struct mmsghdr`, each with one iovec, one socket address and room for control messages, for sendmmsg and
 * recvmmsg (64-bit Linux, <sys/socket.h>).
 *
 *   word  0 name*   2 namelen   4 iov*   6 iovlen (1)   8 control*   10 controllen   12 flags   14 transferred
 *
 * One allocation holds everything, so that keeping the table keeps all that the kernel is pointed to, payload excepted.
 *
 *   headers (64 × n) · iovecs (16 × n) · names (32 × n) · control (128 × n)
 */
import { NativeMemory, putPointer } from './memory.js';
import { SOCKADDR_STRIDE } from './sockaddr.js';

export const HEADER_WORDS = 16;
export const HEADER_BYTES = HEADER_WORDS * 4;
const NAME = 0;
export const NAME_LENGTH = 2;
const IOV = 4;
const IOV_COUNT = 6;
export const CONTROL = 8;
export const CONTROL_LENGTH = 10;
export const FLAGS = 12;
export const TRANSFERRED = 14;

const IOV_BYTES = 16;
export const IOV_WORDS = IOV_BYTES / 4;
/** Room for UDP_GRO or UDP_SEGMENT (24 bytes) and IPv6 packet information (40), and as much again to spare. */
export const CONTROL_STRIDE = 128;
export const CONTROL_WORDS = CONTROL_STRIDE / 4;

/** Bytes of `struct cmsghdr`; its data follow (length u64 · level i32 · type i32). */
export const CMSG_HEADER = 16;

export class MessageTable {
  readonly count: number;
  readonly #memory: NativeMemory;
  /** Address of header 0. */
  readonly address: number;
  /** All words from header 0 on. */
  readonly words: Uint32Array;
  /** Word index of iovec 0, and of control area 0. */
  readonly iovStart: number;
  readonly controlStart: number;
  /** Byte index of name 0 in `bytes`. */
  readonly nameStart: number;
  readonly bytes: Uint8Array;
  /** Address of control area 0. */
  readonly controlAddress: number;

  constructor(count: number) {
    const iovAt = count * HEADER_BYTES;
    const nameAt = iovAt + count * IOV_BYTES;
    const controlAt = nameAt + count * SOCKADDR_STRIDE;
    this.count = count;
    this.#memory = NativeMemory.allocate(controlAt + count * CONTROL_STRIDE);
    this.address = this.#memory.address;
    this.words = this.#memory.words();
    this.bytes = this.#memory.bytes;
    this.iovStart = iovAt / 4;
    this.nameStart = nameAt;
    this.controlStart = controlAt / 4;
    this.controlAddress = this.address + controlAt;
    for (let i = 0; i < count; i++) {
      const at = i * HEADER_WORDS;
      putPointer(this.words, at + NAME, this.address + nameAt + i * SOCKADDR_STRIDE);
      putPointer(this.words, at + IOV, this.address + iovAt + i * IOV_BYTES);
      this.words[at + IOV_COUNT] = 1;
      putPointer(this.words, at + CONTROL, this.controlAddress + i * CONTROL_STRIDE);
    }
  }

  /** Address of header `i`. */
  headerAddress(i: number): number {
    return this.address + i * HEADER_BYTES;
  }

  /** Points iovec `i` at memory. */
  setVector(i: number, address: number, length: number): void {
    const at = this.iovStart + i * IOV_WORDS;
    putPointer(this.words, at, address);
    this.words[at + 2] = length;
  }

  /** Word index of the data of the first control message of this level and type that entry `i` received; −1 when it has none. */
  findControl(i: number, level: number, type: number): number {
    const { words } = this;
    const length = words[i * HEADER_WORDS + CONTROL_LENGTH]!;
    const start = this.controlStart + i * CONTROL_WORDS;
    for (let at = 0; at + CMSG_HEADER <= length; ) {
      const word = start + (at >>> 2);
      const size = words[word]!;
      if (size < CMSG_HEADER) return -1;
      if (words[word + 2] === level && words[word + 3] === type) return word + CMSG_HEADER / 4;
      at += (size + 7) & ~7;
    }
    return -1;
  }

  /** Makes the first `count` headers ready to be received into. */
  rearm(count: number): void {
    for (let i = 0; i < count; i++) {
      this.words[i * HEADER_WORDS + NAME_LENGTH] = SOCKADDR_STRIDE;
      this.words[i * HEADER_WORDS + CONTROL_LENGTH] = CONTROL_STRIDE;
    }
  }
}
