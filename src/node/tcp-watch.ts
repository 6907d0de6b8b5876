/**
 * The TCP flows that a host has through a TUN device (an agent's programs, or the services behind a connector), as far as is needed
 * to end them: when the other end has forgotten a flow (a restarted connector, a grant taken away), a program that only reads would
 * never learn of it.
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
  /** The other end of the session that carries it: the connector's name at an agent, the agent's invitation at a connector. */
  peer: string;
  /** What the host expects next, and what it sends next. */
  expects: number;
  sends: number;
}

export class TcpWatch {
  /** By hash of ports and addresses; insertion order is age. */
  readonly #flows = new Map<number, WatchedFlow>();
  readonly #segments: HostSegments;

  constructor(segments: HostSegments) {
    this.#segments = segments;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** A TCP packet or super-segment of the host that goes to `peer`. Allocates for a SYN only. */
  note(packet: ParsedPacket, peer: string): void {
    const key = keyOf(packet);
    let flow = this.#flows.get(key);
    if ((packet.tcpFlags & TCP_SYN) !== 0) {
      // A new flow; of two with one key the newer is watched.
      if (flow !== undefined) this.#flows.delete(key);
      else if (this.#flows.size >= MAX_FLOWS) this.#flows.delete(this.#flows.keys().next().value!);
      flow = flowOf(packet, peer);
      this.#flows.set(key, flow);
    } else if (flow === undefined || !isOf(flow, packet)) return;
    if ((packet.tcpFlags & TCP_RST) !== 0) {
      this.#flows.delete(key);
      return;
    }
    flow.peer = peer;
    if ((packet.tcpFlags & TCP_ACK) !== 0) flow.expects = packet.acknowledgment;
    flow.sends = (packet.sequence + packet.payloadLength) >>> 0;
  }

  /** Resets the flows that `isOver` names, at the host; `tell` is told of each, for its other end. Returns how many. */
  reset(isOver: (flow: WatchedFlow) => boolean, tell?: (flow: WatchedFlow) => void): number {
    let count = 0;
    for (const [key, flow] of this.#flows) {
      if (!isOver(flow)) continue;
      this.#flows.delete(key);
      this.#segments.send(flow, TCP_RST | TCP_ACK, flow.expects, flow.sends);
      tell?.(flow);
      count++;
    }
    return count;
  }
}

function flowOf(packet: ParsedPacket, peer: string): WatchedFlow {
  return { ...hostFlowOf(packet), peer, expects: 0, sends: 0 };
}

function isOf(flow: WatchedFlow, packet: ParsedPacket): boolean {
  return (
    flow.localPort === packet.sourcePort &&
    flow.remotePort === packet.destinationPort &&
    // Several services may have one port.
    flow.local[3] === packet.source3 &&
    flow.local[2] === packet.source2 &&
    flow.local[1] === packet.source1 &&
    flow.local[0] === packet.source0 &&
    flow.remote[3] === packet.destination3 &&
    flow.remote[2] === packet.destination2 &&
    flow.remote[1] === packet.destination1 &&
    flow.remote[0] === packet.destination0
  );
}

/** 30 bits, so that the number is a small integer to the engine and no lookup allocates. */
function keyOf(packet: ParsedPacket): number {
  let hash = packet.destination3 ^ Math.imul(packet.destination2, 0x85ebca6b);
  hash ^= Math.imul(packet.source3, 0x2c1b3c6d) ^ Math.imul(packet.source2, 0x297a2d39);
  hash ^= Math.imul(packet.destination1, 0xc2b2ae35) ^ Math.imul(packet.destination0, 0x27d4eb2f);
  hash = Math.imul(hash ^ ((packet.sourcePort << 16) | packet.destinationPort), 0x9e3779b1);
  return (hash ^ (hash >>> 15)) >>> 2;
}
