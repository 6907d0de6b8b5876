/**
 * What routers add behind the packet that an ICMP error quotes: the MPLS label stack it arrived with, and their interfaces.
 *
 *   ICMP header (8) │ quoted packet, padded with zeros │ extension header (4) │ object │ object │ …
 *     length: IPv4 byte 5 in words of 4, IPv6 byte 4 in words of 8          version u4 = 2 · reserved · checksum u16
 *     0: the old form, the extension begins 128 bytes behind the header     object: length u16 · class u8 · type u8 · payload
 *
 *   class 1 type 1  label stack: entries of label u20 · traffic class u3 · bottom u1 · TTL u8
 *   class 2         interface: bits of the type: role (2) · reserved (2) · index · address · name · MTU, in this order
 *
 * RFC 4884 §4, §5, §7; RFC 4950 §3; RFC 5837 §4.
 */
import { IpAddress } from '../base/address.js';
import { decodeUtf8 } from '../base/utf8.js';
import { readU16, readU32 } from './bytes.js';
import { isIntact, sumBytes } from './checksum.js';
import {
  ICMP_PARAMETER_PROBLEM,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  ICMPV6_TIME_EXCEEDED,
  ICMPV6_UNREACHABLE,
} from './icmp.js';
import type { ParsedPacket } from './inner.js';
import { ICMP_HEADER } from './ip.js';

export interface MplsLabelEntry {
  /** 0 … 2^20 − 1 */
  readonly label: number;
  readonly trafficClass: number;
  readonly bottom: boolean;
  readonly ttl: number;
}

export type InterfaceRole = 'incoming' | 'sub-ip' | 'outgoing' | 'next-hop';

export interface InterfaceEntry {
  readonly role: InterfaceRole;
  readonly index?: number;
  readonly address?: IpAddress;
  readonly name?: string;
  readonly mtu?: number;
}

export interface IcmpExtensionObjects {
  readonly mpls: MplsLabelEntry[];
  readonly interfaces: InterfaceEntry[];
}

const EXTENSION_VERSION = 2;
const EXTENSION_HEADER = 4;
const OBJECT_HEADER = 4;
/** Where the extension of the old form begins, behind the ICMP header (RFC 4884 §5.5). */
const OLD_QUOTE = 128;
const CLASS_MPLS = 1;
const CLASS_INTERFACE = 2;
const ROLES: readonly InterfaceRole[] = ['incoming', 'sub-ip', 'outgoing', 'next-hop'];
/** Address family numbers (IANA). */
const AFI_IPV4 = 1;
const AFI_IPV6 = 2;

/** The extensions of a parsed ICMP error; undefined when it has none, or none that is intact. */
export function readIcmpExtensions(bytes: Uint8Array, error: ParsedPacket): IcmpExtensionObjects | undefined {
  const quote = error.transportOffset + ICMP_HEADER;
  const end = error.transportOffset + error.transportLength;
  const length = quotedLength(bytes, error);
  if (length === undefined) return undefined;
  const at = quote + (length === 0 ? OLD_QUOTE : length);
  if (at + EXTENSION_HEADER > end || bytes[at]! >>> 4 !== EXTENSION_VERSION) return undefined;
  // In the old form only a right checksum tells an extension from the quoted packet's own bytes.
  const unchecked = readU16(bytes, at + 2) === 0 && length !== 0;
  if (!unchecked && !isIntact(sumBytes(bytes, at, end - at))) return undefined;
  const out: IcmpExtensionObjects = { mpls: [], interfaces: [] };
  for (let object = at + EXTENSION_HEADER; object + OBJECT_HEADER <= end; ) {
    const size = readU16(bytes, object);
    if (size < OBJECT_HEADER || object + size > end) break;
    const kind = bytes[object + 2];
    const type = bytes[object + 3]!;
    const start = object + OBJECT_HEADER;
    if (kind === CLASS_MPLS && type === 1) readLabels(bytes, start, object + size, out.mpls);
    else if (kind === CLASS_INTERFACE) {
      const found = readInterface(bytes, start, object + size, type);
      if (found !== undefined) out.interfaces.push(found);
    }
    object += size;
  }
  return out.mpls.length + out.interfaces.length > 0 ? out : undefined;
}

/** Bytes of the quoted packet as the length field has it; undefined for messages that cannot have extensions. */
function quotedLength(bytes: Uint8Array, error: ParsedPacket): number | undefined {
  const type = error.icmpType;
  const at = error.transportOffset;
  if (error.family === 4) {
    const may = type === ICMP_UNREACHABLE || type === ICMP_TIME_EXCEEDED || type === ICMP_PARAMETER_PROBLEM;
    return may ? bytes[at + 5]! * 4 : undefined;
  }
  return type === ICMPV6_UNREACHABLE || type === ICMPV6_TIME_EXCEEDED ? bytes[at + 4]! * 8 : undefined;
}

function readLabels(bytes: Uint8Array, start: number, end: number, out: MplsLabelEntry[]): void {
  for (let at = start; at + 4 <= end; at += 4) {
    const entry = readU32(bytes, at);
    out.push({
      label: entry >>> 12,
      trafficClass: (entry >>> 9) & 7,
      bottom: (entry & 0x100) !== 0,
      ttl: entry & 0xff,
    });
  }
}

/** Undefined when a part reaches beyond the object. */
function readInterface(bytes: Uint8Array, start: number, end: number, type: number): InterfaceEntry | undefined {
  const entry: { -readonly [K in keyof InterfaceEntry]: InterfaceEntry[K] } = { role: ROLES[type >>> 6]! };
  let at = start;
  if ((type & 0x08) !== 0) {
    if (at + 4 > end) return undefined;
    entry.index = readU32(bytes, at);
    at += 4;
  }
  if ((type & 0x04) !== 0) {
    const family = at + 4 > end ? 0 : readU16(bytes, at);
    const size = family === AFI_IPV4 ? 4 : family === AFI_IPV6 ? 16 : undefined;
    if (size === undefined || at + 4 + size > end) return undefined;
    entry.address = IpAddress.fromBytes(bytes, at + 4, size);
    at += 4 + size;
  }
  if ((type & 0x02) !== 0) {
    // The length counts itself and the padding.
    const size = at < end ? bytes[at]! : 0;
    if (size === 0 || at + size > end) return undefined;
    let stop = at + size;
    while (stop > at + 1 && bytes[stop - 1] === 0) stop--;
    const name = readName(bytes.subarray(at + 1, stop));
    if (name !== undefined) entry.name = name;
    at += size;
  }
  if ((type & 0x01) !== 0) {
    if (at + 4 > end) return undefined;
    entry.mtu = readU32(bytes, at);
  }
  return entry;
}

/** Undefined when it is not UTF-8. */
function readName(bytes: Uint8Array): string | undefined {
  try {
    return decodeUtf8(bytes);
  } catch {
    return undefined;
  }
}
