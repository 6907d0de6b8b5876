/** A link as `status` shows it. */

import type { SocketAddress } from '../base/address.js';
import { elapsed, type Instant, toMillis, toSeconds } from '../base/time.js';
import type { Link } from './link.js';
import type { RelayClient } from './relay-client.js';

export interface LinkStatus {
  readonly via: 'relay';
  readonly number: number;
  readonly secondsLive: number;
  readonly rttMilliseconds: number;
  readonly packets: { readonly in: number; readonly out: number };
  readonly lostPackets: number;
  readonly maxDatagram: number;
}

export function linkStatus(link: Link | undefined, now: Instant): LinkStatus | undefined {
  if (link === undefined || !link.isLive) return undefined;
  const stats = link.connection.stats();
  return {
    via: 'relay',
    number: link.number,
    secondsLive: Math.round(toSeconds(elapsed(link.liveSince ?? now, now))),
    rttMilliseconds: stats === undefined ? 0 : Math.round(toMillis(stats.rtt) * 1000) / 1000,
    packets: { in: link.packetsIn, out: link.packetsOut },
    lostPackets: stats?.packetsLost ?? 0,
    maxDatagram: link.maxDatagram,
  };
}

/** A relay connection as `status` shows it. */
export interface RelayStatus {
  readonly state: string;
  readonly address: string | undefined;
  readonly observed: string | undefined;
  readonly secondsInState: number;
  /** Why it is not ready, or why it was lost last; empty when neither. */
  readonly problem: string;
  /** Things the relay has said that cannot be true, and that were not followed. */
  readonly lies: number;
}

export function relayStatus(relay: RelayClient, observed: SocketAddress | undefined, now: Instant): RelayStatus {
  return {
    state: relay.state,
    address: relay.connection?.remote.toString(),
    observed: observed?.toString(),
    secondsInState: Math.round(toSeconds(elapsed(relay.since, now))),
    problem: relay.lastProblem,
    lies: relay.lies,
  };
}
