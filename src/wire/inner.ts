/**
 * One pass over an IP packet: families, addresses, lengths, fragment, ports and transport fields into one reusable object.
 *
 *   offset                transportOffset        payloadOffset             offset + totalLength
 *   │ IP header, options  │ TCP, UDP or ICMP     │ payload                 │
 *   │ or extension headers│ header               │                         │
 *
 * It checks that every length agrees with every other, and nothing else: checksums, addresses and flags are the caller's.
 * RFC 791, RFC 8200 §4, RFC 7112 (first fragment holds all headers), RFC 9293 §3.1, RFC 768, RFC 792, RFC 4443, RFC 1858.
 */
import { V4_MAPPED } from '../base/address.js';
import { Drop, type DropReason } from '../base/drop.js';
import { readU16, readU32 } from './bytes.js';
import {
  ICMP_HEADER,
  IP_LENGTH_MAX,
  IPV4_HEADER,
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  PROTO_ICMP,
  PROTO_ICMPV6,
  PROTO_TCP,
  PROTO_UDP,
  TCP_HEADER,
  UDP_HEADER,
} from './ip.js';
import { walkExtensions } from './ipv6.js';

/** What `parsePacket` found. Offsets are absolute in the bytes that were parsed; address words as in `IpAddress`. */
export class ParsedPacket {
  /** 4 or 6. */
  family = 0;
  /** Where the packet begins. */
  offset = 0;
  totalLength = 0;
  /** IPv4 header with options, or IPv6 header with all extension headers. */
  headerLength = 0;
  /** The transport protocol (after extension headers). */
  protocol = 0;
  /** Time to live or hop limit. */
  hopLimit = 0;
  /** Type of service or traffic class: DSCP and ECN. */
  trafficClass = 0;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** IPv4 options or any IPv6 extension header but Fragment. */
  hasOptions = false;
  /** A source route (IPv4) or a routing header with segments left (IPv6). */
  isSourceRouted = false;
  /** Part of a packet: `fragmentOffset` > 0 or `moreFragments`. An atomic fragment (RFC 6946) is not. */
  isFragment = false;
  moreFragments = false;
  /** In bytes. */
  fragmentOffset = 0;
  /** IPv4 identification (16 bits), or that of the Fragment header (32 bits); 0 in IPv6 without one. */
  identification = 0;
  dontFragment = false;
  /** Offset of the IPv6 Fragment header, 0 when there is none. */
  fragmentHeaderOffset = 0;
  transportOffset = 0;
  /** Bytes from `transportOffset` to the end of the packet. */
  transportLength = 0;
  /** Ports of TCP and UDP; the identifier of an ICMP echo in both; 0 otherwise and in non-first fragments. */
  sourcePort = 0;
  destinationPort = 0;
  payloadOffset = 0;
  payloadLength = 0;
  /** Nine bits: AE (RFC 9768) above the eight of RFC 9293. */
  tcpFlags = 0;
  sequence = 0;
  acknowledgment = 0;
  /** As in the header, not scaled. */
  window = 0;
  tcpHeaderLength = 0;
  icmpType = 0;
  icmpCode = 0;
}

/**
 * Parses the packet of exactly `length` bytes at `offset`, which must lie within `bytes`. Returns `Drop.none`, or why it is
 * no packet: `not_ip` (version), `bad_length` (fields disagree or are cut short), `malformed` (extension headers),
 * `fragment` (a fragment that hides its transport header). After a drop the fields of `out` are unspecified.
 */
export function parsePacket(bytes: Uint8Array, offset: number, length: number, out: ParsedPacket): DropReason {
  if (length < IPV4_HEADER) return length === 0 ? Drop.bad_length : versionOrLength(bytes[offset]!);
  const version = bytes[offset]! >>> 4;
  out.offset = offset;
  out.totalLength = length;
  out.isFragment = false;
  out.moreFragments = false;
  out.fragmentOffset = 0;
  out.isSourceRouted = false;
  out.fragmentHeaderOffset = 0;
  let drop: DropReason;
  if (version === 4) drop = parseV4(bytes, offset, length, out);
  else if (version === 6) drop = parseV6(bytes, offset, length, out);
  else return Drop.not_ip;
  if (drop !== Drop.none) return drop;
  out.transportOffset = offset + out.headerLength;
  out.transportLength = length - out.headerLength;
  return parseTransport(bytes, out);
}

function versionOrLength(first: number): DropReason {
  const version = first >>> 4;
  return version === 4 || version === 6 ? Drop.bad_length : Drop.not_ip;
}

function parseV4(bytes: Uint8Array, offset: number, length: number, out: ParsedPacket): DropReason {
  const headerLength = (bytes[offset]! & 15) * 4;
  if (headerLength < IPV4_HEADER || headerLength > length || readU16(bytes, offset + 2) !== length) {
    return Drop.bad_length;
  }
  out.family = 4;
  out.headerLength = headerLength;
  out.trafficClass = bytes[offset + 1]!;
  out.identification = readU16(bytes, offset + 4);
  const fragment = readU16(bytes, offset + 6);
  out.dontFragment = (fragment & 0x4000) !== 0;
  if ((fragment & 0x3fff) !== 0) {
    const drop = setFragment(out, (fragment & 0x1fff) * 8, (fragment & 0x2000) !== 0, length - headerLength);
    if (drop !== Drop.none) return drop;
  }
  out.hopLimit = bytes[offset + 8]!;
  out.protocol = bytes[offset + 9]!;
  out.source0 = out.source1 = out.destination0 = out.destination1 = 0;
  out.source2 = out.destination2 = V4_MAPPED;
  out.source3 = readU32(bytes, offset + 12);
  out.destination3 = readU32(bytes, offset + 16);
  out.hasOptions = headerLength > IPV4_HEADER;
  if (out.hasOptions) out.isSourceRouted = hasSourceRoute(bytes, offset + IPV4_HEADER, offset + headerLength);
  return Drop.none;
}

