/**
 * Segmentation: one packet or super-segment, as a TUN device with offload hands it over or our own stack emits it, becomes
 * packets with complete checksums in an arena.
 *
 *   vnet │ IP │ TCP │ 1 … 64 KB of payload ──►  IP │ TCP │ gsoSize   IP │ TCP │ gsoSize   …   IP │ TCP │ rest
 *                                               ▲                   ▲
 *   table: offset, length pairs ────────────────┘ multiples of 4 ───┘
 *
 * Per segment k: IPv4 identification + k, sequence + k · gsoSize, FIN and PSH on the last only, CWR on the first only.
 * RFC 9293 §3.1, RFC 3168 §6.1.2 (CWR once), RFC 6864 (identification), RFC 768; type names from VIRTIO 1.2 §5.1.6.
 */
import { Drop } from '../base/drop.js';
import { type Arena, align, copyBytes } from './arena.js';
import { readU16, readU32, writeU16, writeU32 } from './bytes.js';
import { copyAndSum, finish, finishUdp, pseudoSum, sumBytes, sumOfWord, sumRange } from './checksum.js';
import { IP_LENGTH_MAX, IPV4_HEADER, IPV6_HEADER, PROTO_TCP, PROTO_UDP, TCP_HEADER, UDP_HEADER } from './ip.js';
import { OPEN_MARK, TCP_CHECKSUM } from './open-checksum.js';
import { TCP_CWR, TCP_FIN, TCP_PSH } from './tcp.js';
import { GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VNET_NEEDS_CSUM, type VnetFields } from './vnet.js';

const UDP_CHECKSUM = 6;

/**
 * Cuts the packet of `length` bytes at `offset` of `source` as `header` says and writes the pieces to `target` from
 * `targetOffset` on (rounded up to a multiple of 4), with an `offset, length` pair each in `table` from entry `tableIndex` on.
 *
 * With `leavesOpen` segments of TCP leave their checksum open where their form allows it (open-checksum.ts): nothing is summed.
 *
 * Returns the number of packets, or a negated drop reason: `bad_length` and `malformed` (the packet contradicts its header),
 * `protocol_not_allowed` (a gso type that is never asked for), `no_room` (target or table too small; nothing is valid).
 */
export function segment(
  source: Arena,
  offset: number,
  length: number,
  header: VnetFields,
  target: Arena,
  targetOffset: number,
  table: Uint32Array,
  tableIndex: number,
  leavesOpen = false,
): number {
  if (length < IPV4_HEADER) return -Drop.bad_length;
  const type = header.gsoType & ~GSO_ECN;
  if (type === GSO_NONE) return copyPacket(source, offset, length, header, target, targetOffset, table, tableIndex);
  const bytes = source.bytes;
  const isV6 = bytes[offset]! >>> 4 === 6;
  if (isV6 ? type === GSO_TCPV4 || length < IPV6_HEADER : type === GSO_TCPV6 || bytes[offset]! >>> 4 !== 4) {
    return -Drop.malformed;
  }
  const start = transportStart(bytes, offset, isV6, header);
  if (type === GSO_UDP_L4) {
    if (start < IPV4_HEADER || start + UDP_HEADER > length) return -Drop.bad_length;
    if (!isV6 && bytes[offset + 9] !== PROTO_UDP) return -Drop.malformed;
  } else {
    if (type !== GSO_TCPV4 && type !== GSO_TCPV6) return -Drop.protocol_not_allowed;
    if (start < IPV4_HEADER || start + TCP_HEADER > length) return -Drop.bad_length;
    if (!isV6 && bytes[offset + 9] !== PROTO_TCP) return -Drop.malformed;
  }
  const tcpLength = type === GSO_UDP_L4 ? UDP_HEADER : (bytes[offset + start + 12]! >>> 4) * 4;
  const headerLength = start + tcpLength;
  if (tcpLength < (type === GSO_UDP_L4 ? UDP_HEADER : TCP_HEADER) || headerLength > length) return -Drop.bad_length;
  return segmentPayload(
    source,
    offset,
    start,
    headerLength,
    source,
    offset + headerLength,
    length - headerLength,
    header.gsoSize,
    type === GSO_UDP_L4,
    target,
    targetOffset,
    table,
    tableIndex,
    leavesOpen,
  );
}

/** Bytes of IP header (with options or extension headers). */
function transportStart(bytes: Uint8Array, offset: number, isV6: boolean, header: VnetFields): number {
  if (!isV6) return (bytes[offset]! & 15) * 4;
  const next = bytes[offset + 6]!;
  // Behind extension headers only the kernel's own mark tells where TCP begins.
  return next === PROTO_TCP || next === PROTO_UDP ? IPV6_HEADER : header.csumStart;
}

/**
 * The same for headers and payload in different places, as a stack with a send buffer has them: the header template of
 * `headerLength` bytes at `headerOffset` of `headers` (IP header of `start` bytes and then TCP, or UDP if `isUdp`; lengths,
 * identification, flags and checksums are fixed up from it; it is left as it was), and `payloadLength` bytes at `payloadOffset` of
 * `payload`. Segments of `gsoSize` bytes; a multiple of 4 and 4-aligned payload are fastest. One copy, checksum included.
 */
