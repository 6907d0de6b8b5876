/**
 * What a stack counts. Dropped packets are counted by reason in a second set (base/drop.ts).
 */
import { Counters } from '../base/counters.js';
import { DROP_REASONS, type DropName } from '../base/drop.js';

export const STACK_COUNTERS = [
  'packets_in',
  'packets_out',
  'bytes_in',
  'bytes_out',
  'tcp_opened',
  'tcp_closed',
  'tcp_active_opens',
  'tcp_passive_opens',
  'tcp_requests',
  'tcp_requests_refused',
  'tcp_requests_rejected',
  'tcp_syn_absorbed',
  'tcp_segments_in',
  'tcp_segments_out',
  'tcp_rst_in',
  'tcp_rst_out',
  'tcp_retransmits',
  'tcp_fast_retransmits',
  'tcp_rto',
  'tcp_spurious_rto',
  'tcp_recoveries',
  'tcp_spurious_recoveries',
  'tcp_tail_probes',
  'tcp_dsack_in',
  'tcp_dsack_out',
  'tcp_dup_acks',
  'tcp_ooo',
  'tcp_pmtu_black_holes',
  'tcp_pmtu_probes',
  'tcp_ecn',
  'tcp_ce_in',
  'tcp_ce_reported',
  'tcp_zero_window',
  'tcp_window_probes',
  'tcp_challenge_acks',
  'tcp_paws_drops',
  'tcp_keepalives',
  'tcp_idle_timeouts',
  'tcp_timeouts',
  'udp_in',
  'udp_out',
  'icmp_in',
  'icmp_out',
  'icmp_limited',
  'fragments_in',
  'fragments_out',
  'reassembled',
] as const;

export type StackCounter = (typeof STACK_COUNTERS)[number];

/** Slots of the counters in `values`, for the packet path. */
export const Count = Object.fromEntries(STACK_COUNTERS.map((name, i) => [name, i])) as Readonly<
  Record<StackCounter, number>
>;

export interface StackCounters {
  readonly stack: Counters<StackCounter>;
  readonly drops: Counters<DropName>;
}

export const createStackCounters = (): StackCounters => ({
  stack: new Counters(STACK_COUNTERS),
  drops: new Counters(DROP_REASONS),
});
