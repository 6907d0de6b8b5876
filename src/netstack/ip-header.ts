/**
 * IP headers of the packets a stack makes: no options, DF set, from a flow key (source at word 0, destination at word 5).
 *
 * RFC 791, RFC 8200, RFC 6864 §4.1 (the identification of an unfragmented packet means nothing).
 */
import { V4_MAPPED } from '../base/address.js';
import { readU16, writeU16 } from '../wire/bytes.js';
import { finish, pseudoSum, sumBytes } from '../wire/checksum.js';
import { DEFAULT_HOP_LIMIT } from '../wire/icmp.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP } from '../wire/ip.js';
import { type Ipv4Fields, writeIpv4 } from '../wire/ipv4.js';
import { type Ipv6Fields, writeIpv6 } from '../wire/ipv6.js';

const TCP_CHECKSUM = 16;

const v4: Ipv4Fields = {
  trafficClass: 0,
  totalLength: 0,
  identification: 0,
  dontFragment: true,
  moreFragments: false,
  fragmentOffset: 0,
  hopLimit: DEFAULT_HOP_LIMIT,
  protocol: 0,
  source: 0,
  destination: 0,
};
const v6: Ipv6Fields = {
  trafficClass: 0,
  flowLabel: 0,
  payloadLength: 0,
  nextHeader: 0,
  hopLimit: DEFAULT_HOP_LIMIT,
  source0: 0,
  source1: 0,
  source2: 0,
  source3: 0,
  destination0: 0,
  destination1: 0,
  destination2: 0,
  destination3: 0,
};

/** Whether the packed address at word `at` is an IPv4 one. */
export const isV4At = (words: Uint32Array, at: number): boolean =>
  words[at + 2] === V4_MAPPED && words[at] === 0 && words[at + 1] === 0;

export const ipHeaderLength = (words: Uint32Array): number => (isV4At(words, 0) ? IPV4_HEADER : IPV6_HEADER);

/** Writes the header of a packet of `total` bytes at offset 0 and returns its length. `ecn`: its ECN field, 0 … 3. */
export function writeIpHeader(
  bytes: Uint8Array,
  words: Uint32Array,
  protocol: number,
  total: number,
  identification: number,
  ecn = 0,
): number {
  if (isV4At(words, 0)) {
    v4.trafficClass = ecn;
    v4.totalLength = total;
    v4.identification = identification;
    v4.protocol = protocol;
    v4.source = words[3];
    v4.destination = words[8];
    return writeIpv4(bytes, 0, v4);
  }
  v6.trafficClass = ecn;
  v6.payloadLength = total - IPV6_HEADER;
  v6.nextHeader = protocol;
  v6.source0 = words[0];
  v6.source1 = words[1];
  v6.source2 = words[2];
  v6.source3 = words[3];
  v6.destination0 = words[5];
  v6.destination1 = words[6];
  v6.destination2 = words[7];
  v6.destination3 = words[8];
  writeIpv6(bytes, 0, v6);
  return IPV6_HEADER;
}

/** Fills in the TCP checksum of the packet of `total` bytes at offset 0, whose IP header is `ip` bytes long. */
export function completeTcp(bytes: Uint8Array, ip: number, total: number): void {
  const sum = sumBytes(bytes, ip, total - ip, pseudoSum(bytes, 0, PROTO_TCP, total - ip));
  writeU16(bytes, ip + TCP_CHECKSUM, finish(sum - readU16(bytes, ip + TCP_CHECKSUM)));
}
