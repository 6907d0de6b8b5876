/**
 * An agent's side of getting direct: when rounds of punches begin, on which proved pair a link is made, and when it is given up.
 *
 *   idle ──connector's punch, back-off over──► punching ──pair proved──► gathering ──► handshaking ──welcome──► direct
 *     ▲                                           │ no answer                              │ failed                │ lost
 *     └─────────────── back-off ◄─────────────────┴────────────────────────────────────────┴───────────────────────┘
 *
 * A proved pair of the other address family gets a link too, once, which stands by: when the first is in trouble the two change places.
 *
 * The back-off goes up to minutes and is reset by any change of the network, of either end. A direct link that is in trouble, or whose
 * certificates have lived five sixths of their time, is looked for another beside; when that stands, nothing more is sent on the old one,
 * which is closed when what was under way on it has come.
 */
import {
  type Duration,
  earliest,
  elapsed,
  type Instant,
  later,
  Millis,
  Minutes,
  Seconds,
  scale,
} from '../base/time.js';
import { DirectPath, type PunchMessage } from '../node/direct-path.js';
import type { DirectTable } from '../node/direct-table.js';
import type { Link } from '../node/link.js';
import type { Punching } from '../node/punching.js';
import { CloseCode } from '../tunnel/close-codes.js';
import { Tier } from '../tunnel/links/managed-link.js';
import type { Pair } from '../tunnel/punch/pairs.js';
import type { AgentSession } from './session.js';
import { IN_FLIGHT, type SessionLinks } from './session-links.js';

/** A link is made on a pair that was proved at most this long before (protocol.md §4). */
const PROOF_AGE: Duration = Seconds(1);
/** After the first proof others may come that are better, at most this long. */
const GATHER: Duration = Millis(100);
const GATHER_MARGIN: Duration = Millis(20);
/** A handshake on a proved pair takes two round trips; after this it has failed. */
const HANDSHAKE_TIMEOUT: Duration = Seconds(4);
/** From the end of a round without an answer to the next: doubling, up to minutes. */
const FIRST_WAIT: Duration = Seconds(2);
const LONGEST_WAIT: Duration = Minutes(5);
/** Share of the wait by which a round may come earlier or later. */
const JITTER = 0.25;
/** A direct link that has lived this long has worked: the next round comes soon. */
const WORKED: Duration = Seconds(5);
/** A connector that keeps telling new addresses does not make us punch more often than this. */
const ROUND_INTERVAL: Duration = Millis(500);

/** A link that has been suspect for this long is no longer relied on: the same pair, or another, is punched. */
const TROUBLE: Duration = Seconds(1);

/** A pair of the other family may be proved so much later than the link is live, as a round lasts 3.2 s; and has to be so fresh. */
const STANDBY_SEARCH: Duration = Seconds(4);
const STANDBY_PROOF_AGE: Duration = Seconds(4);

/** What a session knows of its direct way. */
export interface DirectSide {
  readonly path: DirectPath;
  /** Whether both operators want direct links, as far as is known of the connector's. */
  isOn: boolean;
  /** In its handshake. */
  attempt: Link | undefined;
  attemptPair: Pair | undefined;
  attemptEnds: Instant | undefined;
  link: Link | undefined;
  /** Another one, over the other address family; only beside `link`. */
  standby: Link | undefined;
  /** Since when one is looked for. */
  standbySince: Instant | undefined;
  /** Another has taken its place; it is open until `endsAt`, for what the connector has sent on it. */
  replaced: { readonly link: Link; readonly endsAt: Instant } | undefined;
  /** A pair is proved, and better ones may follow until then. */
  gatherUntil: Instant | undefined;
  nextRound: Instant | undefined;
  lastRound: Instant | undefined;
  failedRounds: number;
  /** Since everything began anew: so many follow each other without a wait, by the plan. */
  rounds: number;
  /** Why there is no direct link, or why there is one; for `status`. */
  reason: string;
}

