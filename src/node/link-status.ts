/** A link, and a relay connection, as `status` shows them. */

import type { SocketAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { elapsed, type Instant, Micros, toMillis, toSeconds } from '../base/time.js';
import { LOSS_WINDOW } from '../tunnel/links/beat-history.js';
import type { LinkCounter, ManagedState } from '../tunnel/links/states.js';
import type { Link } from './link.js';
import type { RelayClient } from './relay-client.js';
import type { RelayMember, Relays } from './relays.js';

export interface LinkStatus {
  readonly via: 'relay' | 'direct';
  /** The relay's name. */
  readonly relay: string | undefined;
  readonly number: number;
  /** The peer's address, or the relay's. */
  readonly remote: string;
  readonly state: ManagedState;
  /** Why it is in this state. */
  readonly why: string;
  readonly secondsLive: number;
  readonly rttMilliseconds: number;
  readonly packets: { readonly in: number; readonly out: number };
  readonly lostPackets: number;
  /** From heartbeats, while packets flow: how far round trips differ, and the shares of the last 16 that were lost. */
  readonly jitterMilliseconds: number;
  readonly loss: { readonly in: number; readonly out: number };
  readonly maxDatagram: number;
}

/** What a link's state depends on beside itself. */
export interface LinkContext {
  readonly now: Instant;
  /** The link that carries the session's packets. */
  readonly active: Link | undefined;
  readonly relays: Relays;
  /** Why the link in use is in use, where the links themselves do not know. */
  readonly why: string | undefined;
}

export function linkStatus(link: Link, { now, active, relays, why }: LinkContext): LinkStatus {
  const relay = link.channel && relays.at(link.channel.relay);
  const stats = link.connection.stats();
  const { managed } = link;
  // What it has been suspected of meanwhile is not why it is in use.
  const chosen = managed?.state === 'active' ? link.set?.manager.activeReason : undefined;
  const own = chosen ?? managed?.reason ?? (link.isDirect ? 'pair_proved' : 'channel_open');
  return {
    via: link.isDirect ? 'direct' : 'relay',
    relay: relay?.name,
    number: link.number,
    remote: String((link.isDirect ? link.connection : relay?.connection)?.remote ?? ''),
    state: managed?.state ?? 'handshaking',
    why: (link === active ? why : undefined) ?? own,
    secondsLive: Math.round(toSeconds(elapsed(link.liveSince ?? now, now))),
    rttMilliseconds: stats === undefined ? 0 : Math.round(toMillis(stats.rtt) * 1000) / 1000,
    packets: { in: link.packetsIn, out: link.packetsOut },
    lostPackets: stats?.packetsLost ?? 0,
    jitterMilliseconds: Math.round(toMillis(managed?.health.rttvar ?? Micros(0)) * 1000) / 1000,
    loss: { in: managed?.health.down.loss(LOSS_WINDOW) ?? 0, out: managed?.health.up.loss(LOSS_WINDOW) ?? 0 },
    maxDatagram: link.maxDatagram,
  };
}

/** What was counted about links, for `status` and metrics. */
export function linkCounters(counters: Counters<LinkCounter>): Record<string, number> {
  return Object.fromEntries(Object.entries(counters.snapshot()).map(([name, count]) => [`path.${name}`, count]));
}

/** A relay connection as `status` shows it. */
export interface RelayStatus {
  readonly state: string;
  readonly address: string | undefined;
  /** How it is, or is being, reached; over TCP `address` is a port of this machine. */
  readonly over: 'udp' | 'tcp';
  readonly observed: string | undefined;
  readonly secondsInState: number;
  /** Why it is not ready, or why it was lost last; empty when neither. */
  readonly problem: string;
  /** Things the relay has said that cannot be true, and that were not followed. */
  readonly lies: number;
}

/** What a relay is to this node: where it keeps its connection, the second one, one it needs now, and one it only measures. */
export type RelayPlace = 'home' | 'standby' | 'used' | 'resting';

/** A relay of the network as `status` shows it. */
export interface RelayPlaceStatus extends RelayStatus {
  readonly name: string;
  readonly place: RelayPlace;
  /** Why it has this place. */
  readonly why: string;
  readonly isDraining: boolean;
  /** Of its connection, or of the last question that it answered; undefined: not known. */
  readonly rttMilliseconds: number | undefined;
}

/** Every relay of the network, home and standby first. */
export function relayPlaces(relays: Relays, now: Instant): RelayPlaceStatus[] {
  const order: readonly RelayPlace[] = ['home', 'standby', 'used', 'resting'];
  const rank = ({ place }: RelayPlaceStatus): number => order.indexOf(place);
  return relays.members.map((member) => placeStatus(relays, member, now)).sort((a, b) => rank(a) - rank(b));
}

function placeStatus(relays: Relays, member: RelayMember, now: Instant): RelayPlaceStatus {
  const { client, observed } = member;
  const { ranking } = relays;
  const rtt = relays.rtt(member);
  const [place, why] = placeOf(relays, member, ranking.homeReason, ranking.standbyReason);
  return {
    name: client.name,
    place,
    why,
    isDraining: client.isDraining,
    rttMilliseconds: rtt === undefined ? undefined : Math.round(toMillis(rtt) * 1000) / 1000,
    ...relayStatus(client, observed, now),
  };
}

function placeOf(relays: Relays, member: RelayMember, home: string, standby: string): readonly [RelayPlace, string] {
  const index = relays.members.indexOf(member);
  if (index === relays.ranking.home) return ['home', home];
  if (index === relays.ranking.standby) return ['standby', standby];
  return member.client.isKept ? ['used', member.client.isDraining ? 'drains' : 'in_use'] : ['resting', 'farther'];
}

export function relayStatus(relay: RelayClient, observed: SocketAddress | undefined, now: Instant): RelayStatus {
  return {
    state: relay.state,
    address: relay.connection?.remote.toString(),
    over: relay.isOverTcp ? 'tcp' : 'udp',
    observed: observed?.toString(),
    secondsInState: Math.round(toSeconds(elapsed(relay.since, now))),
    problem: relay.lastProblem,
    lies: relay.lies,
  };
}
