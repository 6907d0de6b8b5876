/**
 * SYNs as probes, each of a connection nobody wants: the host itself resets what the target opens (`reserveTcp`).
 *
 *   IPv4 identification = the next one of the process (paris: constant) · sequence random per probe · window 1024 · no options
 *
 * Answers: SYN+ACK and RST+ACK, which acknowledge the probe's sequence number; a bare RST; an ICMP error that quotes ports and
 * sequence number. Flows differ in the source port. RFC 9293 §3.5.
 */
import { SocketAddress } from '../../base/address.js';
import type { Arena } from '../../wire/arena.js';
import { PROTO_TCP, TCP_HEADER } from '../../wire/ip.js';
import { TCP_ACK, TCP_RST, TCP_SYN, TcpOptions } from '../../wire/tcp.js';
import { headerLength } from './ip-packet.js';
import { answerOf, type MethodOptions, payloadLength, type RawMethod } from './method.js';
import type { Answer, Probe } from './probe.js';
import type { Reply } from './reply.js';
import { CONSTANT_ID, writeSegment } from './segment.js';

/** What a run of SYNs draws from. */
export interface SynSource {
  /** The local port of a flow, reserved. */
  portOf(flow: number): number;
  /** 1 … 65,535; the next one of this process. */
  nextIdentification(): number;
  nextSequence(): number;
}

interface Sent {
  readonly probe: Probe;
  readonly identification: number;
  readonly port: number;
}

const NO_OPTIONS = new TcpOptions();

export class SynMethod implements RawMethod {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly #options: MethodOptions;
  readonly #draw: SynSource;
  readonly #probes = new Map<number, Sent>();
  /** In the order of sending. */
  readonly #sent: Sent[] = [];
  #highestRouter = 0;

  constructor(options: MethodOptions, draw: SynSource) {
    this.source = options.source;
    this.destination = options.destination;
    this.#options = options;
    this.#draw = draw;
  }

  write(probe: Probe, arena: Arena): number {
    const { tos, paris } = this.#options;
    const port = this.#draw.portOf(probe.flow);
    const identification = paris ? CONSTANT_ID : this.#draw.nextIdentification();
    const sequence = this.#draw.nextSequence();
    const length = writeSegment(arena, {
      source: new SocketAddress(this.source.ip, port),
      destination: this.destination,
      ttl: probe.ttl,
      tos,
      identification,
      dontFragment: probe.size > 0,
      sequence,
      acknowledgment: 0,
      flags: TCP_SYN,
      options: NO_OPTIONS,
      payload: payloadLength(probe.size, headerLength(this.source.ip) + TCP_HEADER, 0),
      firstByte: 0,
    });
    const sent = { probe, identification, port };
    this.#probes.set(sequence, sent);
    this.#sent.push(sent);
    return length;
  }

  match(reply: Reply): Answer | undefined {
    const { packet, quote, error } = reply;
    const { ip, port } = this.destination;
    if (!reply.isTo(this.source.ip)) return undefined;
    if (error === undefined) return this.#matchSegment(reply);
    const sent = this.#probes.get(quote.sequence);
    if (sent === undefined || quote.sourcePort !== sent.port || quote.destinationPort !== port) return undefined;
    if (!reply.quotesDestination(ip) || !reply.quotesSource(this.source.ip)) return undefined;
    if (packet.family === 4 && reply.quotedMark !== sent.identification) return undefined;
    if (error === 'time_exceeded') this.#highestRouter = Math.max(this.#highestRouter, sent.probe.ttl);
    return answerOf(reply, sent.probe, error, error === 'unreachable' && reply.isFrom(ip), false);
  }

  #matchSegment(reply: Reply): Answer | undefined {
    const { packet } = reply;
    const { ip, port } = this.destination;
    if (packet.protocol !== PROTO_TCP || packet.sourcePort !== port || !reply.isFrom(ip)) return undefined;
    const isReset = (packet.tcpFlags & TCP_RST) !== 0;
    const isSynAck = (packet.tcpFlags & (TCP_SYN | TCP_ACK)) === (TCP_SYN | TCP_ACK);
    if (!isReset && !isSynAck) return undefined;
    const kind = isReset ? 'rst' : 'syn_ack';
    if ((packet.tcpFlags & TCP_ACK) !== 0) {
      // A SYN with data is acknowledged with or without them.
      const sent = this.#probes.get((packet.acknowledgment - 1) >>> 0) ?? this.#acknowledgedData(packet.acknowledgment);
      if (sent === undefined || sent.port !== packet.destinationPort) return undefined;
      return answerOf(reply, sent.probe, kind, true, false);
    }
    // A bare reset does not say which probe it answers: the first that routers did not account for.
    const sent = this.#sent.find(
      ({ probe, port: ours }) => ours === packet.destinationPort && !probe.answered && probe.ttl > this.#highestRouter,
    );
    return sent === undefined ? undefined : answerOf(reply, sent.probe, kind, true, false);
  }

  #acknowledgedData(acknowledgment: number): Sent | undefined {
    const headers = headerLength(this.source.ip) + TCP_HEADER;
    const payload = (probe: Probe): number => payloadLength(probe.size, headers, 0);
    for (const [sequence, sent] of this.#probes) {
      if (sent.probe.size > 0 && (sequence + 1 + payload(sent.probe)) >>> 0 === acknowledgment) return sent;
    }
    return undefined;
  }
}
