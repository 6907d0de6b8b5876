/**
 * UDP datagrams as probes, towards a port that is most likely closed.
 *
 *   IPv4   identification = 41821 + TTL + 256 × index     payload "NSMNC" · 0 · identification      don't fragment
 *   IPv6   payload length = 13 + TTL                      payload "NSMNC" repeated, the last byte mixed with the index
 *   of a wanted size: TTL and index at the payload's start; IPv6 then tells them by the checksum
 *
 * Flows differ in the destination port. Answers: an ICMP error that quotes addresses and ports of both ends, or a datagram from
 * the target. Arrival: whatever unreachability the target itself reports, never "time exceeded". RFC 768, RFC 792, RFC 4443.
 */
import type { Arena } from '../../wire/arena.js';
import { writeU16 } from '../../wire/bytes.js';
import { PROTO_UDP, UDP_HEADER } from '../../wire/ip.js';
import { writeUdp } from '../../wire/udp.js';
import { completeTransport, headerLength, writeHead } from './ip-packet.js';
import { answerOf, type MethodOptions, payloadLength, type RawMethod } from './method.js';
import type { Answer, Probe } from './probe.js';
import type { Reply } from './reply.js';

const FIRST_ID = 41_821;
const MAGIC = [0x4e, 0x53, 0x4d, 0x4e, 0x43] as const;
/** "NSMNC", a zero and the identification. */
const V4_PAYLOAD = 8;
/** A port behind the last one starts again here. */
const LOWEST_PORT = 1024;

/** Makes the payload of a probe that has one of its own, such as QUIC; and recognizes what answers it. */
export interface DatagramProtocol {
  /** Bytes of payload where no size is wanted. */
  readonly usual: number;
  /** The least of a wanted size; servers may not answer to it, routers do. */
  readonly least: number;
  writePayload(bytes: Uint8Array, at: number, length: number, probe: Probe): void;
  /** Whether the datagram's payload at `at` answers a probe, and which; undefined: it does not. */
  matchPayload(bytes: Uint8Array, at: number, length: number): Probe | undefined;
}

interface Sent {
  readonly probe: Probe;
  readonly checksum: number;
}

/** The destination port of a flow. */
export const flowPort = (port: number, flow: number): number => {
  const wanted = port + flow;
  return wanted <= 0xffff ? wanted : LOWEST_PORT + (wanted - 0x1_0000);
};

export class UdpMethod implements RawMethod {
  readonly source: MethodOptions['source'];
  readonly destination: MethodOptions['destination'];
  readonly #options: MethodOptions;
  readonly #content: DatagramProtocol | undefined;
  /** By what a quotation always holds: IPv4 identification, or IPv6 length and UDP checksum. */
  readonly #probes = new Map<number, Sent>();
  /** IPv6: by length alone, for quotations whose checksum a NAT changed. */
  readonly #byLength = new Map<number, Sent>();
  /** In the order of sending. */
  readonly #sent: Probe[] = [];
  #highestRouter = 0;

  /** @param content what the datagrams carry; undefined: the classic payload */
  constructor(options: MethodOptions, content?: DatagramProtocol) {
    this.source = options.source;
    this.destination = options.destination;
    this.#options = options;
    this.#content = content;
  }

  write(probe: Probe, arena: Arena): number {
    const isV4 = this.source.ip.isV4;
    const identification = (FIRST_ID + probe.ttl + (probe.index << 8)) & 0xffff;
    const headers = headerLength(this.source.ip) + UDP_HEADER;
    const classic = isV4 || probe.size > 0 ? V4_PAYLOAD : MAGIC.length + probe.ttl;
    const least = (probe.size > 0 ? this.#content?.least : this.#content?.usual) ?? classic;
    const payload = payloadLength(probe.size, headers, least);
    const length = UDP_HEADER + payload;
    const head = {
      source: this.source.ip,
      destination: this.destination.ip,
      protocol: PROTO_UDP,
      ttl: probe.ttl,
      tos: this.#options.tos,
      identification,
      dontFragment: true,
    };
    const at = writeHead(arena, head, length);
    writeUdp(arena.bytes, at, this.source.port, flowPort(this.destination.port, probe.flow), payload);
    const start = at + UDP_HEADER;
    if (this.#content !== undefined) this.#content.writePayload(arena.bytes, start, payload, probe);
    else if (isV4) writeV4Payload(arena.bytes, start, payload, identification);
    else writeV6Payload(arena.bytes, start, payload, probe);
    const checksum = completeTransport(arena, at, length, PROTO_UDP);
    const sent = { probe, checksum };
    this.#probes.set(isV4 ? identification : length * 0x1_0000 + checksum, sent);
    if (!isV4 && this.#content === undefined && probe.size === 0) this.#byLength.set(length, sent);
    this.#sent.push(probe);
    return at + length;
  }

  match(reply: Reply): Answer | undefined {
    const { packet, quote, error } = reply;
    const { ip, port } = this.destination;
    if (!reply.isTo(this.source.ip)) return undefined;
    if (error === undefined) return this.#matchDatagram(reply);
    if (quote.sourcePort !== this.source.port) return undefined;
    if (!reply.quotesDestination(ip) || !reply.quotesSource(this.source.ip)) return undefined;
    const checksum = reply.quoted16(6);
    const mark = reply.quotedMark;
    const sent =
      packet.family === 4
        ? this.#probes.get(mark)
        : (this.#probes.get(mark * 0x1_0000 + checksum) ?? this.#byLength.get(mark));
    if (sent === undefined || quote.destinationPort !== flowPort(port, sent.probe.flow)) return undefined;
    if (error === 'time_exceeded') this.#highestRouter = Math.max(this.#highestRouter, sent.probe.ttl);
    const isDestination = error === 'unreachable' && reply.isFrom(ip);
    return answerOf(reply, sent.probe, error, isDestination, checksum !== sent.checksum);
  }

  #matchDatagram(reply: Reply): Answer | undefined {
    const { packet, bytes } = reply;
    const { ip, port } = this.destination;
    if (packet.protocol !== PROTO_UDP || packet.destinationPort !== this.source.port || !reply.isFrom(ip))
      return undefined;
    if (this.#content !== undefined) {
      const probe = this.#content.matchPayload(bytes, packet.payloadOffset, packet.payloadLength);
      if (probe === undefined || packet.sourcePort !== flowPort(port, probe.flow)) return undefined;
      return answerOf(reply, probe, 'quic', true, false);
    }
    // An unknown service's datagram does not say which probe it answers: the first that routers did not account for.
    const probe = this.#sent.find(
      (one) => !one.answered && one.ttl > this.#highestRouter && packet.sourcePort === flowPort(port, one.flow),
    );
    return probe === undefined ? undefined : answerOf(reply, probe, 'udp', true, false);
  }
}

function writeV4Payload(bytes: Uint8Array, at: number, length: number, identification: number): void {
  bytes.fill(0, at, at + length);
  bytes.set(MAGIC, at);
  writeU16(bytes, at + 6, identification);
}

/** Different checksums for the probes of one TTL, and with a wanted size for all of them. */
export function writeV6Payload(bytes: Uint8Array, at: number, length: number, probe: Probe): void {
  for (let i = 0; i < length; i++) bytes[at + i] = MAGIC[i % MAGIC.length]!;
  if (probe.size > 0) {
    writeU16(bytes, at, probe.ttl);
    writeU16(bytes, at + 2, probe.index);
  } else bytes[at + length - 1]! ^= probe.index;
}