export interface AgentDirectParts {
  readonly links: SessionLinks;
  readonly punching: Punching;
  readonly table: DirectTable;
}

export class AgentDirect {
  readonly #parts: AgentDirectParts;

  constructor(parts: AgentDirectParts) {
    this.#parts = parts;
  }

  make(session: AgentSession): DirectSide {
    const { punching } = this.#parts;
    return {
      path: new DirectPath(punching, (message) => {
        for (const link of session.allLinks()) if (link.isLive) link.say(message);
      }),
      isOn: punching.path !== 'relay',
      attempt: undefined,
      attemptPair: undefined,
      attemptEnds: undefined,
      link: undefined,
      standby: undefined,
      standbySince: undefined,
      replaced: undefined,
      gatherUntil: undefined,
      nextRound: undefined,
      lastRound: undefined,
      failedRounds: 0,
      rounds: 0,
      reason: punching.path === 'relay' ? 'operator' : 'not tried yet',
    };
  }

  tellActive({ direct, set }: AgentSession, link: Link, reason: string): void {
    if (direct.isOn || set.size > 1) direct.path.tellActive(link.number, reason);
  }

  /** The link through the relay is live: the connector is told where we are, as it may have missed it. */
  relayLive(now: Instant, { direct }: AgentSession): void {
    if (this.#parts.punching.path !== 'relay') direct.path.linkLive(now, false);
  }

  onPunch(now: Instant, session: AgentSession, message: PunchMessage): void {
    const { direct } = session;
    if (!direct.path.isNews(message.n)) return;
    // Heard though nothing comes of it now: direct links may be switched on later.
    direct.path.hearPunch(message);
    this.#switch(now, session);
    if (!direct.isOn) return;
    direct.failedRounds = 0;
    this.#soon(now, direct);
  }

  /** Own addresses or routes have changed. */
  networkChanged(now: Instant, session: AgentSession): void {
    const { direct } = session;
    if (!direct.isOn) return;
    for (const link of directLinks(direct)) {
      if (direct.path.mayUse(link.connection.remote)) continue;
      this.#parts.links.close(now, link, CloseCode.done, 'its address may no longer be used');
      this.failed(now, session, link, 'its address may no longer be used');
    }
    const { attempt } = direct;
    if (attempt !== undefined && direct.path.hasMoved) {
      // It began from an address that is gone; the pair is none the worse for it.
      this.#parts.links.close(now, attempt, CloseCode.done, 'another network');
      direct.attemptPair = undefined;
      this.failed(now, session, attempt, 'another network');
    }
    if (!direct.path.announceChange(now)) return;
    direct.failedRounds = 0;
    this.#soon(now, direct);
  }

  /** The operator may have switched direct links on or off; the session's manager knows already. */
  pathChanged(now: Instant, session: AgentSession): void {
    this.#switch(now, session);
  }

  /** Direct links are wanted by both operators, or no longer. */
  #switch(now: Instant, session: AgentSession): void {
    const { direct } = session;
    const refusal = direct.path.isPeerOff ? 'operator_of_connector' : undefined;
    const why = this.#parts.punching.path === 'relay' ? 'operator' : refusal;
    const wasOn = direct.isOn;
    direct.isOn = why === undefined;
    if (why !== undefined) direct.reason = why;
    if (direct.isOn === wasOn) return;
    if (direct.isOn) {
      direct.reason = 'not tried yet';
      this.relayLive(now, session);
      this.#soon(now, direct);
      return;
    }
    const { attempt, link, standby } = direct;
    this.#rest(direct);
    direct.reason = why!;
    letGo(direct);
    if (attempt !== undefined) {
      this.#parts.links.close(now, attempt, CloseCode.done, 'operator');
      this.#parts.table.release(now, attempt.connection.remote);
    }
    for (const one of [standby, link]) if (one !== undefined) this.#replace(now, direct, one);
  }

