/**
 * Whether a parsed packet's checksums are right: the IPv4 header's and the transport's.
 *
 * RFC 791, RFC 9293 §3.1, RFC 768 and RFC 8200 §8.1 (UDP's zero), RFC 792, RFC 4443 §2.3.
 */
import { Drop, type DropReason } from '../base/drop.js';
import type { Arena } from './arena.js';
import { readU16 } from './bytes.js';
import { ipv4HeaderIntact, isIntact, pseudoSum, sumRange } from './checksum.js';
import type { ParsedPacket } from './inner.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from './ip.js';

/**
 * `Drop.none` or `Drop.bad_checksum`. A fragment's transport checksum, and that of a protocol not known here, cannot be judged and
 * passes. A source-routed IPv6 packet's is computed over another destination and passes too.
 */
export function verifyChecksums(arena: Arena, packet: ParsedPacket): DropReason {
  const bytes = arena.bytes;
  const { offset, transportOffset, transportLength, protocol } = packet;
  if (packet.family === 4 && !ipv4HeaderIntact(bytes, offset)) return Drop.bad_checksum;
  if (packet.isFragment || (packet.family === 6 && packet.isSourceRouted)) return Drop.none;
  let length = transportLength;
  let initial = 0;
  switch (protocol) {
    case PROTO_UDP:
      if (readU16(bytes, transportOffset + 6) === 0) return packet.family === 4 ? Drop.none : Drop.bad_checksum;
      length = readU16(bytes, transportOffset + 4);
      initial = pseudoSum(bytes, offset, protocol, length);
      break;
    case PROTO_TCP:
    case PROTO_ICMPV6:
      initial = pseudoSum(bytes, offset, protocol, length);
      break;
    case PROTO_ICMP:
      break;
    default:
      return Drop.none;
  }
  return isIntact(sumRange(arena, transportOffset, length, initial)) ? Drop.none : Drop.bad_checksum;
}
