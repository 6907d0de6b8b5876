/**
 * Whether the transport checksum of a received packet is right.
 */
import type { Arena } from '../wire/arena.js';
import { isIntact, pseudoSum, sumRange } from '../wire/checksum.js';
import type { ParsedPacket } from '../wire/inner.js';

/** `length`: bytes that the checksum covers, all from the transport header on unless told. */
export function transportIntact(arena: Arena, packet: ParsedPacket, length = packet.transportLength): boolean {
  const pseudo = pseudoSum(arena.bytes, packet.offset, packet.protocol, length);
  return isIntact(sumRange(arena, packet.transportOffset, length, pseudo));
}
