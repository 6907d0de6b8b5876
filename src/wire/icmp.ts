/**
 * ICMP and ICMPv6: types and codes, writing messages, answering echoes.
 *
 *   0        8        16               32
 *   ┌────────┬────────┬────────────────┐   rest:  echo              identifier (16) · sequence (16)
 *   │ type   │ code   │ checksum       │          frag needed (v4)  0 (16) · next-hop MTU (16)
 *   ├────────┴────────┴────────────────┤          packet too big    MTU (32)
 *   │ rest of header (32)              │          others            0
 *   ├──────────────────────────────────┤
 *   │ data, or the offending packet    │
 *   └──────────────────────────────────┘
 *
 * ICMPv6's checksum covers the IPv6 pseudo-header, ICMP's does not. RFC 792, RFC 1191 §4, RFC 1122 §3.2.2, RFC 4443.
 */
import type { Arena } from './arena.js';
import { readU16, writeU16, writeU32 } from './bytes.js';
import { finish, pseudoSumV6, sumRange, updateChecksum, writeIpv4Checksum } from './checksum.js';
import type { ParsedPacket } from './inner.js';
import { PROTO_ICMP, PROTO_ICMPV6 } from './ip.js';

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_REDIRECT = 5;
export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;
/** Code of `ICMP_UNREACHABLE`. */
export const ICMP_FRAGMENTATION_NEEDED = 4;

export const ICMPV6_UNREACHABLE = 1;
export const ICMPV6_PACKET_TOO_BIG = 2;
export const ICMPV6_TIME_EXCEEDED = 3;
export const ICMPV6_PARAMETER_PROBLEM = 4;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;

/** The hop limit of what we originate. */
export const DEFAULT_HOP_LIMIT = 64;

/** Writes type, code and rest of header at `offset`; checksum 0. */
export function writeIcmp(bytes: Uint8Array, offset: number, type: number, code: number, rest: number): void {
  bytes[offset] = type;
  bytes[offset + 1] = code;
  writeU16(bytes, offset + 2, 0);
  writeU32(bytes, offset + 4, rest);
}

/** Fills in the checksum of the message of `length` bytes at `offset + start`; its IP header is at `offset`. */
export function completeIcmp(arena: Arena, offset: number, start: number, length: number): void {
  const { bytes } = arena;
  const at = offset + start;
  writeU16(bytes, at + 2, 0);
  const initial = bytes[offset]! >>> 4 === 6 ? pseudoSumV6(bytes, offset, PROTO_ICMPV6, length) : 0;
  writeU16(bytes, at + 2, finish(sumRange(arena, at, length, initial)));
}

export const isEchoRequest = (packet: ParsedPacket): boolean =>
  (packet.protocol === PROTO_ICMP && packet.family === 4 && packet.icmpType === ICMP_ECHO_REQUEST) ||
  (packet.protocol === PROTO_ICMPV6 && packet.family === 6 && packet.icmpType === ICMPV6_ECHO_REQUEST);

export const isEchoReply = (packet: ParsedPacket): boolean =>
  (packet.protocol === PROTO_ICMP && packet.family === 4 && packet.icmpType === ICMP_ECHO_REPLY) ||
  (packet.protocol === PROTO_ICMPV6 && packet.family === 6 && packet.icmpType === ICMPV6_ECHO_REPLY);

/** Whether the message reports an error about another packet (RFC 1122 §3.2.2, RFC 4443 §2.1: types below 128). */
export function isIcmpError(packet: ParsedPacket): boolean {
  const type = packet.icmpType;
  if (packet.protocol === PROTO_ICMPV6) return type < 128;
  return (
    packet.protocol === PROTO_ICMP &&
    (type === ICMP_UNREACHABLE ||
      type === ICMP_SOURCE_QUENCH ||
      type === ICMP_REDIRECT ||
      type === ICMP_TIME_EXCEEDED ||
      type === ICMP_PARAMETER_PROBLEM)
  );
}

/**
 * The next-hop MTU that an error announces, in bytes: 0 when the message is not of that kind. An old router's 0 in
 * "fragmentation needed" also gives 0 (RFC 1191 §5 then guesses).
 */
export function announcedMtu(bytes: Uint8Array, packet: ParsedPacket): number {
  const at = packet.transportOffset;
  if (packet.protocol === PROTO_ICMP) {
    const isNeeded = packet.icmpType === ICMP_UNREACHABLE && packet.icmpCode === ICMP_FRAGMENTATION_NEEDED;
    return isNeeded ? readU16(bytes, at + 6) : 0;
  }
  if (packet.protocol !== PROTO_ICMPV6 || packet.icmpType !== ICMPV6_PACKET_TOO_BIG) return 0;
  // No MTU here is beyond 16 bits; a larger word says no more than that.
  return readU16(bytes, at + 4) !== 0 ? 0xffff : readU16(bytes, at + 6);
}

/** Turns a parsed echo request into its reply, in place: addresses exchanged, type and checksums adjusted (RFC 792, RFC 4443 §4.2). */
export function answerEcho(bytes: Uint8Array, packet: ParsedPacket): void {
  const { offset, transportOffset: at } = packet;
  const isV4 = packet.family === 4;
  const size = isV4 ? 4 : 16;
  const source = offset + (isV4 ? 12 : 8);
  for (let i = 0; i < size; i++) {
    const byte = bytes[source + i]!;
    bytes[source + i] = bytes[source + size + i]!;
    bytes[source + size + i] = byte;
  }
  bytes[offset + (isV4 ? 8 : 7)] = DEFAULT_HOP_LIMIT;
  if (isV4) writeIpv4Checksum(bytes, offset);
  // The exchange of addresses does not change the pseudo-header's sum.
  const before = readU16(bytes, at);
  bytes[at] = isV4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
  writeU16(bytes, at + 2, updateChecksum(readU16(bytes, at + 2), before, readU16(bytes, at)));
}