function parseV6(bytes: Uint8Array, offset: number, length: number, out: ParsedPacket): DropReason {
  if (length < IPV6_HEADER || readU16(bytes, offset + 4) !== length - IPV6_HEADER) return Drop.bad_length;
  out.family = 6;
  out.headerLength = IPV6_HEADER;
  out.trafficClass = ((bytes[offset]! & 15) << 4) | (bytes[offset + 1]! >>> 4);
  out.identification = 0;
  out.dontFragment = true;
  out.hopLimit = bytes[offset + 7]!;
  out.protocol = bytes[offset + 6]!;
  out.source0 = readU32(bytes, offset + 8);
  out.source1 = readU32(bytes, offset + 12);
  out.source2 = readU32(bytes, offset + 16);
  out.source3 = readU32(bytes, offset + 20);
  out.destination0 = readU32(bytes, offset + 24);
  out.destination1 = readU32(bytes, offset + 28);
  out.destination2 = readU32(bytes, offset + 32);
  out.destination3 = readU32(bytes, offset + 36);
  out.hasOptions = false;
  if (out.protocol === PROTO_TCP || out.protocol === PROTO_UDP || out.protocol === PROTO_ICMPV6) return Drop.none;
  const drop = walkExtensions(bytes, offset, length, out);
  if (drop !== Drop.none || !out.isFragment) return drop;
  // Headers after the Fragment header belong to the fragmented part.
  const part = offset + length - (out.fragmentHeaderOffset + IPV6_FRAGMENT_HEADER);
  return setFragment(out, out.fragmentOffset, out.moreFragments, part);
}

/** Notes a fragment; every one but the last is a multiple of 8 long, and none reaches beyond the longest packet. */
function setFragment(out: ParsedPacket, at: number, more: boolean, length: number): DropReason {
  out.isFragment = true;
  out.fragmentOffset = at;
  out.moreFragments = more;
  if (more && length % 8 !== 0) return Drop.bad_length;
  return length === 0 || at + length > IP_LENGTH_MAX ? Drop.bad_length : Drop.none;
}

/** Loose or strict source route among the options (RFC 791 §3.1). A broken list ends the search. */
function hasSourceRoute(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; ) {
    const kind = bytes[at]!;
    if (kind === 131 || kind === 137) return true;
    if (kind === 0) return false;
    if (kind === 1) at++;
    else if (at + 1 < end && bytes[at + 1]! >= 2) at += bytes[at + 1]!;
    else return false;
  }
  return false;
}

function parseTransport(bytes: Uint8Array, out: ParsedPacket): DropReason {
  const at = out.transportOffset;
  const length = out.transportLength;
  out.sourcePort = 0;
  out.destinationPort = 0;
  out.tcpFlags = 0;
  out.payloadOffset = at;
  out.payloadLength = length;
  if (out.fragmentOffset > 0) {
    // RFC 1858: the second piece of a TCP header would rewrite the first.
    return out.protocol === PROTO_TCP && out.fragmentOffset < TCP_HEADER ? Drop.fragment : Drop.none;
  }
  // A first fragment that ends inside the transport header cannot be judged by ports: RFC 7112, RFC 1858.
  const short = out.isFragment ? Drop.fragment : Drop.bad_length;
  let header: number;
  switch (out.protocol) {
    case PROTO_TCP: {
      if (length < TCP_HEADER) return short;
      header = (bytes[at + 12]! >>> 4) * 4;
      if (header < TCP_HEADER) return Drop.bad_length;
      if (header > length) return short;
      out.sourcePort = readU16(bytes, at);
      out.destinationPort = readU16(bytes, at + 2);
      out.sequence = readU32(bytes, at + 4);
      out.acknowledgment = readU32(bytes, at + 8);
      out.tcpHeaderLength = header;
      out.tcpFlags = bytes[at + 13]! | ((bytes[at + 12]! & 1) << 8);
      out.window = readU16(bytes, at + 14);
      break;
    }
    case PROTO_UDP: {
      if (length < UDP_HEADER) return short;
      header = UDP_HEADER;
      const udpLength = readU16(bytes, at + 4);
      if (udpLength < UDP_HEADER) return Drop.bad_length;
      // A datagram may end before its packet does (RFC 9868 uses the surplus), never after.
      if (udpLength > length && !out.isFragment) return Drop.bad_length;
      out.sourcePort = readU16(bytes, at);
      out.destinationPort = readU16(bytes, at + 2);
      out.payloadOffset = at + header;
      out.payloadLength = Math.min(udpLength, length) - header;
      return Drop.none;
    }
    case PROTO_ICMP:
    case PROTO_ICMPV6: {
      if (length < ICMP_HEADER) return short;
      header = ICMP_HEADER;
      out.icmpType = bytes[at]!;
      out.icmpCode = bytes[at + 1]!;
      const isEcho =
        out.protocol === PROTO_ICMP
          ? out.icmpType === 8 || out.icmpType === 0
          : out.icmpType === 128 || out.icmpType === 129;
      if (isEcho) out.sourcePort = out.destinationPort = readU16(bytes, at + 4);
      break;
    }
    default:
      return Drop.none;
  }
  out.payloadOffset = at + header;
  out.payloadLength = length - header;
  return Drop.none;
}
