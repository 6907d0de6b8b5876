/**
 * The words of a trace, and the seam between the two halves of `src/trace`: the engine (probes, matching, packet I/O) runs one
 * traceroute or one end-to-end probe; the orchestration above it starts several, enriches, counts and prints.
 *
 *   TraceOptions ─► TraceEngine.run ─► start · hop · hop … done(TraceRun)
 *                └► TraceEngine.probeEnd ─► RTT in milliseconds, 0 = lost
 *
 * Names and units follow datadog-traceroute where it has the thing (TTL, RTT in milliseconds); everything else is ours.
 */
import type { IpAddress, SocketAddress } from '../base/address.js';
import type { Duration } from '../base/time.js';

export type TraceProtocol = 'udp' | 'tcp' | 'icmp' | 'quic';

/** `syn_socket` exists only on Windows. */
export type TcpMethod = 'syn' | 'sack' | 'prefer_sack' | 'syn_socket';

/** `auto`: raw sockets, and without them when they are refused; the run says which it was. */
export type TracePrivilege = 'auto' | 'raw' | 'unprivileged';

/** What one run needs: checked, resolved, nothing defaulted by the engine. */
export interface TraceOptions {
  readonly protocol: TraceProtocol;
  /** Only looked at when `protocol` is `tcp`. */
  readonly tcpMethod: TcpMethod;
  readonly destination: IpAddress;
  /** 1 … 65535; not used by ICMP. */
  readonly port: number;
  /** 1 … 255, ≤ maxTtl. */
  readonly minTtl: number;
  /** 1 … 255. */
  readonly maxTtl: number;
  /** TCP SYN: per hop; otherwise: how long to listen after the last probe was sent. */
  readonly timeout: Duration;
  /** Between two probes of a run. */
  readonly sendDelay: Duration;
  /** Probes per hop, ≥ 1. */
  readonly repeats: number;
  /** Every field that routers hash is the same in all probes of a run (paris traceroute). */
  readonly paris: boolean;
  /** Undefined: as the kernel routes. */
  readonly source?: IpAddress;
  /** Name of the device probes leave by. */
  readonly device?: string;
  /** SO_MARK, unsigned 32 bits. */
  readonly mark?: number;
  /** 1 … 65535; undefined: an ephemeral one. */
  readonly sourcePort?: number;
  /** The octet of IPv4 TOS / IPv6 traffic class, 0 … 255. */
  readonly tos: number;
  /** Bytes of the whole IP packet; undefined: as small as the protocol's probe is. */
  readonly packetSize?: number;
  /** Consecutive silent hops after which the run ends; 0: never. */
  readonly gapLimit: number;
  /** Most probes a second over the whole run; 0: as `sendDelay` says. */
  readonly rate: number;
  /** Find the path MTU towards every hop (probes with don't-fragment set, sized down as told). */
  readonly pmtu: boolean;
  /** Enumerate equal-cost paths until every next hop is known with this confidence (0 … 1, such as 0.95). */
  readonly multipath?: { readonly confidence: number; readonly maxFlows: number };
  readonly privilege: TracePrivilege;
  /** Windows: the kernel driver instead of raw sockets; ignored elsewhere. */
  readonly windowsDriver: boolean;
}

/** What kind of packet answered. */
export type ReplyKind =
  | 'time_exceeded'
  | 'unreachable'
  | 'packet_too_big'
  | 'echo_reply'
  | 'syn_ack'
  | 'rst'
  | 'sack'
  /** A datagram of the service at the target's port. */
  | 'udp'
  | 'quic';

/** One entry of an MPLS label stack (RFC 4950). */
export interface MplsLabel {
  readonly label: number;
  readonly trafficClass: number;
  readonly bottom: boolean;
  readonly ttl: number;
}

/** An interface the router tells of (RFC 5837). */
export interface InterfaceInfo {
  readonly role: 'incoming' | 'sub-ip' | 'outgoing' | 'next-hop';
  readonly index?: number;
  readonly address?: IpAddress;
  readonly name?: string;
  readonly mtu?: number;
}

