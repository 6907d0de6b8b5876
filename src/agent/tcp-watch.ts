/**
 * The TCP flows that the host's programs have through a TUN device, as far as is needed to end them: when the other end has
 * forgotten a flow (a restarted connector, a grant taken away), a program that only reads would never learn of it.
 *
 *   SYN out ─► watched, its last acknowledgment kept ──RST out, or pushed out by newer ones──► forgotten
 *                  └── `reset` ──► RST to the host, at exactly the sequence number it expects (RFC 5961 §3.2)
 */
import type { ParsedPacket } from '../wire/inner.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../wire/tcp.js';
import { type HostFlow, type HostSegments, hostFlowOf } from './host-segments.js';

/** Flows watched; the oldest make room. A host rarely has more towards one network. */
const MAX_FLOWS = 8192;
export interface WatchedFlow extends HostFlow {
  /** The connector whose session carries it. */
  connector: string;
  /** What the host expects next, and what it sends next. */
  expects: number;
  sends: number;
}

export class TcpWatch {
  /** By hash of ports and remote address; insertion order is age. */
  readonly #flows = new Map<number, WatchedFlow>();
  readonly #segments: HostSegments;

  constructor(segments: HostSegments) {
    this.#segments = segments;
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
      this.#segments.send(flow, TCP_RST | TCP_ACK, flow.expects, flow.sends);
      count++;
    }
    return count;
  }
}

function flowOf(packet: ParsedPacket, connector: string): WatchedFlow {
  return { ...hostFlowOf(packet), connector, expects: 0, sends: 0 };
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
