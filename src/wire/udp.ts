/**
 * UDP: writing the header and its checksum. (`parsePacket` reads it.)
 *
 *   0                16               32
 *   ┌────────────────┬────────────────┐
 *   │ source port    │destination port│
 *   │ length         │ checksum       │
 *   └────────────────┴────────────────┘
 *
 * RFC 768; RFC 8200 §8.1 (in IPv6 a checksum of zero is not allowed).
 */
import type { Arena } from './arena.js';
import { writeU16 } from './bytes.js';
import { finishUdp, pseudoSum, sumRange } from './checksum.js';
import { PROTO_UDP, UDP_HEADER } from './ip.js';

/** Writes the 8-byte header for `payloadLength` bytes, its checksum still 0. */
export function writeUdp(
  bytes: Uint8Array,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  payloadLength: number,
): void {
  writeU16(bytes, offset, sourcePort);
  writeU16(bytes, offset + 2, destinationPort);
  writeU16(bytes, offset + 4, UDP_HEADER + payloadLength);
  writeU16(bytes, offset + 6, 0);
}

/** Fills in the checksum of the datagram of `length` bytes (header included) at `offset + start`; IP header at `offset`. */
export function completeUdp(arena: Arena, offset: number, start: number, length: number): void {
  const at = offset + start;
  writeU16(arena.bytes, at + 6, 0);
  const sum = sumRange(arena, at, length, pseudoSum(arena.bytes, offset, PROTO_UDP, length));
  writeU16(arena.bytes, at + 6, finishUdp(sum));
}
