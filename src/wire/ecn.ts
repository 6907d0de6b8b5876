/**
 * Explicit congestion notification in an IP header: the low two bits of type of service (IPv4) or traffic class (IPv6).
 *
 *   00 not ECT     01 ECT(1)     10 ECT(0)     11 CE
 *
 * RFC 3168 §5 (code points, what a router may change), RFC 1624 (the IPv4 checksum goes along).
 */
import { readU16, writeU16 } from './bytes.js';
import { updateChecksum } from './checksum.js';

export const ECN_NOT_ECT = 0;
export const ECN_ECT1 = 1;
export const ECN_ECT0 = 2;
export const ECN_CE = 3;

/** The code point of the IPv4 or IPv6 header at `offset`. */
export function ecnOf(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! >>> 4 === 4 ? bytes[offset + 1]! & 3 : (bytes[offset + 1]! >>> 4) & 3;
}

/**
 * Sets "congestion experienced" in the IP header at `offset`, which must be whole. False, and nothing is changed, when the sender
 * does not understand it (not ECT), or what stands there is not a header (a fragment, a copy): such a packet is dropped instead.
 */
export function markCongestion(bytes: Uint8Array, offset: number): boolean {
  const version = bytes[offset]! >>> 4;
  if (version !== 4 && version !== 6) return false;
  const code = ecnOf(bytes, offset);
  if (code === ECN_NOT_ECT) return false;
  if (code === ECN_CE) return true;
  if (version === 6) {
    bytes[offset + 1]! |= ECN_CE << 4;
    return true;
  }
  const before = readU16(bytes, offset);
  bytes[offset + 1]! |= ECN_CE;
  writeU16(bytes, offset + 10, updateChecksum(readU16(bytes, offset + 10), before, readU16(bytes, offset)));
  return true;
}