export function segmentPayload(
  headers: Arena,
  headerOffset: number,
  start: number,
  headerLength: number,
  payload: Arena,
  payloadOffset: number,
  payloadLength: number,
  gsoSize: number,
  isUdp: boolean,
  target: Arena,
  targetOffset: number,
  table: Uint32Array,
  tableIndex: number,
  leavesOpen = false,
): number {
  if (gsoSize === 0) return -Drop.malformed;
  const first = align(targetOffset);
  const count = payloadLength === 0 ? 1 : Math.ceil(payloadLength / gsoSize);
  const largest = headerLength + Math.min(gsoSize, payloadLength);
  if (largest > IP_LENGTH_MAX) return -Drop.too_big;
  const lastLength = headerLength + payloadLength - (count - 1) * gsoSize;
  if (first + (count - 1) * align(largest) + lastLength > target.size || (tableIndex + count) * 2 > table.length) {
    return -Drop.no_room;
  }
  const h = headers.bytes;
  const bytes = target.bytes;
  const isV4 = h[headerOffset]! >>> 4 === 4;
  const transport = headerOffset + start;
  const transportLength = headerLength - start;
  // Sums of everything that is equal in all segments.
  const identification = readU16(h, headerOffset + 4);
  const ipSum = isV4
    ? sumBytes(h, headerOffset, start) - readU16(h, headerOffset + 2) - identification - readU16(h, headerOffset + 10)
    : 0;
  const protocol = isUdp ? PROTO_UDP : PROTO_TCP;
  let fixedSum = pseudoSum(h, headerOffset, protocol, 0) + sumBytes(h, transport, transportLength);
  let sequence = 0;
  let flags = 0;
  if (isUdp) fixedSum -= readU16(h, transport + 4) + readU16(h, transport + UDP_CHECKSUM);
  else {
    sequence = readU32(h, transport + 4);
    flags = h[transport + 13]!;
    fixedSum -= sumOfWord(sequence) + flags + readU16(h, transport + TCP_CHECKSUM);
  }
  const checksumAt = start + (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
  const isOpen = leavesOpen && !isUdp && start === (isV4 ? IPV4_HEADER : IPV6_HEADER);

  let from = payloadOffset;
  let left = payloadLength;
  let to = first;
  let entry = tableIndex * 2;
  for (let k = 0; k < count; k++) {
    const n = Math.min(left, gsoSize);
    const total = headerLength + n;
    copyBytes(headers, headerOffset, target, to, headerLength);
    let sum = 0;
    if (isOpen) copyBytes(payload, from, target, to + headerLength, n);
    else sum = fixedSum + copyAndSum(payload, from, target, to + headerLength, n) + transportLength + n;
    if (isV4) {
      const id = (identification + k) & 0xffff;
      writeU16(bytes, to + 2, total);
      writeU16(bytes, to + 4, id);
      writeU16(bytes, to + 10, finish(ipSum + total + id));
    } else writeU16(bytes, to + 4, total - IPV6_HEADER);
    if (isUdp) {
      writeU16(bytes, to + start + 4, transportLength + n);
      sum += transportLength + n;
      writeU16(bytes, to + checksumAt, finishUdp(sum));
    } else {
      const seq = (sequence + k * gsoSize) >>> 0;
      let own = flags;
      if (k > 0) own &= ~TCP_CWR;
      if (k < count - 1) own &= ~(TCP_FIN | TCP_PSH);
      writeU32(bytes, to + start + 4, seq);
      bytes[to + start + 13] = own;
      if (isOpen) {
        bytes[to]! |= OPEN_MARK;
        writeU16(bytes, to + checksumAt, 0);
      } else writeU16(bytes, to + checksumAt, finish(sum + sumOfWord(seq) + own));
    }
    table[entry] = to;
    table[entry + 1] = total;
    entry += 2;
    from += n;
    left -= n;
    to = align(to + total);
  }
  return count;
}

/** A packet that is not a super-segment; completes its checksum when the kernel left that to us. */
function copyPacket(
  source: Arena,
  offset: number,
  length: number,
  header: VnetFields,
  target: Arena,
  targetOffset: number,
  table: Uint32Array,
  tableIndex: number,
): number {
  const to = align(targetOffset);
  if (to + length > target.size || (tableIndex + 1) * 2 > table.length) return -Drop.no_room;
  copyBytes(source, offset, target, to, length);
  if (header.flags & VNET_NEEDS_CSUM) {
    const start = header.csumStart;
    const field = start + header.csumOffset;
    if (field + 2 > length) return -Drop.malformed;
    // The field holds the pseudo-header's sum, so the sum over the range completes it.
    const sum = sumRange(target, to + start, length - start);
    writeU16(target.bytes, to + field, header.csumOffset === UDP_CHECKSUM ? finishUdp(sum) : finish(sum));
  }
  table[tableIndex * 2] = to;
  table[tableIndex * 2 + 1] = length;
  return 1;
}