  /** The connector has begun anew: it knows nothing of what was. */
  forget(now: Instant, session: AgentSession, reason: string): void {
    const { direct } = session;
    direct.path.forgetPeer();
    for (const link of directLinks(direct)) this.#parts.links.close(now, link, CloseCode.done, reason);
    this.#clear(now, direct);
    this.#switch(now, session);
  }

  /** The session ends. */
  end(now: Instant, session: AgentSession, reason: string): void {
    const { direct } = session;
    for (const link of directLinks(direct)) this.#parts.links.close(now, link, CloseCode.sessionOver, reason);
    this.#clear(now, direct);
    this.#parts.punching.forget(direct.path);
  }

  /** The link in its handshake is live: it stands by, or takes the place of one that there was. */
  welcomed(now: Instant, session: AgentSession): void {
    const { direct } = session;
    const { link: before, standby } = direct;
    const link = direct.attempt!;
    const standsBy = before !== undefined && isServed(now, direct) && familyOf(link) !== familyOf(before);
    direct.attempt = undefined;
    direct.attemptPair = undefined;
    direct.attemptEnds = undefined;
    // It is one of the session's before it is used: the connector hears of its use on it.
    if (standsBy) direct.standby = link;
    else direct.link = link;
    session.set.add(now, link, Tier.direct, familyOf(link) === 6);
    direct.path.linkLive(now, true);
    // It may have been looked for while the present one was in trouble, which it no longer is.
    direct.reason = 'best_rank';
    if (standsBy) return;
    direct.failedRounds = 0;
    direct.standbySince = now;
    const twin = standby !== undefined && familyOf(standby) === familyOf(link) ? standby : undefined;
    if (twin !== undefined) direct.standby = undefined;
    // Only one is kept open, so the one in use is the last.
    const inOrder = twin === session.link ? [before, twin] : [twin, before];
    for (const one of inOrder) if (one !== undefined) this.#replace(now, direct, one);
  }

