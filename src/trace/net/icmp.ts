/**
 * ICMP echo requests as probes.
 *
 *   identifier = the run's, random        sequence = TTL + 256 × index        IPv4 identification = identifier
 *   payload    = TTL (1 byte), zeros;     paris: a word first that keeps the checksum the same for all probes of a flow
 *
 * Answers: an echo reply from the target, or an error that quotes target, our address and our identifier. RFC 792, RFC 4443;
 * routers that balance by ICMP checksum: Augustin et al., "Avoiding traceroute anomalies with Paris traceroute" (2006).
 */
import type { Arena } from '../../wire/arena.js';
import { writeU16 } from '../../wire/bytes.js';
import { ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST, isEchoReply, writeIcmp } from '../../wire/icmp.js';
import { ICMP_HEADER, PROTO_ICMP, PROTO_ICMPV6 } from '../../wire/ip.js';
import { completeTransport, headerLength, writeHead } from './ip-packet.js';
import { answerOf, type MethodOptions, payloadLength, type RawMethod } from './method.js';
import type { Answer, Probe } from './probe.js';
import type { Reply } from './reply.js';

/** What sequence number and balancing word add up to for flow 0 (one's complement); each flow has its own. */
const FLOW_SUM = 0xa35d;

export const echoSequence = (probe: Probe): number => (probe.ttl + (probe.index << 8)) & 0xffff;

/** Writes an echo request's payload at `at`; the same one for raw and for unprivileged sockets. Returns its length. */
export function writeEchoPayload(bytes: Uint8Array, at: number, probe: Probe, length: number, balanced: boolean): void {
  bytes.fill(0, at, at + length);
  if (!balanced) {
    bytes[at] = probe.ttl;
    return;
  }
  // sequence + word ≡ constant modulo 65535: the checksum then depends on the flow alone.
  const word = (((FLOW_SUM + probe.flow - echoSequence(probe)) % 0xffff) + 0xffff) % 0xffff;
  writeU16(bytes, at, word);
}

export class IcmpMethod implements RawMethod {
  readonly source: MethodOptions['source'];
  readonly destination: MethodOptions['destination'];
  readonly #options: MethodOptions;
  readonly #identifier: number;
  readonly #probes = new Map<number, { readonly probe: Probe; readonly checksum: number }>();

  /** @param identifier 1 … 65,535, nobody else's in this process; `source` and `destination` have port 0 */
  constructor(options: MethodOptions, identifier: number) {
    this.source = options.source;
    this.destination = options.destination;
    this.#options = options;
    this.#identifier = identifier;
  }

  write(probe: Probe, arena: Arena): number {
    const { tos, paris } = this.#options;
    const isV4 = this.source.ip.isV4;
    const protocol = isV4 ? PROTO_ICMP : PROTO_ICMPV6;
    const balanced = paris || probe.flow > 0;
    const headers = headerLength(this.source.ip) + ICMP_HEADER;
    const payload = payloadLength(probe.size, headers, balanced ? 2 : 1);
    const length = ICMP_HEADER + payload;
    const head = {
      source: this.source.ip,
      destination: this.destination.ip,
      protocol,
      ttl: probe.ttl,
      tos,
      identification: this.#identifier,
      // Only a probe of a wanted size asks for the path's limit.
      dontFragment: probe.size > 0,
    };
    const at = writeHead(arena, head, length);
    const sequence = echoSequence(probe);
    const rest = this.#identifier * 0x1_0000 + sequence;
    writeIcmp(arena.bytes, at, isV4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST, 0, rest);
    writeEchoPayload(arena.bytes, at + ICMP_HEADER, probe, payload, balanced);
    const checksum = completeTransport(arena, at, length, protocol);
    this.#probes.set(sequence, { probe, checksum });
    return at + length;
  }

  match(reply: Reply): Answer | undefined {
    const { packet, quote, error } = reply;
    const { ip } = this.destination;
    if (!reply.isTo(this.source.ip)) return undefined;
    if (error === undefined) {
      if (!isEchoReply(packet) || packet.sourcePort !== this.#identifier || !reply.isFrom(ip)) return undefined;
      const sent = this.#probes.get(readSequence(reply, packet.transportOffset));
      return sent === undefined ? undefined : answerOf(reply, sent.probe, 'echo_reply', true, false);
    }
    if (quote.sourcePort !== this.#identifier || !reply.quotesDestination(ip)) return undefined;
    if (!reply.quotesSource(this.source.ip)) return undefined;
    const sent = this.#probes.get(reply.quoted16(6));
    if (sent === undefined) return undefined;
    return answerOf(
      reply,
      sent.probe,
      error,
      error === 'unreachable' && reply.isFrom(ip),
      reply.quoted16(2) !== sent.checksum,
    );
  }
}

const readSequence = ({ bytes }: Reply, at: number): number => (bytes[at + 6]! << 8) | bytes[at + 7]!;