/** What an ICMP error carried behind the quoted packet (RFC 4884). */
export interface IcmpExtensions {
  readonly mpls: readonly MplsLabel[];
  readonly interfaces: readonly InterfaceInfo[];
}

/** One answer to one probe. */
export interface HopReply {
  readonly from: IpAddress;
  readonly kind: ReplyKind;
  /** Milliseconds, fractions kept. */
  readonly rtt: number;
  /** TTL or hop limit the answer arrived with; undefined where the system does not tell. */
  readonly replyTtl?: number;
  /** Of the ICMP message; undefined when TCP or QUIC answered. */
  readonly icmp?: { readonly type: number; readonly code: number };
  /** TTL in the quoted header: what was left of it where the router looked (1 is usual, 0 a known defect). */
  readonly quotedTtl?: number;
  /** The quoted probe is not the one that left here: a NAT between us and the router rewrote it. */
  readonly nat: boolean;
  readonly extensions?: IcmpExtensions;
  /** Which of the hop's probes this answers, from 0. */
  readonly probe: number;
  /** Which flow the probe belonged to, from 0; more than one only in multipath discovery. */
  readonly flow: number;
  /** The answer is the destination's own. */
  readonly isDestination: boolean;
}

/** Everything known about one TTL. */
export interface Hop {
  readonly ttl: number;
  /** Probes sent with this TTL. */
  readonly sent: number;
  /** In order of arrival; empty: silent. The first one is the hop's address and RTT. */
  readonly replies: readonly HopReply[];
  /** Loss here that no later hop shows: the router limits its ICMP, packets pass. */
  readonly rateLimited: boolean;
  /** Bytes of the largest packet that reached this hop; only with `pmtu`. */
  readonly mtu?: number;
}

/** Why a run ended. */
export type EndReason =
  /** The destination answered. */
  | 'destination'
  /** A router said that the destination cannot be reached (see the last hop's ICMP type and code). */
  | 'unreachable'
  | 'max_ttl'
  | 'gap_limit';

/** One interface found by multipath discovery, and the interfaces of the next TTL that packets through it go to. */
export interface MultipathNode {
  readonly ttl: number;
  /** Undefined: a silent hop. */
  readonly address: IpAddress | undefined;
  readonly flows: readonly number[];
  /** Positions in `MultipathGraph.nodes`. */
  readonly next: readonly number[];
  /** Milliseconds, one per answer. */
  readonly rtts: readonly number[];
}

export interface MultipathGraph {
  readonly nodes: readonly MultipathNode[];
  readonly confidence: number;
  readonly probes: number;
}

export interface TraceRun {
  /** Port 0 where the protocol has none. */
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** The method that was used: what `prefer_sack` became. Only for `tcp`. */
  readonly tcpMethod?: TcpMethod;
  /** From minTtl to the destination, or to the TTL where the run ended; none missing. */
  readonly hops: readonly Hop[];
  readonly reached: boolean;
  readonly reason: EndReason;
  readonly privilege: 'raw' | 'unprivileged';
  readonly multipath?: MultipathGraph;
}

export type TraceEvent =
  | {
      readonly kind: 'start';
      readonly source: SocketAddress;
      readonly destination: SocketAddress;
      readonly privilege: 'raw' | 'unprivileged';
    }
  /** What is known about one TTL has changed; the hop replaces the earlier one with its TTL. */
  | { readonly kind: 'hop'; readonly hop: Hop }
  /** The last one. */
  | { readonly kind: 'done'; readonly run: TraceRun };

export interface TraceEngine {
  /**
   * One traceroute. Ends early when every hop up to the destination is known.
   * @throws SallyportError with a `TraceErrorCode` (`trace/error.ts`); TIMEOUT when `signal` is aborted.
   */
  run(options: TraceOptions, signal: AbortSignal): AsyncIterable<TraceEvent>;
  /**
   * One probe with TTL `maxTtl` and one answer: resolves with the RTT in milliseconds as soon as the destination answers, or with
   * 0 after `timeout`. @throws as `run`.
   */
  probeEnd(options: TraceOptions, signal: AbortSignal): Promise<number>;
  /** Ends every run under way and closes what is open. */
  close(): void;
}
