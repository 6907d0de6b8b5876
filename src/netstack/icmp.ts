/**
 * ICMP of a stack: echo requests to the application, errors about our packets to their flows, and errors we send.
 *
 *   in:  echo request ─► onEcho ─► reply now, later, or never        out: net, host, port unreachable · admin prohibited
 *        error ─► quoted TCP: the flow judges it · quoted UDP: onUdpError           (rate limited, only where allowed)
 *
 * RFC 792, RFC 1122 §3.2.2, RFC 4443, RFC 5927.
 */
import { ADDRESS_WORDS } from '../base/address.js';
import type { TokenBucket } from '../base/bucket.js';
import { Drop, type DropReason } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { Arena } from '../wire/arena.js';
import { readU16, writeU16 } from '../wire/bytes.js';
import { writeIpv4Checksum } from '../wire/checksum.js';
import {
  announcedMtu,
  completeIcmp,
  ICMP_ECHO_REPLY,
  ICMP_FRAGMENTATION_NEEDED,
  ICMP_UNREACHABLE,
  ICMPV6_ECHO_REPLY,
  ICMPV6_UNREACHABLE,
  isEchoRequest,
  isIcmpError,
  writeIcmp,
} from '../wire/icmp.js';
import { type IcmpErrorKind, mayReport, writeIcmpError } from '../wire/icmp-error.js';
import { QuotedPacket, readQuote } from '../wire/icmp-quote.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { ICMP_HEADER, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_HEADER, UDP_HEADER } from '../wire/ip.js';
import { ExtensionVerdict, judgeExtensions } from '../wire/ipv6-options.js';
import { TCP_SYN, writeTcp } from '../wire/tcp.js';
import { writeUdp } from '../wire/udp.js';
import { Count } from './counters.js';
import { FLOW_WORDS } from './flow.js';
import type { FlowTable } from './flow-table.js';
import { isV4At } from './ip-header.js';
import type { IpOutput } from './ip-output.js';
import type { Rejection, StackHandlers } from './types.js';
import { packAddresses } from './udp.js';

/** What "fragmentation needed" without a size stands for: every path worth using carries this (RFC 1191 §5 would search). */
const UNTOLD_MTU = 1280;

const KINDS: Readonly<Record<Exclude<Rejection, 'ignore'>, IcmpErrorKind>> = {
  // A datagram cannot be reset; its closest kin is a closed port.
  reset: 'port_unreachable',
  'net-unreachable': 'net_unreachable',
  'host-unreachable': 'host_unreachable',
  'port-unreachable': 'port_unreachable',
  'admin-prohibited': 'admin_prohibited',
};

export class Icmp {
  readonly #addresses = new Uint32Array(FLOW_WORDS);
  /** What `onEcho` sees; kept apart, because `reply` works in the other one. */
  readonly #asked = new Uint32Array(FLOW_WORDS);
  readonly #quote = new QuotedPacket();
  readonly #rebuilt = new ParsedPacket();
  readonly #verdict = new ExtensionVerdict();

  constructor(
    readonly handlers: StackHandlers,
    readonly flows: FlowTable,
    readonly output: IpOutput,
    readonly counts: Float64Array,
    readonly limit: TokenBucket,
  ) {}

  receive(now: Instant, arena: Arena, packet: ParsedPacket): DropReason {
    this.counts[Count.icmp_in]++;
    if (isEchoRequest(packet)) return this.#echo(now, arena, packet);
    if (isIcmpError(packet)) return this.#error(now, arena, packet);
    return Drop.no_handler;
  }

