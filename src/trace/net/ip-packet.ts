/**
 * Whole IP packets for probes: header, transport, checksums, in one arena.
 *
 *   │ IPv4 (20) or IPv6 (40) │ transport header │ payload, zeros up to the wanted size │
 *
 * RFC 791, RFC 8200, RFC 768, RFC 9293 §3.1, RFC 792, RFC 4443.
 */
import type { IpAddress } from '../../base/address.js';
import type { Arena } from '../../wire/arena.js';
import { readU16, writeU16 } from '../../wire/bytes.js';
import { finish, pseudoSum, sumRange } from '../../wire/checksum.js';
import { completeIcmp } from '../../wire/icmp.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP, PROTO_UDP } from '../../wire/ip.js';
import { writeIpv4 } from '../../wire/ipv4.js';
import { writeIpv6 } from '../../wire/ipv6.js';
import { completeUdp } from '../../wire/udp.js';

/** What the header says, and how long the whole is. */
export interface PacketHead {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** The transport protocol, of the family's own numbers. */
  readonly protocol: number;
  readonly ttl: number;
  /** TOS or traffic class. */
  readonly tos: number;
  /** IPv4 only. */
  readonly identification: number;
  readonly dontFragment: boolean;
}

export const headerLength = (address: IpAddress): number => (address.isV4 ? IPV4_HEADER : IPV6_HEADER);

/** Writes the header at 0 for `transportLength` bytes; returns where the transport begins. */
export function writeHead(arena: Arena, head: PacketHead, transportLength: number): number {
  const { source, destination } = head;
  if (source.isV4) {
    return writeIpv4(arena.bytes, 0, {
      trafficClass: head.tos,
      totalLength: IPV4_HEADER + transportLength,
      identification: head.identification,
      dontFragment: head.dontFragment,
      moreFragments: false,
      fragmentOffset: 0,
      hopLimit: head.ttl,
      protocol: head.protocol,
      source: source.w3,
      destination: destination.w3,
    });
  }
  writeIpv6(arena.bytes, 0, {
    trafficClass: head.tos,
    flowLabel: 0,
    payloadLength: transportLength,
    nextHeader: head.protocol,
    hopLimit: head.ttl,
    source0: source.w0,
    source1: source.w1,
    source2: source.w2,
    source3: source.w3,
    destination0: destination.w0,
    destination1: destination.w1,
    destination2: destination.w2,
    destination3: destination.w3,
  });
  return IPV6_HEADER;
}

/** Fills in the transport checksum of the packet at 0; returns it. */
export function completeTransport(arena: Arena, start: number, length: number, protocol: number): number {
  if (protocol === PROTO_UDP) {
    completeUdp(arena, 0, start, length);
    return readU16(arena.bytes, start + 6);
  }
  if (protocol === PROTO_TCP) {
    writeU16(arena.bytes, start + 16, 0);
    const checksum = finish(sumRange(arena, start, length, pseudoSum(arena.bytes, 0, protocol, length)));
    writeU16(arena.bytes, start + 16, checksum);
    return checksum;
  }
  completeIcmp(arena, 0, start, length);
  return readU16(arena.bytes, start + 2);
}
