/**
 * Probes of one run without privileges: ordinary sockets, whose error queue tells which router answered what.
 *
 *   UDP    one socket, one flow; the payload carries TTL and index         ICMP   one echo socket; sequence = TTL + 256 × index
 *   TCP    one connection attempt per probe: connected or refused = the destination, the error queue = a router
 *
 * An error about UDP quotes as much of the payload as the router cared to send; with too little it is taken for the oldest probe
 * that nothing answered. What this cannot do: MPLS and interface extensions, quoted TTL, probes inside a session. ip(7) IP_RECVERR.
 */
import { SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { Instant } from '../../base/time.js';
import { ECONNREFUSED, type IoResult } from '../../os/io.js';
import type { PacketIo, ProbeError, ProbeSocket, ProbeSocketOptions } from '../../os/packet-io.js';
import { readU16, writeU16, writeU32 } from '../../wire/bytes.js';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST } from '../../wire/icmp.js';
import { ICMP_HEADER, UDP_HEADER } from '../../wire/ip.js';
import type { ReplyKind } from '../types.js';
import { echoSequence, writeEchoPayload } from './icmp.js';
import { headerLength } from './ip-packet.js';
import { payloadLength } from './method.js';
import type { Probe, ProbeTransport, TransportEvents } from './probe.js';
import { icmpErrorKind } from './reply.js';

/** "SP", TTL and index: what a datagram's payload begins with. */
const UDP_MARK = 0x5350;
const UDP_PAYLOAD = 8;
/** Largest payload; larger wishes are refused by the caller. */
const BUFFER_BYTES = 65_536;

export interface SocketTransportOptions extends Omit<ProbeSocketOptions, 'protocol'> {
  readonly protocol: 'udp' | 'icmp' | 'tcp';
  /** Same fields that routers hash in all probes: TCP then uses one port again and again, one probe at a time. */
  readonly paris: boolean;
}

export class SocketTransport implements ProbeTransport {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly #io: PacketIo;
  readonly #options: SocketTransportOptions;
  readonly #events: TransportEvents;
  readonly #bytes = new Uint8Array(BUFFER_BYTES);
  /** By sequence number (ICMP) or mark (UDP). */
  readonly #probes = new Map<number, Probe>();
  readonly #sent: Probe[] = [];
  readonly #sockets = new Map<Probe, ProbeSocket>();
  /** The socket of all datagrams; for TCP it only shows the local address. */
  readonly #shared: ProbeSocket;
  #port: number;

