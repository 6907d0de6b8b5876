/**
 * Why a packet went no further: one small integer per reason, returned by everything on the packet path and used as the
 * slot of a counter. 0 (`none`) means the packet was not dropped.
 *
 * Functions that return a count use the negated reason for "dropped": `−Drop.bad_length`.
 */

export const Drop = {
  none: 0,
  // The packet itself
  malformed: 1,
  bad_checksum: 2,
  bad_length: 3,
  not_ip: 4,
  fragment: 5,
  too_big: 6,
  bad_option: 7,
  hop_limit: 8,
  // Where it should go
  no_route: 9,
  no_session: 10,
  no_link: 11,
  link_blocked: 12,
  queue_full: 13,
  no_handler: 14,
  // Who may send what
  source_not_allowed: 15,
  destination_not_allowed: 16,
  protocol_not_allowed: 17,
  port_not_allowed: 18,
  denied: 19,
  not_admitted: 20,
  flow_limit: 21,
  rate_limited: 22,
  // Relay and frames
  unknown_channel: 23,
  unknown_source: 24,
  unknown_frame: 25,
  reserved_frame: 26,
  duplicate: 27,
  // Reassembly
  reassembly_limit: 28,
  reassembly_overlap: 29,
  reassembly_timeout: 30,
  // The host
  tun_full: 31,
  send_failed: 32,
  send_blocked: 33,
  /** Multicast, broadcast, unspecified or loopback address where a unicast one is needed. */
  bad_address: 34,
  /** An object of ours (table, arena) had no room; counts a sizing mistake, never the peer's. */
  no_room: 35,
  /** Waited too long in a queue that is not emptied as fast as it fills (CoDel). */
  queue_delay: 36,
} as const;

export type DropName = keyof typeof Drop;
export type DropReason = (typeof Drop)[DropName];

/** Names in the order of their numbers: `DROP_REASONS[Drop.malformed] === 'malformed'`. For `new Counters(DROP_REASONS)`. */
export const DROP_REASONS: readonly DropName[] = Object.keys(Drop) as DropName[];

/** The name of a reason, for people; accepts the negated form. */
export function dropName(reason: number): DropName {
  return DROP_REASONS[Math.abs(reason)] ?? 'malformed';
}
