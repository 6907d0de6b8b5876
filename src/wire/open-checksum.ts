/**
 * TCP packets whose checksum is left open: cut out of a super-segment whose checksum nobody has computed yet, and on their way through
 * something that keeps them intact better than a checksum would (a link's AEAD), to somebody who puts them together again.
 *
 *   first byte    0100 hhhh  →  0101 hhhh    IPv4, header of 20 bytes      checksum field of TCP: 0, no meaning
 *                 0110 cccc  →  0111 cccc    IPv6, header of 40 bytes
 *
 * The mark lies in the version, so that such a packet keeps its length, and nobody takes it for a complete one. The IPv4
 * header's own checksum is that of the packet without the mark. RFC 9293 §3.1 (the checksum), RFC 791 §3.1, RFC 8200 §3 (version).
 */
import type { Arena } from './arena.js';
import { writeU16 } from './bytes.js';
import { finish, pseudoSum, sumRange } from './checksum.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP } from './ip.js';

/** The bit of the first byte that makes 4 and 6 to 5 and 7. */
export const OPEN_MARK = 0x10;
/** Offset of the checksum in a TCP header. */
export const TCP_CHECKSUM = 16;

export const isOpen = (bytes: Uint8Array, offset: number): boolean => (bytes[offset]! & OPEN_MARK) !== 0;

/** Takes the mark off the packet of `length` bytes at `offset`, which our own segmentation has made, and completes its checksum. */
export function closeChecksum(arena: Arena, offset: number, length: number): void {
  const { bytes } = arena;
  bytes[offset]! &= ~OPEN_MARK;
  const start = bytes[offset]! >>> 4 === 4 ? IPV4_HEADER : IPV6_HEADER;
  writeTcpChecksum(arena, offset, offset + start, length - start);
}

/** Writes the checksum of the `length` bytes of TCP at `transport` of the packet at `offset`. */
export function writeTcpChecksum(arena: Arena, offset: number, transport: number, length: number): void {
  const { bytes } = arena;
  writeU16(bytes, transport + TCP_CHECKSUM, 0);
  const sum = sumRange(arena, transport, length, pseudoSum(bytes, offset, PROTO_TCP, length));
  writeU16(bytes, transport + TCP_CHECKSUM, finish(sum));
}
