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
import type { ParsedPacket } from '../wire/inner.js';
import { PROTO_UDP, UDP_HEADER } from '../wire/ip.js';
import { completeUdp, writeUdp } from '../wire/udp.js';
import { Count } from './counters.js';
import { FLOW_WORDS } from './flow.js';
import { isV4At } from './ip-header.js';
import type { IpOutput } from './ip-output.js';
import type { Rejection, StackHandlers } from './types.js';

export class Udp {
  /** What `onUdp` sees, and what `send` works in: an application may answer with the former at hand. */
  readonly #received = new Uint32Array(FLOW_WORDS);
  readonly #sent = new Uint32Array(FLOW_WORDS);

  constructor(
    readonly handlers: StackHandlers,
    readonly output: IpOutput,
    readonly counts: Float64Array,
    /** Answers a datagram with an ICMP error. */
    readonly refuse: (packet: ParsedPacket, arena: Arena, how: Rejection) => void,
  ) {}

  /** One packet, or a run of datagrams of `segmentSize` bytes each behind one header (the last may be shorter). */
  receive(arena: Arena, packet: ParsedPacket, segmentSize: number): DropReason {
    if (this.handlers.onUdp === undefined) return Drop.no_handler;
    const a = this.#received;
    packAddresses(packet, a);
    const step = segmentSize > 0 ? segmentSize : packet.payloadLength;
    const end = packet.payloadOffset + packet.payloadLength;
    let at = packet.payloadOffset;
    do {
      const n = Math.min(step, end - at);
      this.counts[Count.udp_in]++;
      const refused = this.handlers.onUdp(a, arena.bytes, at, n);
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
    const a = this.#sent;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      a[i] = addresses[from * ADDRESS_WORDS + i];
      a[ADDRESS_WORDS + i] = addresses[to * ADDRESS_WORDS + i];
    }
    if (isV4At(a, 0) !== isV4At(a, ADDRESS_WORDS)) return Drop.bad_address;
    const total = UDP_HEADER + length;
    if (total > this.output.longest(a)) return Drop.too_big;
    const { scratch } = this.output;
    const at = this.output.begin(a, PROTO_UDP, total);
    writeUdp(scratch.bytes, at, a[4], a[9], length);
    scratch.bytes.set(bytes.subarray(offset, offset + length), at + UDP_HEADER);
    completeUdp(scratch, 0, at, total);
    this.counts[Count.udp_out]++;
    this.output.send(total);
    return Drop.none;
  }
}

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
