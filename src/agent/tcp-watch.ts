/**
 * The TCP flows that the host's programs have through a TUN device, as far as is needed to end them: when the other end has
 * forgotten a flow (a restarted connector, a grant taken away), a program that only reads would never learn of it.
 *
 *   SYN out ─► watched, its last acknowledgment kept ──RST out, or pushed out by newer ones──► forgotten
 *                  └── `reset` ──► RST to the host, at exactly the sequence number it expects (RFC 5961 §3.2)
 */
import { Arena } from '../wire/arena.js';
import { writeU16, writeU32 } from '../wire/bytes.js';
import { finish, pseudoSum, sumBytes, writeIpv4Checksum } from '../wire/checksum.js';
import type { ParsedPacket } from '../wire/inner.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP, TCP_HEADER } from '../wire/ip.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../wire/tcp.js';
import { VNET_HEADER } from '../wire/vnet.js';

/** Flows watched; the oldest make room. A host rarely has more towards one network. */
const MAX_FLOWS = 8192;
/** Behind room for a virtio header, at a multiple of 4. */
const OFFSET = (VNET_HEADER + 3) & ~3;
const HOP_LIMIT = 64;

/** One flow: `local` is the host's end. Address words as in `IpAddress`. */
export interface WatchedFlow {
  readonly family: number;
  readonly local: readonly [number, number, number, number];
  readonly remote: readonly [number, number, number, number];
  readonly localPort: number;
  readonly remotePort: number;
  /** The connector whose session carries it. */
  connector: string;
  /** What the host expects next, and what it sends next. */
  expects: number;
  sends: number;
}

export class TcpWatch {
  /** By hash of ports and remote address; insertion order is age. */
  readonly #flows = new Map<number, WatchedFlow>();
  readonly #arena = new Arena(OFFSET + IPV6_HEADER + TCP_HEADER);
  readonly #write: (packet: Arena, offset: number, length: number) => void;

  /** @param write takes each reset for the host, with `VNET_HEADER` writable bytes before it; the memory is reused. */
  constructor(write: (packet: Arena, offset: number, length: number) => void) {
    this.#write = write;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** A TCP packet or super-segment of the host that goes to `connector`. Allocates for a SYN only. */
  note(packet: ParsedPacket, connector: string): void {
    const key = keyOf(packet);
    let flow = this.#flows.get(key);
    if ((packet.tcpFlags & TCP_SYN) !== 0) {
      // A new flow; of two with one key the newer is watched.
      if (flow !== undefined) this.#flows.delete(key);
      else if (this.#flows.size >= MAX_FLOWS) this.#flows.delete(this.#flows.keys().next().value!);
      flow = flowOf(packet, connector);
      this.#flows.set(key, flow);
    } else if (flow === undefined || !isOf(flow, packet)) return;
    if ((packet.tcpFlags & TCP_RST) !== 0) {
      this.#flows.delete(key);
      return;
    }
    flow.connector = connector;
    if ((packet.tcpFlags & TCP_ACK) !== 0) flow.expects = packet.acknowledgment;
    flow.sends = (packet.sequence + packet.payloadLength) >>> 0;
  }

  /** Resets the flows that `isOver` names, at the host. Returns how many. */
  reset(isOver: (flow: WatchedFlow) => boolean): number {
    let count = 0;
    for (const [key, flow] of this.#flows) {
      if (!isOver(flow)) continue;
      this.#flows.delete(key);
      this.#sendReset(flow);
      count++;
    }
    return count;
  }

  #sendReset(flow: WatchedFlow): void {
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
    writeU32(bytes, tcp + 4, flow.expects);
    writeU32(bytes, tcp + 8, flow.sends);
    bytes[tcp + 12] = (TCP_HEADER / 4) << 4;
    bytes[tcp + 13] = TCP_RST | TCP_ACK;
    const sum = pseudoSum(bytes, OFFSET, PROTO_TCP, TCP_HEADER) + sumBytes(bytes, tcp, TCP_HEADER);
    writeU16(bytes, tcp + 16, finish(sum));
    this.#write(this.#arena, OFFSET, length);
  }
}

function flowOf(packet: ParsedPacket, connector: string): WatchedFlow {
  return {
    family: packet.family,
    local: [packet.source0, packet.source1, packet.source2, packet.source3],
    remote: [packet.destination0, packet.destination1, packet.destination2, packet.destination3],
    localPort: packet.sourcePort,
    remotePort: packet.destinationPort,
    connector,
    expects: 0,
    sends: 0,
  };
}

function isOf(flow: WatchedFlow, packet: ParsedPacket): boolean {
  return (
    flow.localPort === packet.sourcePort &&
    flow.remotePort === packet.destinationPort &&
    flow.remote[3] === packet.destination3 &&
    flow.remote[2] === packet.destination2 &&
    flow.remote[1] === packet.destination1 &&
    flow.remote[0] === packet.destination0
  );
}

/** 30 bits, so that the number is a small integer to the engine and no lookup allocates. */
function keyOf(packet: ParsedPacket): number {
  let hash = packet.destination3 ^ Math.imul(packet.destination2, 0x85ebca6b);
  hash ^= Math.imul(packet.destination1, 0xc2b2ae35) ^ Math.imul(packet.destination0, 0x27d4eb2f);
  hash = Math.imul(hash ^ ((packet.sourcePort << 16) | packet.destinationPort), 0x9e3779b1);
  return (hash ^ (hash >>> 15)) >>> 2;
}
