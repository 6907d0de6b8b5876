/**
 * The packet that an ICMP error quotes: whose it was and, for TCP, which sequence number it carried. At least the IP header
 * and 8 bytes are there (RFC 792); more is not relied on.
 *
 *   ICMP header (8) │ IP header │ ports (4) · sequence or length (4) │ …
 *
 * RFC 792, RFC 1122 §3.2.2, RFC 4443 §3, RFC 5927 §4 (the sequence number is what makes an error credible).
 */
import { V4_MAPPED } from '../base/address.js';
import { readU16, readU32 } from './bytes.js';
import type { ParsedPacket } from './inner.js';
import { ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, PROTO_TCP, PROTO_UDP } from './ip.js';
import { type ExtensionFields, walkExtensions } from './ipv6.js';

/** Bytes of transport header that every quotation holds. */
const QUOTED_TRANSPORT = 8;

/** What `readQuote` found; address words as in `IpAddress`. */
export class QuotedPacket implements ExtensionFields {
  family = 0;
  protocol = 0;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** Ports of TCP and UDP, the identifier of an echo request in both, else 0. */
  sourcePort = 0;
  destinationPort = 0;
  /** TCP only. */
  sequence = 0;
  /** Where the quoted packet's transport header begins. */
  transportOffset = 0;
  headerLength = 0;
  hasOptions = false;
  isSourceRouted = false;
  isFragment = false;
  moreFragments = false;
  fragmentOffset = 0;
  identification = 0;
  fragmentHeaderOffset = 0;
}

/** Reads the quotation in a parsed ICMP error. False when it is cut short, no IP, of the other family, or a later fragment. */
export function readQuote(bytes: Uint8Array, error: ParsedPacket, out: QuotedPacket): boolean {
  const at = error.transportOffset + ICMP_HEADER;
  const length = error.transportLength - ICMP_HEADER;
  if (length < IPV4_HEADER || bytes[at]! >>> 4 !== error.family) return false;
  out.family = error.family;
  out.isFragment = false;
  out.fragmentOffset = 0;
  out.fragmentHeaderOffset = 0;
  if (error.family === 4) {
    out.headerLength = (bytes[at]! & 15) * 4;
    out.fragmentOffset = (readU16(bytes, at + 6) & 0x1fff) * 8;
    out.protocol = bytes[at + 9]!;
    out.source0 = out.source1 = out.destination0 = out.destination1 = 0;
    out.source2 = out.destination2 = V4_MAPPED;
    out.source3 = readU32(bytes, at + 12);
    out.destination3 = readU32(bytes, at + 16);
    if (out.headerLength < IPV4_HEADER) return false;
  } else {
    if (length < IPV6_HEADER || walkExtensions(bytes, at, length, out) !== 0) return false;
    out.source0 = readU32(bytes, at + 8);
    out.source1 = readU32(bytes, at + 12);
    out.source2 = readU32(bytes, at + 16);
    out.source3 = readU32(bytes, at + 20);
    out.destination0 = readU32(bytes, at + 24);
    out.destination1 = readU32(bytes, at + 28);
    out.destination2 = readU32(bytes, at + 32);
    out.destination3 = readU32(bytes, at + 36);
  }
  if (out.fragmentOffset > 0 || out.headerLength + QUOTED_TRANSPORT > length) return false;
  const transport = at + out.headerLength;
  out.transportOffset = transport;
  out.sequence = 0;
  if (out.protocol === PROTO_TCP || out.protocol === PROTO_UDP) {
    out.sourcePort = readU16(bytes, transport);
    out.destinationPort = readU16(bytes, transport + 2);
    if (out.protocol === PROTO_TCP) out.sequence = readU32(bytes, transport + 4);
  } else out.sourcePort = out.destinationPort = readU16(bytes, transport + 4);
  return true;
}
