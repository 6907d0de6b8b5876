/**
 * Bytes inside an open TCP connection as probes: middleboxes treat them as they treat the real traffic.
 *
 *   sequence = base + TTL · ACK PSH · 1 byte = TTL · timestamps where negotiated
 *
 *   base ─┬─ never sent ─┬─ TTL 1 ─┬─ TTL 2 ─┬─ …      what arrives lies behind a hole: the target acknowledges it by SACK, and
 *         └ acknowledged └─────────┴─────────┘         the lowest block begins at base + (lowest TTL that arrived)
 *
 * Routers answer by ICMP errors that quote the sequence number. RFC 2018 §4, RFC 7323 §3.2, §5.3; RFC 792, RFC 4443.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Arena } from '../../wire/arena.js';
import { PROTO_TCP, TCP_HEADER } from '../../wire/ip.js';
import { readTcpOptions, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TcpOptions } from '../../wire/tcp.js';
import { answerOf, type MethodOptions, type RawMethod } from './method.js';
import type { Answer, Probe } from './probe.js';
import type { Reply } from './reply.js';
import { CONSTANT_ID, writeSegment } from './segment.js';

/** What the handshake of a session settled. */
export interface SessionState {
  /** Our next byte's sequence number: the first one, which is never sent. */
  readonly sequence: number;
  readonly acknowledgment: number;
  /** The peer's timestamp and the echo of ours, where negotiated. */
  readonly timestamps?: { readonly value: number; readonly echo: number };
}

/** Our timestamps go on behind the handshake's: newer than anything the kernel sent (RFC 7323 §5.3). */
const TIMESTAMP_AHEAD = 50;

export class SackMethod implements RawMethod {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly #tos: number;
  readonly #session: SessionState;
  readonly #onNoSack: () => void;
  readonly #probes = new Map<number, Probe>();
  readonly #tcp = new TcpOptions();

  /** @param onNoSack the target acknowledges without SACK: probes in a session tell nothing here */
  constructor(options: MethodOptions, session: SessionState, onNoSack: () => void) {
    this.source = options.source;
    this.destination = options.destination;
    this.#tos = options.tos;
    this.#session = session;
    this.#onNoSack = onNoSack;
  }

  write(probe: Probe, arena: Arena): number {
    const { sequence, acknowledgment, timestamps } = this.#session;
    const options = new TcpOptions();
    if (timestamps !== undefined) {
      options.hasTimestamps = true;
      options.timestampValue = (timestamps.echo + TIMESTAMP_AHEAD + probe.ttl) >>> 0;
      options.timestampEcho = timestamps.value;
    }
    if (!this.#probes.has(probe.ttl) || this.#probes.get(probe.ttl)!.answered) this.#probes.set(probe.ttl, probe);
    return writeSegment(arena, {
      source: this.source,
      destination: this.destination,
      ttl: probe.ttl,
      tos: this.#tos,
      identification: CONSTANT_ID,
      dontFragment: false,
      sequence: (sequence + probe.ttl) >>> 0,
      acknowledgment,
      flags: TCP_ACK | TCP_PSH,
      options,
      payload: 1,
      firstByte: probe.ttl,
    });
  }

  match(reply: Reply): Answer | undefined {
    const { packet, quote, error } = reply;
    const { ip, port } = this.destination;
    if (!reply.isTo(this.source.ip)) return undefined;
    if (error !== undefined) {
      if (!reply.quotesDestination(ip) || quote.destinationPort !== port) return undefined;
      const probe = this.#probes.get((quote.sequence - this.#session.sequence) >>> 0);
      if (probe === undefined) return undefined;
      // A NAT that did not translate the quotation back; only the sequence number is certain then.
      const nat = !reply.quotesSource(this.source.ip) || quote.sourcePort !== this.source.port;
      return answerOf(reply, probe, error, error === 'unreachable' && reply.isFrom(ip), nat);
    }
    if (packet.protocol !== PROTO_TCP || packet.sourcePort !== port || !reply.isFrom(ip)) return undefined;
    if (packet.destinationPort !== this.source.port || (packet.tcpFlags & (TCP_SYN | TCP_RST | TCP_FIN)) !== 0)
      return undefined;
    const start = packet.transportOffset + TCP_HEADER;
    const readable = readTcpOptions(reply.bytes, start, packet.transportOffset + packet.tcpHeaderLength, this.#tcp);
    if (!readable || this.#tcp.sackCount === 0) {
      this.#onNoSack();
      return undefined;
    }
    let lowest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.#tcp.sackCount; i++) {
      lowest = Math.min(lowest, (this.#tcp.sackEdges[i * 2]! - this.#session.sequence) >>> 0);
    }
    const probe = this.#probes.get(lowest);
    return probe === undefined ? undefined : answerOf(reply, probe, 'sack', true, false);
  }
}
