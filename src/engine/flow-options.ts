/**
 * Limits and timers of the flows that end here, and who decides where a flow goes.
 */
import type { SocketAddress } from '../base/address.js';
import { type Duration, Seconds } from '../base/time.js';

export interface FlowLimits {
  /** TCP flows at once per session: dialling and open. */
  readonly tcpFlows: number;
  /** Of these, flows whose backend has not answered yet: a silent one must not use up what others need. */
  readonly tcpDials: number;
  readonly udpFlows: number;
  readonly echoFlows: number;
  /** New flows per second and burst of one session; one agent must not exhaust a backend. */
  readonly newFlowRate: number;
  readonly newFlowBurst: number;
  /** A dial that takes longer is given up, and the client hears nothing: its own timeout decides. */
  readonly dialTimeout: Duration;
  /** A UDP flow without traffic for this long ends; sooner while nothing has been answered. */
  readonly udpIdle: Duration;
  readonly udpUnanswered: Duration;
  readonly echoIdle: Duration;
}

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
  echoIdle: Seconds(30),
};

/** Where a flow goes, once it is allowed. */
export interface FlowTarget {
  readonly service: string;
  /** The backend's address; port 0 for echo. Undefined: the service's host name has no address now. */
  readonly address: SocketAddress | undefined;
}

export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_ICMPV6 = 58;

/** Decides about new flows; asked again for live ones when the policy changes. */
export interface FlowRouter {
  /**
   * @param addresses packed: index 0 = source, 1 = destination as the agent sees it.
   * @returns the target, or undefined when the flow is not allowed (which the router counts and reports).
   */
  route(protocol: number, addresses: Uint32Array): FlowTarget | undefined;
}

export const FLOW_COUNTERS = [
  'tcp_opened',
  'tcp_closed',
  'tcp_dial_refused',
  'tcp_dial_timeout',
  'tcp_dial_unreachable',
  'tcp_admission_fail',
  'udp_opened',
  'udp_expired',
  'udp_admission_fail',
  'udp_send_fail',
  'echo_opened',
  'echo_requests',
  'echo_replies',
  'echo_admission_fail',
  'echo_answered_here',
  'flow_rate_limited',
  'flow_denied',
] as const;
export type FlowCounter = (typeof FLOW_COUNTERS)[number];
