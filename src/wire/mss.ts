/**
 * Clamping the maximum segment size that a SYN or SYN-ACK announces to what an inner MTU carries, in place.
 *
 *   MSS ≤ MTU − 20 − 20 (IPv4) or MTU − 40 − 20 (IPv6): fixed headers only, RFC 9293 §3.7.1 and RFC 6691
 */
import { readU16, writeU16 } from './bytes.js';
import { swap16, updateChecksum } from './checksum.js';
import type { ParsedPacket } from './inner.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP, TCP_HEADER } from './ip.js';
import { OPTION_MSS, TCP_SYN } from './tcp.js';

const CHECKSUM = 16;

/** The MSS that fits packets of `mtu` bytes. */
export const mssFor = (family: number, mtu: number): number =>
  mtu - (family === 4 ? IPV4_HEADER : IPV6_HEADER) - TCP_HEADER;

/**
 * Lowers the MSS option of a parsed packet; its checksum, which must be complete (not partial), is kept right. Packets that are no SYN,
 * fragments, and SYNs without the option are left alone. Returns whether anything changed.
 */
export function clampMss(bytes: Uint8Array, packet: ParsedPacket, mtu: number): boolean {
  if (packet.protocol !== PROTO_TCP || packet.fragmentOffset > 0 || (packet.tcpFlags & TCP_SYN) === 0) return false;
  const start = packet.transportOffset;
  const end = start + packet.tcpHeaderLength;
  const most = mssFor(packet.family, mtu);
  for (let at = start + TCP_HEADER; at + 1 < end; ) {
    const kind = bytes[at]!;
    if (kind === 0) return false;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1]!;
    if (length < 2 || at + length > end) return false;
    if (kind === OPTION_MSS && length === 4) {
      const before = readU16(bytes, at + 2);
      if (before <= most) return false;
      writeU16(bytes, at + 2, most);
      // At an odd place the value straddles two words of the sum, as if its bytes were exchanged.
      const isOdd = (at - start) % 2 === 1;
      const checksum = readU16(bytes, start + CHECKSUM);
      writeU16(
        bytes,
        start + CHECKSUM,
        isOdd ? updateChecksum(checksum, swap16(before), swap16(most)) : updateChecksum(checksum, before, most),
      );
      return true;
    }
    at += length;
  }
  return false;
}
