/**
 * UDP of a stack: datagrams in to the application, datagrams out of any size.
 *
 *   source port │ destination port │ length │ checksum        0 = none: legal in IPv4, not in IPv6
 *
 * RFC 768, RFC 8200 §8.1, RFC 1122 §4.1.
 */
import { ADDRESS_WORDS } from '../base/address.js';
import { Drop, type DropReason } from '../base/drop.js';
import type { Arena } from '../wire/arena.js';
import { readU16, writeU16 } from '../wire/bytes.js';
import { finishUdp, sumOfWord, sumRange } from '../wire/checksum.js';
import type { ParsedPacket } from '../wire/inner.js';
import { PROTO_UDP, UDP_HEADER } from '../wire/ip.js';
import { Count } from './counters.js';
import { FLOW_WORDS } from './flow.js';
import { transportIntact } from './intact.js';
import type { IpOutput } from './ip-output.js';
import type { Rejection, StackHandlers } from './types.js';

export class Udp {
  /** Source and destination of the datagram being handled or sent. */
  readonly #addresses = new Uint32Array(FLOW_WORDS);

  constructor(
    readonly handlers: StackHandlers,
    readonly output: IpOutput,
    readonly counts: Float64Array,
    /** Answers a datagram with an ICMP error. */
    readonly refuse: (packet: ParsedPacket, arena: Arena, how: Rejection) => void,
  ) {}

  /** One packet, or a run of datagrams of `segmentSize` bytes each behind one header (the last may be shorter). */
  receive(arena: Arena, packet: ParsedPacket, segmentSize: number, checked: boolean): DropReason {
    const noChecksum = readU16(arena.bytes, packet.transportOffset + 6) === 0;
    if (noChecksum && packet.family === 6) return Drop.bad_checksum;
    // The checksum covers the datagram; what may follow it in the packet (RFC 9868) is not part of it.
    const covered = UDP_HEADER + packet.payloadLength;
    if (!noChecksum && !checked && !transportIntact(arena, packet, covered)) return Drop.bad_checksum;
    const { onUdp } = this.handlers;
    if (onUdp === undefined) return Drop.no_handler;
    const a = this.#addresses;
    packAddresses(packet, a);
    const step = segmentSize > 0 ? segmentSize : packet.payloadLength;
    const end = packet.payloadOffset + packet.payloadLength;
    let at = packet.payloadOffset;
    do {
      const n = Math.min(step, end - at);
      this.counts[Count.udp_in]++;
      const refused = this.handlers.onUdp!(a, arena.bytes, at, n);
      if (refused !== undefined) {
        this.refuse(packet, arena, refused);
        return Drop.denied;
      }
      at += n;
    } while (at < end);
    return Drop.none;
  }

  /** Sends a datagram from the packed address `from` to `to`. `too_big` or `bad_address` when it cannot be sent. */
  send(
    addresses: Uint32Array,
    from: number,
    to: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): DropReason {
    const a = this.#addresses;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      a[i] = addresses[from * ADDRESS_WORDS + i];
      a[ADDRESS_WORDS + i] = addresses[to * ADDRESS_WORDS + i];
    }
    if ((a[2] === V4_MAPPED && (a[0] | a[1]) === 0) !== (a[7] === V4_MAPPED && (a[5] | a[6]) === 0)) {
      return Drop.bad_address;
    }
    const total = UDP_HEADER + length;
    if (total > this.output.longest(a)) return Drop.too_big;
    const scratch = this.output.scratch;
    const at = this.output.messageOffset(a);
    const b = scratch.bytes;
    writeU16(b, at, a[4]);
    writeU16(b, at + 2, a[9]);
    writeU16(b, at + 4, total);
    writeU16(b, at + 6, 0);
    b.set(bytes.subarray(offset, offset + length), at + UDP_HEADER);
    writeU16(b, at + 6, finishUdp(sumRange(scratch, at, total, pseudoOf(a, PROTO_UDP, total))));
    this.counts[Count.udp_out]++;
    this.output.send(a, PROTO_UDP, total);
    return Drop.none;
  }
}

const V4_MAPPED = 0xffff;

/** Source (index 0) and destination (index 1) of a packet as packed socket addresses. */
export function packAddresses(packet: ParsedPacket, words: Uint32Array): void {
  words[0] = packet.source0;
  words[1] = packet.source1;
  words[2] = packet.source2;
  words[3] = packet.source3;
  words[4] = packet.sourcePort;
  words[5] = packet.destination0;
  words[6] = packet.destination1;
  words[7] = packet.destination2;
  words[8] = packet.destination3;
  words[9] = packet.destinationPort;
}

/** Sum of the pseudo-header for two packed addresses of one family. An IPv4 address is its last word. */
export function pseudoOf(words: Uint32Array, protocol: number, length: number): number {
  let sum = protocol + length;
  const first = words[2] === V4_MAPPED && (words[0] | words[1]) === 0 ? 3 : 0;
  for (let i = first; i < 4; i++) sum += sumOfWord(words[i]) + sumOfWord(words[ADDRESS_WORDS + i]);
  return sum;
}
