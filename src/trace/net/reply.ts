/**
 * One captured packet, read as far as every method needs it: the packet itself and, in an ICMP error, the probe it quotes.
 *
 *   IP │ ICMP error │ quoted IP header │ quoted transport header (8 bytes at least) │ … │ extensions
 *   IP │ echo reply,  TCP,  UDP
 *
 * Whatever does not read well is noise. RFC 792, RFC 4443, RFC 1812 §4.3.2.3, RFC 4884.
 */
import { IpAddress } from '../../base/address.js';
import { Drop } from '../../base/drop.js';
import { type Instant, instantAt } from '../../base/time.js';
import { readU16 } from '../../wire/bytes.js';
import { isIntact, pseudoSum, sumBytes } from '../../wire/checksum.js';
import {
  announcedMtu,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  ICMPV6_PACKET_TOO_BIG,
  ICMPV6_PARAMETER_PROBLEM,
  ICMPV6_TIME_EXCEEDED,
  ICMPV6_UNREACHABLE,
  isIcmpError,
} from '../../wire/icmp.js';
import { type IcmpExtensionObjects, readIcmpExtensions } from '../../wire/icmp-extensions.js';
import { QuotedPacket, readQuote } from '../../wire/icmp-quote.js';
import { ParsedPacket, parsePacket } from '../../wire/inner.js';
import { ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, PROTO_ICMP, PROTO_ICMPV6 } from '../../wire/ip.js';

/** What an ICMP error says, as far as a trace cares. */
export type ErrorKind = 'time_exceeded' | 'unreachable' | 'packet_too_big';

/** Reused from packet to packet. */
export class Reply {
  bytes: Uint8Array = new Uint8Array(0);
  at: Instant = instantAt(0);
  readonly packet = new ParsedPacket();
  /** Filled when `error` is not undefined. */
  readonly quote = new QuotedPacket();
  /** Undefined: no ICMP error. */
  error: ErrorKind | undefined;

  /** False for noise. Link-layer padding behind the packet is ignored. */
  read(bytes: Uint8Array, offset: number, length: number, at: Instant): boolean {
    const { packet } = this;
    if (length < IPV4_HEADER) return false;
    const declared = bytes[offset]! >>> 4 === 4 ? readU16(bytes, offset + 2) : IPV6_HEADER + readU16(bytes, offset + 4);
    if (parsePacket(bytes, offset, Math.min(length, declared), packet) !== Drop.none || packet.isFragment) return false;
    this.bytes = bytes;
    this.at = at;
    this.error = undefined;
    const isIcmp = packet.protocol === (packet.family === 4 ? PROTO_ICMP : PROTO_ICMPV6);
    if (!isIcmp) return true;
    // Nobody computes ICMP checksums late, as network cards do for TCP and UDP: a wrong one is an error.
    const { transportOffset, transportLength, protocol } = packet;
    const initial = packet.family === 4 ? 0 : pseudoSum(bytes, offset, protocol, transportLength);
    if (!isIntact(sumBytes(bytes, transportOffset, transportLength, initial))) return false;
    if (!isIcmpError(packet)) return true;
    this.error = icmpErrorKind(packet.family, packet.icmpType, packet.icmpCode);
    return this.error !== undefined && readQuote(bytes, packet, this.quote);
  }

  get from(): IpAddress {
    const { source0, source1, source2, source3 } = this.packet;
    return new IpAddress(source0, source1, source2, source3);
  }

  isFrom(address: IpAddress): boolean {
    const { packet } = this;
    return (
      packet.source3 === address.w3 &&
      packet.source2 === address.w2 &&
      packet.source1 === address.w1 &&
      packet.source0 === address.w0
    );
  }

  isTo(address: IpAddress): boolean {
    const { packet } = this;
    return (
      packet.destination3 === address.w3 &&
      packet.destination2 === address.w2 &&
      packet.destination1 === address.w1 &&
      packet.destination0 === address.w0
    );
  }

  quotesSource(address: IpAddress): boolean {
    const { quote } = this;
    return (
      quote.source3 === address.w3 &&
      quote.source2 === address.w2 &&
      quote.source1 === address.w1 &&
      quote.source0 === address.w0
    );
  }

  quotesDestination(address: IpAddress): boolean {
    const { quote } = this;
    return (
      quote.destination3 === address.w3 &&
      quote.destination2 === address.w2 &&
      quote.destination1 === address.w1 &&
      quote.destination0 === address.w0
    );
  }

  /** TTL in the quoted header. */
  get quotedTtl(): number {
    return this.bytes[this.#quoteAt() + (this.packet.family === 4 ? 8 : 7)]!;
  }

  /** Identification of the quoted IPv4 header; payload length of the quoted IPv6 header. */
  get quotedMark(): number {
    return readU16(this.bytes, this.#quoteAt() + 4);
  }

  /** The 16 bits at `offset` of the quoted transport header, 0 … 6. */
  quoted16(offset: number): number {
    return readU16(this.bytes, this.quote.transportOffset + offset);
  }

  get extensions(): IcmpExtensionObjects | undefined {
    return readIcmpExtensions(this.bytes, this.packet);
  }

  get mtu(): number {
    return announcedMtu(this.bytes, this.packet);
  }

  #quoteAt(): number {
    return this.packet.transportOffset + ICMP_HEADER;
  }
}

/** Undefined for errors that say nothing about the way (redirects, reassembly time-outs …). */
export function icmpErrorKind(family: number, type: number, code: number): ErrorKind | undefined {
  if (family === 4) {
    if (type === ICMP_TIME_EXCEEDED) return 'time_exceeded';
    if (type !== ICMP_UNREACHABLE) return undefined;
    return code === ICMP_FRAGMENTATION_NEEDED ? 'packet_too_big' : 'unreachable';
  }
  if (type === ICMPV6_TIME_EXCEEDED) return 'time_exceeded';
  if (type === ICMPV6_PACKET_TOO_BIG) return 'packet_too_big';
  // Unrecognized next header: the host does not speak the protocol, as IPv4's "protocol unreachable".
  const noProtocol = type === ICMPV6_PARAMETER_PROBLEM && code === 1;
  return type === ICMPV6_UNREACHABLE || noProtocol ? 'unreachable' : undefined;
}