  /** Answers an echo request that came from index 0 to index 1 of `addresses`. */
  reply(
    addresses: Uint32Array,
    identifier: number,
    sequence: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): DropReason {
    const a = this.#addresses;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      const from = addresses[i];
      a[i] = addresses[ADDRESS_WORDS + i];
      a[ADDRESS_WORDS + i] = from;
    }
    const isV4 = isV4At(a, 0);
    const total = ICMP_HEADER + length;
    if (total > this.output.longest(a)) return Drop.too_big;
    const { scratch } = this.output;
    const at = this.output.begin(a, isV4 ? PROTO_ICMP : PROTO_ICMPV6, total);
    const rest = ((identifier & 0xffff) << 16) | (sequence & 0xffff);
    writeIcmp(scratch.bytes, at, isV4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY, 0, rest);
    scratch.bytes.set(bytes.subarray(offset, offset + length), at + ICMP_HEADER);
    completeIcmp(scratch, 0, at, total);
    this.counts[Count.icmp_out]++;
    this.output.send(total);
    return Drop.none;
  }

  /** Sends an error about a packet, if the rules and the rate allow one. */
  report(now: Instant, bytes: Uint8Array, packet: ParsedPacket, how: Rejection): void {
    if (how === 'ignore') return;
    this.#send(now, bytes, packet, KINDS[how]);
  }

  /** Sends "protocol unreachable" (in ICMPv6: unrecognized next header). */
  reportProtocol(now: Instant, bytes: Uint8Array, packet: ParsedPacket): void {
    this.#send(now, bytes, packet, 'protocol_unreachable');
  }

  /** Whether the extension headers of an IPv6 packet let it be taken; its sender is told what they want told. */
  judge(now: Instant, bytes: Uint8Array, packet: ParsedPacket): DropReason {
    const verdict = this.#verdict;
    const drop = judgeExtensions(bytes, packet, verdict);
    if (verdict.kind !== undefined) this.#send(now, bytes, packet, verdict.kind, verdict.pointer);
    return drop;
  }

  /** The rest of a fragmented packet has not come; `first` is its first fragment. */
  reportLate(now: Instant, first: Uint8Array): void {
    if (parsePacket(first, 0, first.length, this.#rebuilt) !== Drop.none) return;
    this.#send(now, first, this.#rebuilt, 'reassembly_timeout');
  }

  /** An error about a SYN that is no longer at hand: its header is built anew. `words` as in a flow key. */
  reportSyn(now: Instant, words: Uint32Array, seq: number, how: Rejection): void {
    if (how === 'ignore') return;
    const at = this.#rebuild(words, ADDRESS_WORDS, PROTO_TCP, TCP_HEADER);
    writeTcp(this.output.scratch.bytes, at, words[9], words[4], seq, 0, TCP_SYN, 0, 0);
    this.#sendRebuilt(now, at + TCP_HEADER, 0, how);
  }

  /** An error about a datagram of `length` payload bytes that went from index 0 to index 1 of `addresses`. */
  reportUdp(now: Instant, addresses: Uint32Array, length: number, how: Rejection): void {
    if (how === 'ignore') return;
    const at = this.#rebuild(addresses, 0, PROTO_UDP, UDP_HEADER);
    writeUdp(this.output.scratch.bytes, at, addresses[4], addresses[9], 0);
    this.#sendRebuilt(now, at + UDP_HEADER, length, how);
  }

  #echo(now: Instant, arena: Arena, packet: ParsedPacket): DropReason {
    if (this.handlers.onEcho === undefined) return Drop.no_handler;
    const bytes = arena.bytes;
    const a = this.#asked;
    packAddresses(packet, a);
    a[4] = 0;
    a[9] = 0;
    const identifier = packet.sourcePort;
    const sequence = readU16(bytes, packet.transportOffset + 6);
    const { payloadOffset, payloadLength } = packet;
    const answer = this.handlers.onEcho(a, identifier, sequence, bytes, payloadOffset, payloadLength);
    if (answer === true) return this.reply(a, identifier, sequence, bytes, payloadOffset, payloadLength);
    if (answer !== false) this.report(now, bytes, packet, answer);
    return Drop.none;
  }

  #error(now: Instant, arena: Arena, packet: ParsedPacket): DropReason {
    const q = this.#quote;
    if (!readQuote(arena.bytes, packet, q)) return Drop.malformed;
    const a = this.#addresses;
    a[0] = q.source0;
    a[1] = q.source1;
    a[2] = q.source2;
    a[3] = q.source3;
    a[4] = q.sourcePort;
    a[5] = q.destination0;
    a[6] = q.destination1;
    a[7] = q.destination2;
    a[8] = q.destination3;
    a[9] = q.destinationPort;
    const isV4 = packet.family === 4;
    const unreachable = packet.icmpType === (isV4 ? ICMP_UNREACHABLE : ICMPV6_UNREACHABLE);
    let mtu = announcedMtu(arena.bytes, packet);
    if (mtu === 0 && isV4 && unreachable && packet.icmpCode === ICMP_FRAGMENTATION_NEEDED) mtu = UNTOLD_MTU;
    if (q.protocol === PROTO_UDP) {
      this.handlers.onUdpError?.(a, mtu);
      return Drop.none;
    }
    if (q.protocol !== PROTO_TCP) return Drop.no_handler;
    const flow = this.flows.find(a);
    if (flow === undefined) return Drop.no_handler;
    flow.unreachable(now, q.sequence | 0, unreachable, mtu);
    return Drop.none;
  }

  /** Writes the IP header of a packet as it came: its source is at word `source` of `words`. */
  #rebuild(words: Uint32Array, source: number, protocol: number, length: number): number {
    const a = this.#addresses;
    const destination = ADDRESS_WORDS - source;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      a[i] = words[source + i];
      a[ADDRESS_WORDS + i] = words[destination + i];
    }
    return this.output.begin(a, protocol, length);
  }

  /** Quotes the headers, which then tell of `missing` bytes of payload that are not quoted. */
  #sendRebuilt(now: Instant, length: number, missing: number, how: Exclude<Rejection, 'ignore'>): void {
    const bytes = this.output.scratch.bytes.slice(0, length);
    if (parsePacket(bytes, 0, length, this.#rebuilt) !== Drop.none) return;
    if (missing > 0) {
      const isV4 = this.#rebuilt.family === 4;
      const lengthField = isV4 ? 2 : 4;
      writeU16(bytes, lengthField, readU16(bytes, lengthField) + missing);
      if (isV4) writeIpv4Checksum(bytes, 0);
      writeU16(bytes, this.#rebuilt.transportOffset + 4, UDP_HEADER + missing);
    }
    this.#send(now, bytes, this.#rebuilt, KINDS[how]);
  }

  #send(now: Instant, bytes: Uint8Array, packet: ParsedPacket, kind: IcmpErrorKind, value = 0): void {
    if (!mayReport(packet)) return;
    if (!this.limit.take(now)) {
      this.counts[Count.icmp_limited]++;
      return;
    }
    this.counts[Count.icmp_out]++;
    this.output.sendWhole(writeIcmpError(this.output.scratch, 0, bytes, packet, kind, value));
  }
}
