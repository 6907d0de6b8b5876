/**
 * Limits and timers of the flows that end here, and who decides where a flow goes.
 */
import type { SocketAddress } from '../base/address.js';
import { type Duration, Seconds } from '../base/time.js';
import type { TcpRequest } from '../netstack/tcp/request.js';
import type { Rejection } from '../netstack/types.js';
import type { Dialer } from './dialer.js';
import type { FlowShape } from './shaping/rate.js';
import type { ShaperLimits } from './shaping/shaper.js';

export interface FlowLimits extends ShaperLimits {
  /** TCP flows at once per session: dialling and open. */
  readonly tcpFlows: number;
  /** Of these, flows whose backend has not answered yet: a silent one must not use up what others need. */
  readonly tcpDials: number;
  readonly udpFlows: number;
  readonly echoFlows: number;
  /** Bytes read from one TCP connection of the host's before others get their turn. */
  readonly tcpReadBudget: number;
  /** New flows per second and burst of one session; one agent must not exhaust a backend. */
  readonly newFlowRate: number;
  readonly newFlowBurst: number;
  /** A dial that takes longer is given up, and the client hears nothing: its own timeout decides. */
  readonly dialTimeout: Duration;
  /** A UDP flow without traffic for this long ends; sooner while nothing has been answered. */
  readonly udpIdle: Duration;
  readonly udpUnanswered: Duration;
  /** The same of a flow that has sent to port 53 only, answered or not: each question has a port of its own. */
  readonly udpDns: Duration;
  /** The same of an answered flow that began as QUIC (port 443, an Initial packet): its connections outlive pauses. */
  readonly udpQuic: Duration;
  readonly echoIdle: Duration;
  /** With every TCP flow taken, one that has moved nothing for this long makes room for a new one; 0 = none does. */
  readonly tcpEvictIdle: Duration;
  /** With every UDP flow taken, one of those unused for longest makes room for a new one. */
  readonly udpEvict: boolean;
  /** Which datagrams reach a client; undefined: one flow per 5-tuple, to one peer. */
  readonly udpFiltering: UdpFiltering | undefined;
  /**
   * Destinations remembered of one client port (with `address-dependent` filtering their addresses count too); beyond, the first is forgotten, and let
   * in again when it is sent to again.
   */
  readonly udpPeers: number;
}

/**
 * Who may answer a client's port (RFC 4787 §5): anybody, the addresses it has sent to, or the addresses and ports it has sent
 * to. The mapping is endpoint-independent in all three.
 */
export type UdpFiltering = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';

export const DEFAULT_FLOW_LIMITS: FlowLimits = {
  tcpFlows: 1024,
  tcpDials: 512,
  udpFlows: 1024,
  echoFlows: 64,
  newFlowRate: 500,
  newFlowBurst: 1000,
  dialTimeout: Seconds(10),
  // RFC 4787 REQ-5 asks for two minutes of a general NAT; a backend's socket is no scarce mapping, so the same here.
  udpIdle: Seconds(120),
  udpUnanswered: Seconds(60),
  // RFC 4787 REQ-5 (a) allows less than two minutes for well-known ports; stub resolvers ask again after 5 s.
  udpDns: Seconds(10),
  // Above the idle timeouts that QUIC stacks announce (30 s … 3 min), so that theirs decide.
  udpQuic: Seconds(300),
  echoIdle: Seconds(30),
  tcpEvictIdle: Seconds(0),
  udpEvict: false,
  udpFiltering: undefined,
  udpPeers: 1,
  // Long runs make full batches behind a session's links.
  // One super-segment, 0.1 ms at 5 Gbit/s: answers of others wait that long for each flow.
  tcpReadBudget: 64 * 1024,
  shapedFlowBytes: 1024 * 1024,
  shapedBytes: 64 * 1024 * 1024,
};

/** Sees the payload of a flow pass; the bytes are only lent. Returns false when it wants no more. */
export type PayloadTap = (toHost: boolean, bytes: Uint8Array, offset: number, length: number) => boolean;

/** Whether what a flow says may change the decision: what it says next, what it has said and is being judged by, or nothing any more. */
export type Hold = 'watching' | 'judging' | 'none';

/** Where a flow goes, once it is allowed. */
export interface FlowTarget {
  readonly service: string;
  /** The backend's address; port 0 for echo. Undefined: the service's host name has no address now. */
  readonly address: SocketAddress | undefined;
  /** How it leaves, when not by the flows' own dialer. */
  readonly dialer?: Dialer;
  /** A service of the engine's own takes the connection itself: nothing is dialled. */
  readonly serve?: (request: TcpRequest) => void;
  /** The same for UDP: each datagram of the flow goes there (addresses as the client sees them). */
  readonly datagram?: (addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number) => void;
  readonly tap?: PayloadTap;
  /** How it is held back; where the flows have a shaper. */
  readonly shape?: FlowShape;
  /** What it says first (of UDP: QUIC's first datagrams) waits as long as this says so; for a short time. */
  readonly hold?: () => Hold;
  /** The flow is over; not called when its dial failed. */
  readonly onClosed?: (reason: string, bytesIn: number, bytesOut: number) => void;
}

export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_ICMPV6 = 58;
/** Name servers (RFC 1035 §4.2). */
export const DNS_PORT = 53;

/** Decides about new flows; asked again for live ones when the policy changes. */
export interface FlowRouter {
  /**
   * @param addresses packed: index 0 = source, 1 = destination as the agent sees it.
   * @returns the target, or how a flow that is not allowed is refused; undefined: as administratively prohibited (echo: in silence). The router
   * counts and reports what it refuses.
   */
  route(protocol: number, addresses: Uint32Array): FlowTarget | Rejection | undefined;
}

/** The target of an allowed flow. */
export const targetOf = (route: FlowTarget | Rejection | undefined): FlowTarget | undefined =>
  typeof route === 'string' ? undefined : route;

export const FLOW_COUNTERS = [
  'tcp_opened',
  'tcp_closed',
  'tcp_dial_refused',
  'tcp_dial_timeout',
  'tcp_dial_unreachable',
  'tcp_dial_blocked',
  'tcp_evicted',
  'tcp_admission_fail',
  'tcp_holds_decided',
  'tcp_holds_refused',
  'tcp_holds_gave_up',
  'tcp_holds_ended',
  'udp_dial_refused',
  'udp_dial_timeout',
  'udp_dial_unreachable',
  'udp_dial_blocked',
  'udp_opened',
  'udp_closed',
  'udp_expired',
  'udp_admission_fail',
  'udp_evicted',
  'udp_send_fail',
  'udp_send_blocked',
  'udp_filtered',
  'udp_unsupported',
  'udp_holds_decided',
  'udp_holds_refused',
  'udp_holds_gave_up',
  'udp_holds_ended',
  'echo_opened',
  'echo_requests',
  'echo_replies',
  'echo_admission_fail',
  'echo_answered_here',
  'echo_expired',
  'flow_rate_limited',
  'flow_denied',
  'flow_shaped',
  'shaped_drops',
  'shaped_losses',
] as const;
export type FlowCounter = (typeof FLOW_COUNTERS)[number];
