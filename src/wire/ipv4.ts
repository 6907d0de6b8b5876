/**
 * IPv4: reading and writing the 20-byte header.
 *
 *   0        4        8                 16                     32
 *   ┌────────┬────────┬─────────────────┬──────────────────────┐
 *   │version │ IHL    │ type of service │ total length         │
 *   ├────────┴────────┴─────────────────┼──────┬───────────────┤
 *   │ identification                    │0 DF M│ offset / 8    │
 *   ├─────────────────┬─────────────────┼──────┴───────────────┤
 *   │ time to live    │ protocol        │ header checksum      │
 *   ├─────────────────┴─────────────────┴──────────────────────┤
 *   │ source · destination                                     │
 *   └──────────────────────────────────────────────────────────┘
 *
 * RFC 791 §3.1, RFC 6864 (identification of an atomic datagram means nothing), RFC 2474 / 3168 (type of service).
 */
import { readU16, readU32, writeU16, writeU32 } from './bytes.js';
import { writeIpv4Checksum } from './checksum.js';
import { IPV4_HEADER } from './ip.js';

const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;

/** Fields of an IPv4 header without options. */
export interface Ipv4Fields {
  /** DSCP and ECN, 0 … 255. */
  trafficClass: number;
  /** Header and payload, 20 … 65,535. */
  totalLength: number;
  /** 0 … 65,535 */
  identification: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** In bytes, a multiple of 8 below 65,536. */
  fragmentOffset: number;
  hopLimit: number;
  protocol: number;
  /** Unsigned words. */
  source: number;
  destination: number;
}

/** Writes a header with its checksum; every field is cut to its width. Returns its length, 20. */
export function writeIpv4(bytes: Uint8Array, offset: number, fields: Ipv4Fields): number {
  bytes[offset] = 0x45;
  bytes[offset + 1] = fields.trafficClass;
  writeU16(bytes, offset + 2, fields.totalLength);
  writeU16(bytes, offset + 4, fields.identification);
  const flags = (fields.dontFragment ? DONT_FRAGMENT : 0) | (fields.moreFragments ? MORE_FRAGMENTS : 0);
  writeU16(bytes, offset + 6, flags | ((fields.fragmentOffset >>> 3) & 0x1fff));
  bytes[offset + 8] = fields.hopLimit;
  bytes[offset + 9] = fields.protocol;
  writeU32(bytes, offset + 12, fields.source);
  writeU32(bytes, offset + 16, fields.destination);
  writeIpv4Checksum(bytes, offset);
  return IPV4_HEADER;
}

/** Reads the fixed part of the header at `offset`. */
export function readIpv4(bytes: Uint8Array, offset: number, out: Ipv4Fields): void {
  const fragment = readU16(bytes, offset + 6);
  out.trafficClass = bytes[offset + 1]!;
  out.totalLength = readU16(bytes, offset + 2);
  out.identification = readU16(bytes, offset + 4);
  out.dontFragment = (fragment & DONT_FRAGMENT) !== 0;
  out.moreFragments = (fragment & MORE_FRAGMENTS) !== 0;
  out.fragmentOffset = (fragment & 0x1fff) << 3;
  out.hopLimit = bytes[offset + 8]!;
  out.protocol = bytes[offset + 9]!;
  out.source = readU32(bytes, offset + 12);
  out.destination = readU32(bytes, offset + 16);
}
