/**
 * Socket addresses between packed address words (base/address.ts) and the kernel's structures, without allocation.
 *
 *   sockaddr_in   (16 bytes)  family u16 · port be16 · address[4] · zero[8]
 *   sockaddr_in6  (28 bytes)  family u16 · port be16 · flow u32 · address[16] · scope u32
 *
 * An IPv4 address goes into a sockaddr_in, so each socket serves one family (IPv6 sockets are IPV6_V6ONLY).
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress, V4_MAPPED } from '../../base/address.js';
import { AF_INET, AF_INET6 } from './constants.js';
import { check, getsockname } from './libc.js';
import { NativeMemory } from './memory.js';

export const SOCKADDR_IN_LENGTH = 16;
export const SOCKADDR_IN6_LENGTH = 28;
/** Room for either, and a multiple of 8, for tables of them. */
export const SOCKADDR_STRIDE = 32;

/** Whether the packed address at `index` is IPv4. */
export function isV4At(words: Uint32Array, index: number): boolean {
  const i = index * ADDRESS_WORDS;
  return words[i + 2] === V4_MAPPED && words[i] === 0 && words[i + 1] === 0;
}

/** Writes the packed address at `index` to `bytes` at `at` (zeroed, or written before by this); returns its length. */
export function putSockaddr(bytes: Uint8Array, at: number, words: Uint32Array, index: number): number {
  const i = index * ADDRESS_WORDS;
  const port = words[i + 4]!;
  bytes[at + 1] = 0;
  bytes[at + 2] = port >>> 8;
  bytes[at + 3] = port;
  if (isV4At(words, index)) {
    bytes[at] = AF_INET;
    putWord(bytes, at + 4, words[i + 3]!);
    return SOCKADDR_IN_LENGTH;
  }
  bytes[at] = AF_INET6;
  putWord(bytes, at + 4, 0);
  putWord(bytes, at + 8, words[i]!);
  putWord(bytes, at + 12, words[i + 1]!);
  putWord(bytes, at + 16, words[i + 2]!);
  putWord(bytes, at + 20, words[i + 3]!);
  return SOCKADDR_IN6_LENGTH;
}

/** Reads the sockaddr at `at` into the packed address at `index`. False (and nothing written) for another family. */
export function takeSockaddr(bytes: Uint8Array, at: number, words: Uint32Array, index: number): boolean {
  const i = index * ADDRESS_WORDS;
  const family = bytes[at]!;
  if (family === AF_INET) putV4(words, i, getWord(bytes, at + 4));
  else if (family === AF_INET6) putV6(words, i, bytes, at + 8);
  else return false;
  words[i + 4] = (bytes[at + 2]! << 8) | bytes[at + 3]!;
  return true;
}

/** Stores an IPv4 address in four words from `i`. */
export function putV4(words: Uint32Array, i: number, value: number): void {
  words[i] = 0;
  words[i + 1] = 0;
  words[i + 2] = V4_MAPPED;
  words[i + 3] = value;
}

/** Stores the 16 bytes at `at` in four words from `i`. */
export function putV6(words: Uint32Array, i: number, bytes: Uint8Array, at: number): void {
  words[i] = getWord(bytes, at);
  words[i + 1] = getWord(bytes, at + 4);
  words[i + 2] = getWord(bytes, at + 8);
  words[i + 3] = getWord(bytes, at + 12);
}

export function getWord(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function putWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** One sockaddr for calls outside the packet path (bind, connect, accept). */
export class SockaddrBuffer {
  readonly memory = NativeMemory.allocate(SOCKADDR_STRIDE + 8);
  /** The `socklen_t` behind the structure, where calls that fill it want one. */
  readonly lengthAddress = this.memory.address + SOCKADDR_STRIDE;
  readonly #lengths = this.memory.words();
  readonly #words = new Uint32Array(ADDRESS_WORDS);

  get address(): number {
    return this.memory.address;
  }

  /** Writes `to`; returns the structure's length. */
  set(to: SocketAddress): number {
    this.memory.bytes.fill(0);
    to.write(this.#words, 0);
    return putSockaddr(this.memory.bytes, 0, this.#words, 0);
  }

  /** Makes room for the kernel to fill in. */
  reset(): void {
    this.#lengths[SOCKADDR_STRIDE / 4] = SOCKADDR_STRIDE;
  }

  get(): SocketAddress {
    return takeSockaddr(this.memory.bytes, 0, this.#words, 0)
      ? SocketAddress.read(this.#words, 0)
      : new SocketAddress(new IpAddress(0, 0, 0, 0), 0);
  }
}

/** The address a socket is bound to. */
export function localAddress(fd: number): SocketAddress {
  const buffer = new SockaddrBuffer();
  buffer.reset();
  check(getsockname(fd, buffer.address, buffer.lengthAddress), 'getsockname');
  return buffer.get();
}
