/**
 * TCP segments without data that a node writes in the name of a flow's other end, to its own host's kernel through the TUN device or
 * to the peer of a session: resets (RFC 9293 §3.10.7), and SYNs that have the kernel tell what it expects (RFC 5961 §4).
 */
import { Arena } from '../wire/arena.js';
import { writeU16, writeU32 } from '../wire/bytes.js';
import { finish, pseudoSum, sumBytes, writeIpv4Checksum } from '../wire/checksum.js';
import type { ParsedPacket } from '../wire/inner.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP, TCP_HEADER } from '../wire/ip.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../wire/tcp.js';
import { VNET_HEADER } from '../wire/vnet.js';

/** Behind room for a virtio header, at a multiple of 4. */
const OFFSET = (VNET_HEADER + 3) & ~3;
const HOP_LIMIT = 64;

/** The four words of an address, as in `IpAddress`. */
export type AddressWords = readonly [number, number, number, number];

/** A flow of the host: `local` is the host's end. */
export interface HostFlow {
  readonly family: number;
  readonly local: AddressWords;
  readonly remote: AddressWords;
  readonly localPort: number;
  readonly remotePort: number;
}

export class HostSegments {
  readonly #arena = new Arena(OFFSET + IPV6_HEADER + TCP_HEADER);
  readonly #write: (packet: Arena, offset: number, length: number) => void;

  /** @param write takes each segment, with `VNET_HEADER` writable bytes before it; the memory is reused. */
  constructor(write: (packet: Arena, offset: number, length: number) => void) {
    this.#write = write;
  }

  /** From the flow's remote end to its local one. */
  send(flow: HostFlow, flags: number, sequence: number, acknowledgment: number): void {
    const { bytes } = this.#arena;
    const header = flow.family === 4 ? IPV4_HEADER : IPV6_HEADER;
    const length = header + TCP_HEADER;
    bytes.fill(0, OFFSET, OFFSET + length);
    if (flow.family === 4) {
      bytes[OFFSET] = 0x45;
      writeU16(bytes, OFFSET + 2, length);
      bytes[OFFSET + 8] = HOP_LIMIT;
      bytes[OFFSET + 9] = PROTO_TCP;
      writeU32(bytes, OFFSET + 12, flow.remote[3]);
      writeU32(bytes, OFFSET + 16, flow.local[3]);
      writeIpv4Checksum(bytes, OFFSET);
    } else {
      bytes[OFFSET] = 0x60;
      writeU16(bytes, OFFSET + 4, TCP_HEADER);
      bytes[OFFSET + 6] = PROTO_TCP;
      bytes[OFFSET + 7] = HOP_LIMIT;
      for (let i = 0; i < 4; i++) {
        writeU32(bytes, OFFSET + 8 + i * 4, flow.remote[i]!);
        writeU32(bytes, OFFSET + 24 + i * 4, flow.local[i]!);
      }
    }
    const tcp = OFFSET + header;
    writeU16(bytes, tcp, flow.remotePort);
    writeU16(bytes, tcp + 2, flow.localPort);
    writeU32(bytes, tcp + 4, sequence);
    writeU32(bytes, tcp + 8, acknowledgment);
    bytes[tcp + 12] = (TCP_HEADER / 4) << 4;
    bytes[tcp + 13] = flags;
    const sum = pseudoSum(bytes, OFFSET, PROTO_TCP, TCP_HEADER) + sumBytes(bytes, tcp, TCP_HEADER);
    writeU16(bytes, tcp + 16, finish(sum));
    this.#write(this.#arena, OFFSET, length);
  }

  /** Answers a packet of a flow that is over with a reset, when it is TCP and none itself. Returns whether it did. */
  dismiss(packet: ParsedPacket): boolean {
    if (packet.protocol !== PROTO_TCP || packet.fragmentOffset > 0 || (packet.tcpFlags & TCP_RST) !== 0) return false;
    const next = packet.sequence + packet.payloadLength + ((packet.tcpFlags & TCP_SYN) !== 0 ? 1 : 0);
    const expected = (packet.tcpFlags & TCP_ACK) !== 0 ? packet.acknowledgment : 0;
    this.send(hostFlowOf(packet), TCP_RST | TCP_ACK, expected, next >>> 0);
    return true;
  }
}

/** The flow that a packet of the host belongs to. */
export function hostFlowOf(packet: ParsedPacket): HostFlow {
  return {
    family: packet.family,
    local: [packet.source0, packet.source1, packet.source2, packet.source3],
    remote: [packet.destination0, packet.destination1, packet.destination2, packet.destination3],
    localPort: packet.sourcePort,
    remotePort: packet.destinationPort,
  };
}
