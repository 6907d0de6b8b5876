/**
 * A node's relays: a connection is kept to its home and to its standby (`RelayRanking`), and to others only while something needs
 * them; how far away the rest are is asked rarely.
 *
 *   kept      home · standby · carries channels · drains · all, for a while, when somebody looks for a connector
 *   measured  the others, by PROBE
 *
 * With one relay there is nothing to choose: no timer runs here.
 */
import type { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, earliest, elapsed, type Instant, later, Millis, Seconds, type WallTime } from '../base/time.js';
import { dnsName } from '../policy/names.js';
import { MAX_RELAYS } from '../policy/relay-contact.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import type { ProbeReply } from '../tunnel/frames.js';
import { Tier } from '../tunnel/links/managed-link.js';
import type { FromRelay } from '../tunnel/messages.js';
import { type RelayFigures, RelayRanking, type RelayReason } from '../tunnel/relay-ranking.js';
import type { Link } from './link.js';
import { RelayClient } from './relay-client.js';
import { RelayMeter } from './relay-meter.js';
import type { Underlay } from './underlay.js';

/** How often the places are given out anew; losses are not waited for. */
const REVIEW: Duration = Seconds(5);
/** At the start the first answers of more than two relays are waited for this long, so that the nearest ones are taken. */
const FIRST_ANSWERS: Duration = Millis(300);
/** Somebody looks for a connector: every relay is kept for this long, and longer where it is found. */
const SEARCH: Duration = Seconds(60);

/** What a node tells of its relays. */
export type RelayEvent =
  | { readonly kind: 'relay-ready'; readonly relay: string; readonly over: 'udp' | 'tcp' }
  | { readonly kind: 'relay-lost'; readonly relay: string; readonly reason: string }
  | { readonly kind: 'relay-drains'; readonly relay: string; readonly seconds: number }
  /** Another relay is home; undefined: none is connected. */
  | { readonly kind: 'relay-home'; readonly relay: string | undefined; readonly reason: RelayReason };

export interface RelaysOwner {
  onRelayReady(now: Instant, relay: RelayClient): void;
  onRelayLost(now: Instant, relay: RelayClient, reason: string): void;
  onRelayMessage(now: Instant, relay: RelayClient, message: FromRelay): void;
  /** The home relay sees this node at this address. */
  onObserved(now: Instant, address: SocketAddress): void;
  onRelayAttempt(relay: RelayClient, attempt: number): void;
  /** Another relay is home, or none. */
  onHome(now: Instant, relay: RelayClient | undefined, reason: RelayReason): void;
  isRelayWanted(): boolean;
  /** Whether channels of this relay are in use. */
  isUsed(relay: RelayClient): boolean;
}

export interface RelaysParts {
  readonly endpoint: QuicEndpoint;
  readonly underlay: Underlay;
  readonly entropy: Entropy;
  readonly role: 'agent' | 'connector';
  readonly network: string;
  readonly software: string;
  readonly proof: () => unknown;
  readonly wall: () => WallTime;
  readonly owner: RelaysOwner;
}

/** One relay of the network, as this node knows it. */
export interface RelayMember {
  readonly client: RelayClient;
  readonly meter: RelayMeter;
  /** Where that relay sees this node. */
  observed: SocketAddress | undefined;
}

export class Relays {
  readonly ranking = new RelayRanking();
  #members: RelayMember[] = [];
  readonly #parts: RelaysParts;
  #nextReview: Instant = 0 as Instant;
  #startedAt: Instant | undefined;
  #isSettled = false;
  #searchUntil: Instant | undefined;

