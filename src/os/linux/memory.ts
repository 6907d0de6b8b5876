/**
 * Memory the kernel is told about. The object keeps the bytes referenced for as long as it lives itself; whoever builds a
 * structure that points into it (an iovec, a msghdr, an epoll buffer) keeps the object beside that structure.
 *
 * The address is taken once: V8 never moves the backing store of an ArrayBuffer. Transferring the buffer to another thread
 * would free it under the kernel's feet; it must not be done.
 */
import { MADV_DONTNEED } from './constants.js';
import { addressOf, madvise } from './libc.js';

export class NativeMemory {
  readonly bytes: Uint8Array;
  /** Address of `bytes[0]`, for calls that take pointers as numbers. */
  readonly address: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.address = addressOf(bytes);
  }

  /** `length` zeroed bytes, aligned for any C structure. */
  static allocate(length: number): NativeMemory {
    return new NativeMemory(new Uint8Array(new ArrayBuffer(Math.max(8, length))));
  }

  /** The same bytes as unsigned 32-bit words in host order (little-endian on every system we run on). */
  words(): Uint32Array {
    return new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length >>> 2);
  }

  /** The same bytes as signed 32-bit words. */
  ints(): Int32Array {
    return new Int32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length >>> 2);
  }
}

/** The largest page of any kernel we run on: 4 KiB on x86-64, up to 64 KiB on arm64. */
const PAGE = 65_536;

/**
 * Gives the kernel the pages back that lie wholly within these bytes: they are zero from now on, and take memory again when something
 * is written. No call may be under way with them. A kernel that refuses (memory is locked) leaves them as they are.
 */
export function releasePages(bytes: Uint8Array): void {
  const address = addressOf(bytes);
  const from = Math.ceil(address / PAGE) * PAGE;
  const length = Math.floor((address + bytes.length) / PAGE) * PAGE - from;
  if (length > 0) madvise(from, length, MADV_DONTNEED);
}

/** Arrays that fill an ArrayBuffer of this many bytes are buffers somebody keeps, worth an entry in the table below. */
const LASTING_BYTES = 16 * 1024;
const addresses = new WeakMap<Uint8Array, number>();

/**
 * Address of `bytes[0]` of a large buffer, looked up once in its life; 0 for any other array. To be used at once: nothing here keeps
 * the bytes alive.
 */
export function lastingAddress(bytes: Uint8Array): number {
  if (bytes.length < LASTING_BYTES || bytes.length !== bytes.buffer.byteLength) return 0;
  let address = addresses.get(bytes);
  if (address === undefined) {
    address = addressOf(bytes);
    addresses.set(bytes, address);
  }
  return address;
}

/** Writes a 64-bit pointer or size into two words. `value` is below 2^53; storing it keeps the low 32 bits. */
export function putPointer(words: Uint32Array, index: number, value: number): void {
  words[index] = value;
  words[index + 1] = Math.floor(value / 0x1_0000_0000);
}
