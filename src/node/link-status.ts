/** A link, and a relay connection, as `status` shows them. */

import type { SocketAddress } from '../base/address.js';
import { elapsed, type Instant, toMillis, toSeconds } from '../base/time.js';
import type { Link } from './link.js';
import type { RelayClient } from './relay-client.js';

export interface LinkStatus {
  readonly via: 'relay' | 'direct';
  readonly number: number;
  /** The peer's address, or the relay's. */
  readonly remote: string;
  readonly state: 'handshaking' | 'standby' | 'active' | 'suspect';
  /** Why it is in this state. */
  readonly why: string;
  readonly secondsLive: number;
  readonly rttMilliseconds: number;
  readonly packets: { readonly in: number; readonly out: number };
  readonly lostPackets: number;
  readonly maxDatagram: number;
}

/** What a link's state depends on beside itself. */
export interface LinkContext {
  readonly now: Instant;
  /** The link that carries the session's packets. */
  readonly active: Link | undefined;
  readonly relay: RelayClient;
  /** Why the active link is the active one. */
  readonly why: string;
}

export function linkStatus(link: Link, { now, active, relay, why }: LinkContext): LinkStatus {
  const stats = link.connection.stats();
  const isActive = link === active;
  const isSuspect = link.lifeSigns.isSuspect;
  const state = !link.isLive ? 'handshaking' : isSuspect ? 'suspect' : isActive ? 'active' : 'standby';
  const others = { handshaking: 'pair_proved', suspect: 'no_life_sign', standby: 'lower_rank', active: why } as const;
  return {
    via: link.isDirect ? 'direct' : 'relay',
    number: link.number,
    remote: String((link.isDirect ? link.connection : relay.connection)?.remote ?? ''),
    state,
    why: isActive ? why : link.isDirect || link.isLive ? others[state] : 'channel_open',
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
