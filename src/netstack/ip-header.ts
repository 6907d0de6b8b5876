/**
 * IP headers of the packets a stack makes: no options, DF set, from a flow key (source at word 0, destination at word 5).
 *
 * RFC 791, RFC 8200, RFC 6864 §4.1 (the identification of an unfragmented packet means nothing).
 */
import { readU16, writeU16, writeU32 } from '../wire/bytes.js';
import { finish, pseudoSum, sumBytes, writeIpv4Checksum } from '../wire/checksum.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP } from '../wire/ip.js';

/** Time to live and hop limit of what a stack sends (IANA's recommended default). */
export const HOP_LIMIT = 64;
const DONT_FRAGMENT = 0x4000;
const V4_MAPPED = 0xffff;

/** Whether the packed address at word `at` is an IPv4 one. */
export const isV4At = (words: Uint32Array, at: number): boolean =>
  words[at + 2] === V4_MAPPED && words[at] === 0 && words[at + 1] === 0;

export const ipHeaderLength = (words: Uint32Array): number => (isV4At(words, 0) ? IPV4_HEADER : IPV6_HEADER);

/** Writes the header of a packet of `total` bytes at offset 0, the IPv4 checksum included. */
export function writeIpHeader(
  bytes: Uint8Array,
  words: Uint32Array,
  protocol: number,
  total: number,
  identification: number,
): void {
  if (isV4At(words, 0)) {
    bytes[0] = 0x45;
    bytes[1] = 0;
    writeU16(bytes, 2, total);
    writeU16(bytes, 4, identification);
    writeU16(bytes, 6, DONT_FRAGMENT);
    bytes[8] = HOP_LIMIT;
    bytes[9] = protocol;
    writeU16(bytes, 10, 0);
    writeU32(bytes, 12, words[3]);
    writeU32(bytes, 16, words[8]);
    writeIpv4Checksum(bytes, 0);
    return;
  }
  writeU32(bytes, 0, 6 << 28);
  writeU16(bytes, 4, total - IPV6_HEADER);
  bytes[6] = protocol;
  bytes[7] = HOP_LIMIT;
  for (let i = 0; i < 4; i++) {
    writeU32(bytes, 8 + 4 * i, words[i]);
    writeU32(bytes, 24 + 4 * i, words[5 + i]);
  }
}

/** Fills in the TCP checksum of the packet of `total` bytes at `offset`, whose IP header is `ip` bytes long. */
export function completeTcp(bytes: Uint8Array, offset: number, ip: number, total: number): void {
  const at = offset + ip;
  const sum = sumBytes(bytes, at, total - ip, pseudoSum(bytes, offset, PROTO_TCP, total - ip));
  writeU16(bytes, at + 16, finish(sum - readU16(bytes, at + 16)));
}
