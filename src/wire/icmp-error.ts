/**
 * ICMP errors about a packet: whether one may be sent, and the whole message with the offending packet quoted.
 *
 *   IPv4 (20) │ ICMP (8) │ quoted packet, up to 576 in all       IPv6 (40) │ ICMPv6 (8) │ quoted packet, up to 1280 in all
 *
 * RFC 792, RFC 1122 §3.2.2 (when not to), RFC 1812 §4.3.2.3 (576), RFC 1191 §4, RFC 4443 §2.4, §3 (1280), RFC 8201.
 */
import type { IpAddress } from '../base/address.js';
import type { Arena } from './arena.js';
import { writeU16, writeU32 } from './bytes.js';
import {
  completeIcmp,
  DEFAULT_HOP_LIMIT,
  ICMP_PARAMETER_PROBLEM,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_TIME_EXCEEDED,
  ICMPV6_UNREACHABLE,
  isIcmpError,
  writeIcmp,
} from './icmp.js';
import type { ParsedPacket } from './inner.js';
import {
  ICMP_HEADER,
  IPV4_HEADER,
  IPV4_REASSEMBLY_MIN,
  IPV6_HEADER,
  IPV6_MTU_MIN,
  PROTO_ICMP,
  PROTO_ICMPV6,
} from './ip.js';
import { writeIpv4 } from './ipv4.js';

/** What went wrong, for both families: [ICMP type, code, ICMPv6 type, code]. */
const KINDS = {
  net_unreachable: [ICMP_UNREACHABLE, 0, ICMPV6_UNREACHABLE, 0],
  host_unreachable: [ICMP_UNREACHABLE, 1, ICMPV6_UNREACHABLE, 3],
  /** In ICMPv6: unrecognized next header, pointing at the field of the fixed header. */
  protocol_unreachable: [ICMP_UNREACHABLE, 2, ICMPV6_PARAMETER_PROBLEM, 1],
  port_unreachable: [ICMP_UNREACHABLE, 3, ICMPV6_UNREACHABLE, 4],
  too_big: [ICMP_UNREACHABLE, 4, ICMPV6_PACKET_TOO_BIG, 0],
  admin_prohibited: [ICMP_UNREACHABLE, 13, ICMPV6_UNREACHABLE, 1],
  hop_limit: [ICMP_TIME_EXCEEDED, 0, ICMPV6_TIME_EXCEEDED, 0],
  /** Of IPv6 headers: a field, or an option, that is not understood (RFC 4443 §3.4). */
  bad_header_field: [ICMP_PARAMETER_PROBLEM, 0, ICMPV6_PARAMETER_PROBLEM, 0],
  unknown_option: [ICMP_PARAMETER_PROBLEM, 0, ICMPV6_PARAMETER_PROBLEM, 2],
  reassembly_timeout: [ICMP_TIME_EXCEEDED, 1, ICMPV6_TIME_EXCEEDED, 1],
} as const;

export type IcmpErrorKind = keyof typeof KINDS;

/** Longest message that `writeIcmpError` makes. */
export const ICMP_ERROR_MAX = IPV6_MTU_MIN;

/** Where ICMPv6 tells which next-header value it did not know: byte 6 of the fixed header. */
const NEXT_HEADER_FIELD = 6;

/**
 * Whether an error about the packet may be sent: not about an ICMP error, a fragment other than the first, a multicast or
 * broadcast destination, or a source that is no single host. (The rate limit is the caller's.)
 */
export function mayReport(packet: ParsedPacket): boolean {
  if (packet.fragmentOffset > 0) return false;
  if ((packet.protocol === PROTO_ICMP || packet.protocol === PROTO_ICMPV6) && isIcmpError(packet)) return false;
  if (packet.family === 4) return isUnicastV4(packet.source3) && isUnicastV4(packet.destination3);
  return (
    isUnicastV6(packet.source0, packet.source1, packet.source2, packet.source3) && packet.destination0 >>> 24 !== 0xff
  );
}

/** Neither 0/8, loopback, multicast nor reserved (224/3, which holds the limited broadcast). */
function isUnicastV4(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

function isUnicastV6(w0: number, w1: number, w2: number, w3: number): boolean {
  return w0 >>> 24 !== 0xff && !(w0 === 0 && w1 === 0 && w2 === 0 && w3 <= 1);
}

/**
 * Writes a whole error message about `packet` (parsed from `bytes`) at `offset` of `target`, which needs `ICMP_ERROR_MAX` bytes.
 * @param value with `too_big`: the largest packet that would have passed, in bytes; with `bad_header_field` and `unknown_option`: where
 *   in the packet, in bytes; otherwise 0
 * @param source who reports; the packet's destination when absent
 * @returns the message's length
 */
export function writeIcmpError(
  target: Arena,
  offset: number,
  bytes: Uint8Array,
  packet: ParsedPacket,
  kind: IcmpErrorKind,
  value = 0,
  source?: IpAddress,
): number {
  const codes = KINDS[kind];
  const isV4 = packet.family === 4;
  const header = isV4 ? IPV4_HEADER : IPV6_HEADER;
  const room = (isV4 ? IPV4_REASSEMBLY_MIN : IPV6_MTU_MIN) - header - ICMP_HEADER;
  const quoted = Math.min(packet.totalLength, room);
  const length = header + ICMP_HEADER + quoted;
  const at = offset + header;
  const out = target.bytes;
  if (isV4) {
    writeIpv4(out, offset, {
      trafficClass: 0,
      totalLength: length,
      identification: 0,
      dontFragment: false,
      moreFragments: false,
      fragmentOffset: 0,
      hopLimit: DEFAULT_HOP_LIMIT,
      protocol: PROTO_ICMP,
      source: source === undefined ? packet.destination3 : source.w3,
      destination: packet.source3,
    });
  } else {
    writeU32(out, offset, 6 << 28);
    writeU16(out, offset + 4, length - IPV6_HEADER);
    out[offset + 6] = PROTO_ICMPV6;
    out[offset + 7] = DEFAULT_HOP_LIMIT;
    writeU32(out, offset + 8, source === undefined ? packet.destination0 : source.w0);
    writeU32(out, offset + 12, source === undefined ? packet.destination1 : source.w1);
    writeU32(out, offset + 16, source === undefined ? packet.destination2 : source.w2);
    writeU32(out, offset + 20, source === undefined ? packet.destination3 : source.w3);
    writeU32(out, offset + 24, packet.source0);
    writeU32(out, offset + 28, packet.source1);
    writeU32(out, offset + 32, packet.source2);
    writeU32(out, offset + 36, packet.source3);
  }
  const rest = kind === 'protocol_unreachable' && !isV4 ? NEXT_HEADER_FIELD : value;
  writeIcmp(out, at, isV4 ? codes[0] : codes[2], isV4 ? codes[1] : codes[3], isV4 ? rest & 0xffff : rest);
  out.set(bytes.subarray(packet.offset, packet.offset + quoted), at + ICMP_HEADER);
  completeIcmp(target, offset, header, ICMP_HEADER + quoted);
  return length;
}
