/**
 * IPv6: writing the fixed header and the Fragment header, and walking extension headers with a limit.
 *
 *   0        4         12                  32
 *   ┌────────┬─────────┬───────────────────┐   Fragment header
 *   │version │ traffic │ flow label        │   ┌────────┬────────┬──────────────┬──┬─┐
 *   │ (6)    │ class   │ (20 bits)         │   │next    │0       │offset / 8    │00│M│
 *   ├────────┴─────────┼─────────┬─────────┤   ├────────┴────────┴──────────────┴──┴─┤
 *   │ payload length   │next     │hop limit│   │identification                       │
 *   ├──────────────────┴─────────┴─────────┤   └─────────────────────────────────────┘
 *   │ source (16) · destination (16)       │
 *   └──────────────────────────────────────┘
 *
 * RFC 8200 §3, §4; RFC 7112; RFC 6946 (atomic fragments); RFC 4302 (AH counts words of 4).
 */
import { Drop, type DropReason } from '../base/drop.js';
import { readU16, readU32, writeU16, writeU32 } from './bytes.js';
import {
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  PROTO_AH,
  PROTO_DESTINATION_OPTIONS,
  PROTO_FRAGMENT,
  PROTO_HIP,
  PROTO_HOP_BY_HOP,
  PROTO_MOBILITY,
  PROTO_ROUTING,
  PROTO_SHIM6,
} from './ip.js';

/** Extension headers followed before a packet counts as malformed; real ones have at most three or four. */
export const EXTENSION_LIMIT = 8;

/** The part of `ParsedPacket` that the walk fills. */
export interface ExtensionFields {
  protocol: number;
  headerLength: number;
  hasOptions: boolean;
  isSourceRouted: boolean;
  isFragment: boolean;
  moreFragments: boolean;
  fragmentOffset: number;
  identification: number;
  fragmentHeaderOffset: number;
}

/**
 * Walks the extension headers of the IPv6 packet of `length` bytes at `offset`, starting with the fixed header. It ends at
 * the first header that is no extension; in a non-first fragment at the Fragment header, whose `protocol` is then what the
 * reassembled rest begins with.
 */
export function walkExtensions(bytes: Uint8Array, offset: number, length: number, out: ExtensionFields): DropReason {
  const end = offset + length;
  let at = offset + IPV6_HEADER;
  let next = bytes[offset + 6]!;
  for (let count = 0; isExtension(next); count++) {
    if (count === EXTENSION_LIMIT) return Drop.malformed;
    if (next === PROTO_HOP_BY_HOP && count > 0) return Drop.malformed;
    if (at + 8 > end) return Drop.bad_length;
    const kind = next;
    next = bytes[at]!;
    if (kind === PROTO_FRAGMENT) {
      // One packet, one Fragment header.
      if (out.fragmentHeaderOffset !== 0) return Drop.malformed;
      const field = readU16(bytes, at + 2);
      out.fragmentHeaderOffset = at;
      out.identification = readU32(bytes, at + 4);
      out.fragmentOffset = field & 0xfff8;
      out.moreFragments = (field & 1) !== 0;
      out.isFragment = out.fragmentOffset > 0 || out.moreFragments;
      at += IPV6_FRAGMENT_HEADER;
      if (out.fragmentOffset > 0) break;
      continue;
    }
    out.hasOptions = true;
    if (kind === PROTO_ROUTING && bytes[at + 3]! > 0) out.isSourceRouted = true;
    at += kind === PROTO_AH ? (bytes[at + 1]! + 2) * 4 : (bytes[at + 1]! + 1) * 8;
    if (at > end) return Drop.bad_length;
  }
  out.protocol = next;
  out.headerLength = at - offset;
  return Drop.none;
}

function isExtension(protocol: number): boolean {
  switch (protocol) {
    case PROTO_HOP_BY_HOP:
    case PROTO_ROUTING:
    case PROTO_FRAGMENT:
    case PROTO_DESTINATION_OPTIONS:
    case PROTO_AH:
    case PROTO_MOBILITY:
    case PROTO_HIP:
    case PROTO_SHIM6:
      return true;
    default:
      return false;
  }
}

/** Fields of an IPv6 header; address words are those of `IpAddress`. */
export interface Ipv6Fields {
  /** 0 … 255 */
  trafficClass: number;
  /** 0 … 2^20 − 1 */
  flowLabel: number;
  /** Bytes after the fixed header, 0 … 65,535. */
  payloadLength: number;
  nextHeader: number;
  hopLimit: number;
  source0: number;
  source1: number;
  source2: number;
  source3: number;
  destination0: number;
  destination1: number;
  destination2: number;
  destination3: number;
}

/** Writes the 40-byte header; every field is cut to its width. */
export function writeIpv6(bytes: Uint8Array, offset: number, fields: Ipv6Fields): void {
  writeU32(bytes, offset, (6 << 28) | ((fields.trafficClass & 0xff) << 20) | (fields.flowLabel & 0xfffff));
  writeU16(bytes, offset + 4, fields.payloadLength);
  bytes[offset + 6] = fields.nextHeader;
  bytes[offset + 7] = fields.hopLimit;
  writeU32(bytes, offset + 8, fields.source0);
  writeU32(bytes, offset + 12, fields.source1);
  writeU32(bytes, offset + 16, fields.source2);
  writeU32(bytes, offset + 20, fields.source3);
  writeU32(bytes, offset + 24, fields.destination0);
  writeU32(bytes, offset + 28, fields.destination1);
  writeU32(bytes, offset + 32, fields.destination2);
  writeU32(bytes, offset + 36, fields.destination3);
}

/** Reads the fixed header at `offset`. */
export function readIpv6(bytes: Uint8Array, offset: number, out: Ipv6Fields): void {
  const first = readU32(bytes, offset);
  out.trafficClass = (first >>> 20) & 0xff;
  out.flowLabel = first & 0xfffff;
  out.payloadLength = readU16(bytes, offset + 4);
  out.nextHeader = bytes[offset + 6]!;
  out.hopLimit = bytes[offset + 7]!;
  out.source0 = readU32(bytes, offset + 8);
  out.source1 = readU32(bytes, offset + 12);
  out.source2 = readU32(bytes, offset + 16);
  out.source3 = readU32(bytes, offset + 20);
  out.destination0 = readU32(bytes, offset + 24);
  out.destination1 = readU32(bytes, offset + 28);
  out.destination2 = readU32(bytes, offset + 32);
  out.destination3 = readU32(bytes, offset + 36);
}

/** Writes a Fragment header of 8 bytes. `fragmentOffset` in bytes, a multiple of 8. */
export function writeFragmentHeader(
  bytes: Uint8Array,
  offset: number,
  nextHeader: number,
  fragmentOffset: number,
  moreFragments: boolean,
  identification: number,
): void {
  bytes[offset] = nextHeader;
  bytes[offset + 1] = 0;
  writeU16(bytes, offset + 2, (fragmentOffset & 0xfff8) | (moreFragments ? 1 : 0));
  writeU32(bytes, offset + 4, identification);
}