  /** @param names of the relays, best known first, 1 – `MAX_RELAYS`. */
  constructor(parts: RelaysParts, names: readonly string[]) {
    this.#parts = parts;
    this.#members = names.slice(0, MAX_RELAYS).map((name, slot) => this.#make(name, slot));
    this.#isSettled = this.#members.length <= 2;
    if (!this.#isSettled) for (const { client } of this.#members) client.keep(0 as Instant, false);
  }

  get members(): readonly RelayMember[] {
    return this.#members;
  }

  /** The home relay; the first of the list while none is connected. */
  get home(): RelayClient {
    return (this.#members[this.ranking.home] ?? this.#members[0]!).client;
  }

  get standby(): RelayClient | undefined {
    return this.#members[this.ranking.standby]?.client;
  }

  /** Those that are connected and not about to stop: home, standby, then the others. */
  *usable(): Generator<RelayClient> {
    const { home, standby } = this;
    if (isUsable(home)) yield home;
    if (standby !== undefined && standby !== home && isUsable(standby)) yield standby;
    for (const { client } of this.#members) if (client !== home && client !== standby && isUsable(client)) yield client;
  }

  get observed(): SocketAddress | undefined {
    return (this.#members[this.ranking.home] ?? this.#members.find(({ observed }) => observed !== undefined))?.observed;
  }

  find(name: string): RelayClient | undefined {
    return this.#members.find(({ client }) => client.name === name)?.client;
  }

  at(slot: number): RelayClient | undefined {
    return this.#members.find(({ client }) => client.slot === slot)?.client;
  }

  /** How good the way of a relayed link is, by how its relay is reached. */
  tierAt({ channel }: Link): Tier {
    return channel !== undefined && this.at(channel.relay)?.isOverTcp === true ? Tier.relayTcp : Tier.relayUdp;
  }

  /** How far away a relay is; undefined: not known. */
  rtt({ client, meter }: RelayMember): Duration | undefined {
    return (client.isReady ? client.connection?.stats()?.rtt : undefined) ?? meter.rtt;
  }

  /** The network's relays are these from now on; those that stay keep their connections. */
  setNames(now: Instant, names: readonly string[]): void {
    const wanted = names.slice(0, MAX_RELAYS);
    const present = this.#members.map(({ client }) => client.name);
    if (wanted.length === 0 || wanted.join() === present.join()) return;
    const gone = this.#members.filter(({ client }) => !wanted.includes(client.name));
    const kept = this.#members.filter((one) => !gone.includes(one));
    const free = Array.from({ length: MAX_RELAYS }, (_, slot) => slot).filter((slot) => {
      return !kept.some(({ client }) => client.slot === slot);
    });
    this.#members = wanted.map(
      (name) => kept.find(({ client }) => client.name === name) ?? this.#make(name, free.shift()!),
    );
    this.ranking.clear();
    for (const { client } of gone) {
      client.keep(now, false);
      client.stop(now);
      if (!this.#members.some((one) => one.client.slot === client.slot))
        this.#parts.underlay.setRelay(client.slot, undefined);
    }
    this.#isSettled = true;
    this.#review(now);
  }

  /** Every relay is connected to for a while: a connector is looked for that those which are connected do not know. */
  search(now: Instant): void {
    if (this.#members.length <= 2) return;
    this.#searchUntil = later(now, SEARCH);
    this.#review(now);
  }

  /** Packets have been lost on the way through this relay: it is asked for a life sign at once. */
  suspectAt(now: Instant, slot: number): void {
    this.at(slot)?.suspect(now);
  }

  /** This machine may have slept, or is elsewhere. */
  suspect(now: Instant): void {
    for (const { client, meter } of this.#members) {
      if (client.isKept) client.suspect(now);
      meter.renew(now);
    }
  }

  /** The host's routes have changed: relays' addresses that none leads to any more are left for others. */
  routesChanged(now: Instant, hasRoute: (address: SocketAddress) => boolean): void {
    for (const { client } of this.#members) client.routesChanged(now, hasRoute);
  }

  wake(now: Instant): void {
    for (const { client, meter } of this.#members) {
      client.wake(now);
      meter.renew(now);
    }
  }

  onProbeReply(now: Instant, reply: ProbeReply): void {
    for (const { client, meter } of this.#members) {
      if (!meter.onReply(now, reply.nonce)) client.onProbeReply(now, reply.nonce);
      else this.#nextReview = now;
    }
  }

  turn(now: Instant): void {
    for (const { client } of this.#members) client.turn(now);
    if (this.#members.length === 1) return;
    if (!this.#isSettled) this.#settle(now);
    if (now >= this.#nextReview) this.#review(now);
    for (const { client, meter } of this.#members) {
      const address = client.addresses[0];
      if (!client.isKept && address !== undefined) meter.turn(now, address);
    }
  }

  nextTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const { client } of this.#members) next = earliest(next, client.nextTimeout());
    if (this.#members.length === 1) return next;
    for (const { client, meter } of this.#members) {
      if (!client.isKept && client.addresses.length > 0) next = earliest(next, meter.due);
    }
    if (this.#isSettled) return earliest(next, this.#nextReview);
    return this.#startedAt === undefined ? next : earliest(next, later(this.#startedAt, FIRST_ANSWERS));
  }

  stop(now: Instant): void {
    for (const { client } of this.#members) client.stop(now);
  }

  #make(name: string, slot: number): RelayMember {
    const { underlay, owner, network, ...parts } = this.#parts;
    const send = (address: SocketAddress, bytes: Uint8Array): void => underlay.probe(address, bytes);
    const client = new RelayClient({
      ...parts,
      name,
      slot,
      serverName: dnsName(network, 'relay', name),
      setRelay: (address, credit) => underlay.setRelay(slot, address, credit),
      sendProbe: send,
      owner: {
        onRelayReady: (now, relay) => {
          this.#review(now);
          owner.onRelayReady(now, relay);
        },
        onRelayLost: (now, relay, reason) => {
          // Places first: who has lost a channel asks for another at once, elsewhere.
          this.#review(now);
          owner.onRelayLost(now, relay, reason);
        },
        onRelayMessage: (now, relay, message) => {
          if (message.type === 'drain') this.#left(now, message.alternatives);
          owner.onRelayMessage(now, relay, message);
        },
        onObserved: (now, relay, address) => {
          member.observed = address;
          if (relay === this.home) owner.onObserved(now, address);
        },
        onRelayAttempt: (_now, relay, attempt) => owner.onRelayAttempt(relay, attempt),
        isRelayWanted: () => owner.isRelayWanted(),
      },
    });
    const member: RelayMember = { client, meter: new RelayMeter(parts.entropy, send), observed: undefined };
    return member;
  }

  /** A relay is about to stop, and names the others: those that are waited for are tried at once. */
  #left(now: Instant, others: readonly string[]): void {
    this.#review(now);
    for (const name of others) this.find(name)?.wake(now);
  }

  /** More than two relays, and none is connected yet: the nearest are found out first. */
  #settle(now: Instant): void {
    const known = this.#members.filter(({ client }) => client.addresses.length > 0);
    if (known.length === 0) return;
    this.#startedAt ??= now;
    const isAnswered = known.length === this.#members.length && known.every(({ meter }) => meter.isKnown);
    if (!isAnswered && elapsed(this.#startedAt, now) < FIRST_ANSWERS) return;
    this.#isSettled = true;
    this.#nextReview = now;
  }

  #review(now: Instant): void {
    this.#nextReview = later(now, REVIEW);
    if (!this.#isSettled || this.#isReviewing) return;
    this.#isReviewing = true;
    const { owner } = this.#parts;
    const isChanged = this.ranking.choose(
      now,
      this.#members.map((one) => this.#figures(one)),
    );
    if (isChanged) {
      const home = this.#members[this.ranking.home];
      owner.onHome(now, home?.client, this.ranking.homeReason);
      if (home?.observed !== undefined) owner.onObserved(now, home.observed);
    }
    this.#keep(now);
    this.#isReviewing = false;
  }
  /** Letting go of a relay tells its loss, which asks for a review. */
  #isReviewing = false;

  #figures(member: RelayMember): RelayFigures {
    const { client, meter } = member;
    const { isReady } = client;
    const rtt = this.rtt(member);
    if (isReady && rtt !== undefined) meter.measured(rtt);
    const isAway = client.isKept ? !isReady && client.lastProblem !== '' : meter.isAway;
    return { rtt, isReady, isDraining: client.isDraining, isAway };
  }

  #keep(now: Instant): void {
    if (this.#members.length === 1) return;
    const { home, standby } = this.ranking;
    const isSearching = this.#searchUntil !== undefined && now < this.#searchUntil;
    const isAlone = home < 0;
    this.#members.forEach(({ client }, index) => {
      const isPlaced = index === home || index === standby;
      const isNeeded = client.isReady && (client.isDraining || this.#parts.owner.isUsed(client));
      client.keep(now, isPlaced || isNeeded || isSearching || (isAlone && this.#isNext(index)));
    });
  }

  /** While none is connected: whether this one is tried beside the standby. */
  #isNext(index: number): boolean {
    const { standby } = this.ranking;
    let next = -1;
    this.#members.forEach((one, i) => {
      if (i === standby) return;
      const best = this.#members[next];
      if (
        best === undefined ||
        (one.meter.rtt ?? Number.POSITIVE_INFINITY) < (best.meter.rtt ?? Number.POSITIVE_INFINITY)
      )
        next = i;
    });
    return index === next;
  }
}

function isUsable({ isReady, isDraining }: RelayClient): boolean {
  return isReady && !isDraining;
}