  /** Packets leave the link; what the connector has sent on it is still taken. */
  #replace(now: Instant, direct: DirectSide, link: Link): void {
    this.#closeReplaced(now, direct);
    direct.replaced = { link, endsAt: later(now, IN_FLIGHT) };
    if (link.managed !== undefined) link.set?.manager.drain(now, link.managed);
  }

  #closeReplaced(now: Instant, direct: DirectSide): void {
    const { replaced } = direct;
    if (replaced === undefined) return;
    this.#parts.links.close(now, replaced.link, CloseCode.replaced, 'replaced by a newer link');
    this.#forgetReplaced(now, direct);
  }

  #forgetReplaced(now: Instant, direct: DirectSide): void {
    this.#parts.table.release(now, direct.replaced!.link.connection.remote);
    direct.replaced = undefined;
  }

  /** A direct link is closed, or never came to be. */
  failed(now: Instant, session: AgentSession, link: Link, reason: string): void {
    const { direct } = session;
    if (link === direct.replaced?.link) {
      this.#forgetReplaced(now, direct);
      return;
    }
    const { pairs } = direct.path.puncher;
    this.#parts.table.release(now, link.connection.remote);
    if (link === direct.attempt) {
      if (direct.attemptPair !== undefined) pairs.bar(now, direct.attemptPair);
      direct.attempt = undefined;
      direct.attemptPair = undefined;
      direct.attemptEnds = undefined;
      direct.reason = `handshake_failed: ${reason}`;
      this.#later(now, direct);
      return;
    }
    if (link === direct.standby) direct.standby = undefined;
    if (link !== direct.link) return;
    if (direct.standby !== undefined) {
      direct.link = direct.standby;
      direct.standby = undefined;
      return;
    }
    const worked = elapsed(link.made, now) >= WORKED;
    direct.link = undefined;
    direct.reason = `direct_lost: ${reason}`;
    if (worked) this.#soon(now, direct);
    else this.#later(now, direct);
  }

  turn(now: Instant, session: AgentSession): void {
    const { direct } = session;
    if (direct.replaced !== undefined && now >= direct.replaced.endsAt) this.#closeReplaced(now, direct);
    if (!direct.isOn) return;
    if (direct.attempt !== undefined) {
      if (now < direct.attemptEnds!) return;
      const { attempt } = direct;
      this.#parts.links.close(now, attempt, CloseCode.timeout, 'no answer');
      this.failed(now, session, attempt, 'no answer');
      return;
    }
    if (!isServed(now, direct)) this.#useStandby(now, direct);
    const isSearching = direct.nextRound !== undefined || direct.lastRound !== undefined;
    if (isServed(now, direct)) {
      if (isSearching) this.#rest(direct);
      if (direct.standbySince !== undefined) this.#seekStandby(now, session);
      return;
    }
    if (direct.link !== undefined && !isSearching) this.#soon(now, direct);
    const { puncher } = direct.path;
    const pair = puncher.best(now, PROOF_AGE);
    if (pair !== undefined) {
      direct.gatherUntil ??= later(now, Math.min(GATHER, pair.rtt + GATHER_MARGIN) as Duration);
      if (now >= direct.gatherUntil) this.#connect(now, session, pair);
      return;
    }
    direct.gatherUntil = undefined;
    if (puncher.isRunning || direct.path.isGuessing) return;
    if (direct.lastRound !== undefined && direct.nextRound === undefined) this.#unanswered(now, direct);
    if (direct.nextRound !== undefined && now >= direct.nextRound) this.#round(now, session);
  }

  due(now: Instant, { direct }: AgentSession): Instant | undefined {
    const next = direct.isOn ? this.#nextStep(now, direct) : undefined;
    return earliest(direct.replaced?.endsAt, next);
  }

  #nextStep(now: Instant, direct: DirectSide): Instant | undefined {
    if (direct.attempt !== undefined) return direct.attemptEnds;
    if (isServed(now, direct)) return direct.link!.renewAt;
    return earliest(direct.gatherUntil, direct.nextRound);
  }

  #round(now: Instant, session: AgentSession): void {
    const { direct } = session;
    direct.nextRound = undefined;
    const carrier = [...session.allLinks()].find((link) => link.isLive);
    // Without a link there is nobody to begin together with; the next link through the relay brings a new `punch`.
    if (carrier === undefined || !direct.path.puncher.knowsPeer) {
      direct.lastRound = undefined;
      return;
    }
    if (direct.path.plan.rounds === 0) {
      direct.lastRound = undefined;
      direct.reason = 'udp_blocked';
      this.#later(now, direct);
      return;
    }
    direct.lastRound = now;
    direct.rounds++;
    direct.path.beginRound(now, carrier.connection.stats()?.rtt ?? Millis(0));
    direct.reason = 'punching';
  }

  #connect(now: Instant, session: AgentSession, pair: Pair): void {
    const { direct } = session;
    direct.gatherUntil = undefined;
    direct.lastRound = undefined;
    // The other family's pairs go on: one of them may be a link that stands by.
    direct.path.puncher.stopFamily(pair.address.ip.family);
    this.#parts.table.hold(now, pair.address, pair.socket);
    this.#parts.table.expectAnswer(pair.address);
    direct.attempt = this.#parts.links.connect(now, session, pair.address, undefined);
    direct.attemptPair = pair;
    direct.attemptEnds = later(now, HANDSHAKE_TIMEOUT);
    if (direct.link === undefined) direct.reason = 'handshaking';
  }

  /** The other family's link is in order, unlike the present one. */
  #useStandby(now: Instant, direct: DirectSide): void {
    const { link, standby } = direct;
    if (standby === undefined || !isInOrder(now, standby)) return;
    direct.link = standby;
    direct.standby = link;
  }

  #seekStandby(now: Instant, session: AgentSession): void {
    const { direct } = session;
    const isLate = elapsed(direct.standbySince!, now) > STANDBY_SEARCH;
    const other = familyOf(direct.link!) === 4 ? 6 : 4;
    const pair =
      isLate || direct.standby !== undefined ? undefined : direct.path.puncher.best(now, STANDBY_PROOF_AGE, other);
    if (isLate || pair !== undefined) direct.standbySince = undefined;
    if (pair !== undefined) this.#connect(now, session, pair);
  }

  /** A round is over and nothing is proved. */
  #unanswered(now: Instant, direct: DirectSide): void {
    if (direct.path.beginGuessing(now)) {
      direct.lastRound = now;
      direct.reason = 'guessing_ports';
      return;
    }
    direct.lastRound = undefined;
    const { believed = 0, refused, puncher, plan } = direct.path;
    const sent = puncher.pairs.all.reduce((sum, pair) => sum + pair.sends, 0);
    const why = sent === 0 && !plan.usesPublic ? 'both NATs are strict' : `no answer to ${sent} punches`;
    const isBarred = puncher.pairs.all.some(
      ({ state, barredUntil }) => state === 'proved' && barredUntil !== undefined && barredUntil > now,
    );
    const unproved = isBarred ? 'handshake_failed: waits until it is tried again' : `direct_unproved: ${why}`;
    const none = refused.length === 0 ? 'no_candidates' : `no_candidates: ${refused.join(', ')}`;
    direct.reason = believed === 0 ? none : unproved;
    if (believed > 0 && direct.rounds < direct.path.plan.rounds) direct.nextRound = now;
    else this.#later(now, direct);
  }

  #soon(now: Instant, direct: DirectSide): void {
    if (direct.attempt !== undefined || isServed(now, direct)) return;
    const earliestRound = direct.lastRound === undefined ? now : later(direct.lastRound, ROUND_INTERVAL);
    direct.nextRound = Math.max(now, earliestRound) as Instant;
    direct.rounds = 0;
    direct.path.puncher.stop();
  }

  /** Nothing is looked for any more. */
  #rest(direct: DirectSide): void {
    direct.path.puncher.stop();
    direct.nextRound = undefined;
    direct.lastRound = undefined;
    direct.gatherUntil = undefined;
    direct.failedRounds = 0;
    direct.reason = 'best_rank';
  }

  #later(now: Instant, direct: DirectSide): void {
    const wait = Math.min(FIRST_WAIT * 2 ** direct.failedRounds, LONGEST_WAIT) as Duration;
    const unit = this.#parts.punching.entropy.uint32() / 0x1_0000_0000;
    direct.failedRounds++;
    direct.nextRound = later(now, scale(wait, 1 - JITTER + 2 * JITTER * unit));
  }

  #clear(now: Instant, direct: DirectSide): void {
    for (const link of directLinks(direct)) this.#parts.table.release(now, link.connection.remote);
    letGo(direct);
    direct.replaced = undefined;
    direct.gatherUntil = undefined;
    direct.nextRound = undefined;
    direct.lastRound = undefined;
    direct.failedRounds = 0;
  }
}

/** Its links, and the one in its handshake, are looked after by somebody else. */
function letGo(direct: DirectSide): void {
  direct.attempt = undefined;
  direct.attemptPair = undefined;
  direct.attemptEnds = undefined;
  direct.link = undefined;
  direct.standby = undefined;
  direct.standbySince = undefined;
}

/** Whether there is a direct link that needs no other. */
function isServed(now: Instant, { link }: DirectSide): boolean {
  return link !== undefined && isInOrder(now, link);
}

function isInOrder(now: Instant, link: Link): boolean {
  const isTroubled = link.managed?.state === 'suspect' && elapsed(link.managed.since, now) >= TROUBLE;
  return !isTroubled && (link.renewAt === undefined || now < link.renewAt);
}

function familyOf({ connection }: Link): 4 | 6 {
  return connection.remote.ip.family;
}

function directLinks({ attempt, link, standby, replaced }: DirectSide): Link[] {
  return [attempt, link, standby, replaced?.link].filter((one) => one !== undefined);
}