  /** @throws SallyportError ICMP_NOT_PERMITTED, ENETUNREACH … (environment) */
  constructor(io: PacketIo, options: SocketTransportOptions, events: TransportEvents) {
    this.#io = io;
    this.#options = options;
    this.#events = events;
    this.#shared = this.#open(undefined, options.localPort);
    this.#port = options.protocol === 'tcp' ? options.localPort : this.#shared.local.port;
    const { ip, port } = this.#shared.local;
    this.source = new SocketAddress(ip, options.protocol === 'icmp' ? 0 : port);
    this.destination = new SocketAddress(options.to.ip, options.protocol === 'icmp' ? 0 : options.to.port);
    if (options.protocol !== 'tcp') return;
    if (options.paris && this.#port === 0) this.#port = port;
    this.#shared.close();
  }

  send(probe: Probe): IoResult {
    this.#sent.push(probe);
    if (this.#options.protocol === 'tcp') return this.#connect(probe);
    const length = this.#options.protocol === 'udp' ? this.#writeUdp(probe) : this.#writeEcho(probe);
    probe.sentAt = this.#io.now();
    return this.#shared.send(probe.ttl, this.#bytes, length);
  }

  drain(): void {
    if (this.#options.protocol !== 'tcp') this.#shared.drain();
    else for (const socket of [...this.#sockets.values()]) socket.drain();
  }

  close(): void {
    this.#shared.close();
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  #open(probe: Probe | undefined, localPort: number): ProbeSocket {
    const { to, tos, protocol, source, device, mark } = this.#options;
    const path = {
      ...(source === undefined ? {} : { source }),
      ...(device === undefined ? {} : { device }),
      ...(mark === undefined ? {} : { mark }),
    };
    return this.#io.probeSocket(
      { ...path, protocol, to, tos, localPort },
      {
        onError: (error) => this.#onError(error, probe),
        onReply: (bytes, length, from, at, hopLimit) => this.#onReply(bytes, length, from, at, hopLimit),
        onConnect: (result, at) => this.#onConnect(probe!, result, at),
      },
    );
  }

  #connect(probe: Probe): IoResult {
    // With one port for all, the former attempt has to make room; it has had its time.
    if (this.#options.paris) this.#closeAttempts();
    const socket = this.#open(probe, this.#port);
    this.#sockets.set(probe, socket);
    probe.sentAt = this.#io.now();
    const sent = socket.send(probe.ttl, this.#bytes, 0);
    return sent === -ECONNREFUSED ? 0 : sent;
  }

  #closeAttempts(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  #writeUdp(probe: Probe): number {
    const headers = headerLength(this.destination.ip) + UDP_HEADER;
    const length = payloadLength(probe.size, headers, UDP_PAYLOAD);
    const mark = this.#markOf(probe);
    this.#bytes.fill(0, 0, length);
    writeU16(this.#bytes, 0, UDP_MARK);
    writeU32(this.#bytes, 2, mark);
    this.#probes.set(mark, probe);
    return length;
  }

  #writeEcho(probe: Probe): number {
    const v4 = this.destination.ip.isV4;
    const payload = payloadLength(
      probe.size,
      headerLength(this.destination.ip) + ICMP_HEADER,
      this.#options.paris ? 2 : 1,
    );
    this.#bytes.fill(0, 0, ICMP_HEADER);
    this.#bytes[0] = v4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST;
    writeU16(this.#bytes, 6, echoSequence(probe));
    writeEchoPayload(this.#bytes, ICMP_HEADER, probe, payload, this.#options.paris);
    this.#probes.set(echoSequence(probe), probe);
    return ICMP_HEADER + payload;
  }

  #onError(error: ProbeError, attempt: Probe | undefined): void {
    const kind = icmpErrorKind(this.destination.ip.family, error.icmpType, error.icmpCode);
    const probe = attempt ?? this.#quoted(error);
    if (kind === undefined || probe === undefined) return;
    this.#events.answer({
      probe,
      from: error.from,
      kind,
      at: error.at,
      isDestination: kind === 'unreachable' && error.from.equals(this.destination.ip),
      nat: false,
      icmp: { type: error.icmpType, code: error.icmpCode },
      mtu: error.mtu,
    });
  }

  #quoted({ quote, quoted }: ProbeError): Probe | undefined {
    if (this.#options.protocol === 'icmp')
      return quoted < ICMP_HEADER ? undefined : this.#probes.get(readU16(quote, 6));
    if (quoted < 6) return this.#sent.find((probe) => !probe.answered);
    if (readU16(quote, 0) !== UDP_MARK) return undefined;
    return this.#probes.get(readU16(quote, 2) * 0x1_0000 + readU16(quote, 4));
  }

  #onReply(bytes: Uint8Array, length: number, from: SocketAddress['ip'], at: Instant, hopLimit: number): void {
    if (!from.equals(this.destination.ip)) return;
    let probe: Probe | undefined;
    let kind: ReplyKind = 'udp';
    if (this.#options.protocol === 'icmp') {
      const type = this.destination.ip.isV4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
      if (length < ICMP_HEADER || bytes[0] !== type) return;
      probe = this.#probes.get(readU16(bytes, 6));
      kind = 'echo_reply';
    } else probe = this.#sent.find((one) => !one.answered);
    if (probe === undefined) return;
    const answer = { probe, from, kind, at, isDestination: true, nat: false };
    this.#events.answer(hopLimit < 0 ? answer : { ...answer, replyTtl: hopLimit });
  }

  #onConnect(probe: Probe, result: IoResult, at: Instant): void {
    this.#sockets.get(probe)?.close();
    this.#sockets.delete(probe);
    // Anything else (a time-out of the kernel's own) is silence.
    if (result !== 0 && result !== -ECONNREFUSED) return;
    const kind = result === 0 ? 'syn_ack' : 'rst';
    this.#events.answer({ probe, from: this.destination.ip, kind, at, isDestination: true, nat: false });
  }

  /** TTL and index. */
  #markOf(probe: Probe): number {
    return probe.ttl * 0x1_0000 + (probe.index & 0xffff);
  }
}

/** A size that no packet has is the caller's mistake. @throws SallyportError INVALID_REQUEST (caller) */
export function checkSize(size: number | undefined): void {
  if (size === undefined || (Number.isInteger(size) && size >= 1 && size <= BUFFER_BYTES - 1)) return;
  throw new SallyportError('caller', 'INVALID_REQUEST', `invalid packet size: ${size}`);
}
