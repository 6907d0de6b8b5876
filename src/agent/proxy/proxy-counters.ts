/** What the proxy counts of its clients. */
import type { ProxyOutcome } from './proxy-connection.js';

export const PROXY_COUNTERS = [
  'socks_clients',
  'http_clients',
  'forward_clients',
  /** Closed at once because as many clients as there may be were there. */
  'clients_over_limit',
  /** Closed at once because their address may not use the listener. */
  'clients_not_allowed',
  'accept_pauses',
  'dials',
  'bridged',
  /** Requests that were passed on to a service. */
  'http_requests',
  // How visits ended (`ProxyOutcome`).
  'finished',
  'broken',
  'abandoned',
  'malformed',
  'silent',
  'not_allowed',
  'net_unreachable',
  'host_unreachable',
  'refused',
  'timeout',
  'failed',
  // Of ended visits.
  'bytes_in',
  'bytes_out',
] as const;
export type ProxyCounterName = (typeof PROXY_COUNTERS)[number];

export const COUNTER_OF: Readonly<Record<ProxyOutcome, ProxyCounterName>> = {
  finished: 'finished',
  broken: 'broken',
  abandoned: 'abandoned',
  malformed: 'malformed',
  silent: 'silent',
  'not-allowed': 'not_allowed',
  'net-unreachable': 'net_unreachable',
  'host-unreachable': 'host_unreachable',
  refused: 'refused',
  timeout: 'timeout',
  failed: 'failed',
};
