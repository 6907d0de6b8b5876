/**
 * Which of a network's relays a node keeps connections to: its home, the nearest, and a hot standby, the next.
 *
 *   home      of those that are connected the one with the shortest round trip
 *   standby   of the others that answer the one with the shortest round trip, whether it is connected yet or not
 *
 * A place changes hands at once when its holder is lost or about to stop, and otherwise only for a relay that has been nearer by
 * 10 ms and a fifth for half a minute: a node that runs to and fro serves nobody. A home that was merely the first to answer is
 * left as soon as a nearer one has, for some seconds.
 */
import { type Duration, elapsed, type Instant, Millis, Seconds } from '../base/time.js';

/** Nearer by less than both is not worth a change. */
export const NEARER: Duration = Millis(10);
export const NEARER_SHARE = 0.2;
/** A relay must have been nearer for this long. */
export const NEARER_FOR: Duration = Seconds(30);

/** For so long after the first one was connected the others are still coming. */
export const STARTING: Duration = Seconds(3);

/** What is known of one relay now. */
export interface RelayFigures {
  /** Of its connection, or of the last question that it answered; undefined: it has never answered. */
  readonly rtt: Duration | undefined;
  readonly isReady: boolean;
  /** It is about to stop. */
  readonly isDraining: boolean;
  /** The last attempt, connection or question failed. */
  readonly isAway: boolean;
}

/** Why a relay has its place; `status` and events show these words, so they are stable. */
export type RelayReason =
  | 'only_relay'
  | 'first_ready'
  | 'nearest'
  | 'nearer'
  | 'home_lost'
  | 'home_drains'
  | 'next_nearest';

interface Place {
  /** Index of the relay; −1: none. */
  holder: number;
  since: Instant;
  reason: RelayReason;
  /** Who has been nearer, since when. */
  rival: number;
  rivalSince: Instant;
}

export class RelayRanking {
  readonly #home: Place = emptyPlace();
  readonly #standby: Place = emptyPlace();

  /** Index of the home relay; −1 while none is connected. */
  get home(): number {
    return this.#home.holder;
  }
  /** Index of the standby; −1 where there is only one relay. */
  get standby(): number {
    return this.#standby.holder;
  }
  get homeReason(): RelayReason {
    return this.#home.reason;
  }
  get standbyReason(): RelayReason {
    return this.#standby.reason;
  }

  /** Gives out the places anew. Returns whether the home relay is another one, or none. */
  choose(now: Instant, relays: readonly RelayFigures[]): boolean {
    const before = this.#home.holder;
    const old = before < 0 ? undefined : relays[before];
    const may = (one: RelayFigures): boolean => one.isReady && !one.isDraining;
    if (old === undefined || !may(old)) {
      const next = nearest(relays, may);
      take(now, this.#home, next, reasonOfHome(relays.length, old));
    } else contest(now, this.#home, relays, may);
    const { home } = this;
    const mayStand = (one: RelayFigures, index: number): boolean => index !== home && !one.isDraining && !one.isAway;
    const stands = this.#standby.holder;
    if (stands < 0 || relays[stands] === undefined || !mayStand(relays[stands], stands)) {
      let next = nearest(relays, mayStand);
      if (next < 0) next = nearest(relays, (_one, index) => index !== home);
      if (next !== stands) take(now, this.#standby, next, 'next_nearest');
    } else contest(now, this.#standby, relays, mayStand);
    return this.#home.holder !== before;
  }

  /** The relays are others now. */
  clear(): void {
    Object.assign(this.#home, emptyPlace());
    Object.assign(this.#standby, emptyPlace());
  }
}

function emptyPlace(): Place {
  return { holder: -1, since: 0 as Instant, reason: 'first_ready', rival: -1, rivalSince: 0 as Instant };
}

function reasonOfHome(count: number, old: RelayFigures | undefined): RelayReason {
  if (count === 1) return 'only_relay';
  if (old === undefined) return 'first_ready';
  return old.isDraining ? 'home_drains' : 'home_lost';
}

type Judge = (one: RelayFigures, index: number) => boolean;

/** The nearest of those that `may`; those never measured come last, the first of equals wins. */
function nearest(relays: readonly RelayFigures[], may: Judge): number {
  let best = -1;
  for (let i = 0; i < relays.length; i++) {
    if (may(relays[i]!, i) && (best < 0 || rttOf(relays[i]!) < rttOf(relays[best]!))) best = i;
  }
  return best;
}

function rttOf({ rtt }: RelayFigures): number {
  return rtt ?? Number.POSITIVE_INFINITY;
}

function take(now: Instant, place: Place, holder: number, reason: RelayReason): void {
  place.holder = holder;
  place.since = now;
  place.reason = reason;
  place.rival = -1;
}

/** The holder is well: another takes its place only after it has been nearer for a while. */
function contest(now: Instant, place: Place, relays: readonly RelayFigures[], may: Judge): void {
  const rival = nearest(relays, may);
  if (rival < 0 || !isNearer(relays[rival]!, relays[place.holder]!)) {
    place.rival = -1;
    return;
  }
  if (rival !== place.rival) {
    place.rival = rival;
    place.rivalSince = now;
  }
  const isStarting = place.reason === 'first_ready' && elapsed(place.since, now) < STARTING;
  if (isStarting) take(now, place, rival, 'nearest');
  else if (elapsed(place.rivalSince, now) >= NEARER_FOR) take(now, place, rival, 'nearer');
}

function isNearer(one: RelayFigures, than: RelayFigures): boolean {
  const gain = rttOf(than) - rttOf(one);
  return gain > NEARER && gain > rttOf(than) * NEARER_SHARE;
}
