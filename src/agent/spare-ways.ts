/**
 * The spare way of each session: a second link to its connector, through another relay than the first, on standby for when that
 * relay dies or stops.
 *
 *   none ──first way live, another relay usable──► opening ──channel──► linking ──welcome──► live
 *    ▲                                               │                     │                  │ relay or link lost
 *    └──── back-off, or until that relay says more ◄─┴─────────────────────┴──────────────────┘
 *
 * When the first way is lost, or its relay drains, a live spare takes its place (`promote`) and the next relay's turn comes. A link whose
 * certificates end soon is left for a newer one in the same way; where there is no other relay, for one through the same.
 */
import { type Duration, earliest, type Instant, later, Seconds } from '../base/time.js';
import type { Link } from '../node/link.js';
import type { Channel } from '../node/link-channels.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Relays } from '../node/relays.js';
import type { Backoff } from '../tunnel/backoff.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { ChannelAsker } from './channel-asker.js';
import type { AgentSession } from './session.js';
import { IN_FLIGHT, type SessionLinks, type SessionLinksOwner } from './session-links.js';

/** A link that is not live by then is given up. */
const LINK_TIMEOUT: Duration = Seconds(8);

/** What a session knows of its spare way. */
export interface SpareWay {
  relay: RelayClient | undefined;
  channel: Channel | undefined;
  link: Link | undefined;
  /** When the present attempt is given up, or the next is due; undefined: when a relay says more. */
  deadline: Instant | undefined;
  /** When it may ask, while it waits for its turn. */
  turn: Instant | undefined;
  readonly backoff: Backoff;
  /** Since when packets have been leaving its link, as its relay stops or its certificates end soon. */
  leftSince: Instant | undefined;
  /** Relays that have no way to the connector. */
  readonly refusedBy: Set<RelayClient>;
}

export interface SpareWaysParts {
  readonly relays: Relays;
  readonly links: SessionLinks;
  readonly asker: ChannelAsker;
  readonly owner: Pick<SessionLinksOwner, 'onBack'>;
}

export class SpareWays {
  readonly #parts: SpareWaysParts;

  constructor(parts: SpareWaysParts) {
    this.#parts = parts;
  }

  turn(now: Instant, session: AgentSession): void {
    const { spare } = session;
    if (isDue(now, session.relayed)) this.#renewFirst(now, session);
    const { link } = spare;
    if (link?.isLive) {
      if (spare.relay?.isDraining || isDue(now, link)) this.#leave(now, session, link);
      const state = link.lifeSigns.check(now, link.connection);
      if (state === 'gone') this.drop(now, session, 'no life sign');
      else if (state === 'back') this.#parts.owner.onBack(now, session, link);
      else if (this.#isLeft(now, session, link)) {
        this.drop(now, session, spare.relay?.isDraining ? 'the relay is about to stop' : 'renewed');
        if (isDue(now, session.relayed)) spare.deadline = now;
      }
      return;
    }
    if (session.relayState !== 'live' || spare.deadline === undefined || now < spare.deadline) return;
    if (spare.relay !== undefined) this.drop(now, session, 'the connector does not answer');
    else this.#open(now, session);
  }

  nextTimeout(now: Instant, session: AgentSession): Instant | undefined {
    const { link, deadline } = session.spare;
    const first = dueAfter(now, session.relayed);
    if (link?.isLive) {
      return earliest(earliest(first, dueAfter(now, link)), earliest(link.lifeSigns.due, this.#leftAt(session, link)));
    }
    return session.relayState === 'live' ? earliest(first, deadline) : first;
  }

  /** The first way stands, or a relay has become usable: it is time to look for a spare one. */
  look(now: Instant, { spare }: AgentSession): void {
    if (spare.relay === undefined) spare.deadline = now;
  }

  /** This relay may have a way to the connector again. */
  mayHave(now: Instant, session: AgentSession, relay: RelayClient): void {
    session.spare.refusedBy.delete(relay);
    this.look(now, session);
  }

  /** The spare link has been welcomed. */
  live(now: Instant, session: AgentSession): void {
    session.spare.deadline = undefined;
    session.spare.backoff.reset();
    session.set.add(now, session.spare.link!, this.#parts.relays.tierAt(session.spare.link!), false);
    if (session.relay?.isDraining) this.promote(now, session);
  }

  /** Makes a live spare way the session's first; the first way, as it is, becomes the spare one. False: there is no live one. */
  promote(now: Instant, session: AgentSession): boolean {
    const { spare } = session;
    if (!spare.link?.isLive) return false;
    const { relay, channel, link } = spare;
    spare.relay = session.relay;
    spare.channel = session.channel;
    spare.link = session.relayed;
    spare.deadline = session.relayState === 'linking' ? session.deadline : undefined;
    spare.leftSince = undefined;
    session.relay = relay;
    session.channel = channel;
    session.relayed = link;
    if (spare.link === undefined) {
      spare.relay = undefined;
      this.look(now, session);
    }
    if (session.relayState !== 'live') {
      // What it waited for, a channel or a welcome, it needs no more.
      session.deadline = undefined;
      session.enter(now, 'live', 'another relay');
    }
    return true;
  }

  /** This relay goes away: what goes through it takes another way, as soon as there is one. */
  drain(now: Instant, session: AgentSession, relay: RelayClient): void {
    for (const link of session.allLinks()) {
      if (link.channel?.relay === relay.slot && link.managed !== undefined)
        session.set.manager.drain(now, link.managed);
    }
    if (session.relay === relay) this.promote(now, session);
  }

  /** The spare way is lost, or not wanted. @param tellRelay false: it has closed the channel itself, or is gone. */
  drop(now: Instant, session: AgentSession, reason: string, tellRelay = true, code: number = CloseCode.done): void {
    const { spare } = session;
    const { relay, channel, link } = spare;
    spare.relay = undefined;
    spare.channel = undefined;
    spare.link = undefined;
    spare.leftSince = undefined;
    spare.deadline = later(now, spare.backoff.next(false));
    if (channel !== undefined) this.#parts.asker.close(now, relay, channel, tellRelay ? reason : undefined);
    if (link !== undefined) this.#parts.links.close(now, link, code, reason);
  }

  /** The session ends. */
  end(now: Instant, session: AgentSession, reason: string): void {
    this.drop(now, session, reason, true, CloseCode.sessionOver);
    session.spare.deadline = undefined;
  }

  /** The first way's certificates end soon: a live spare one takes its place, or one is made for that. */
  #renewFirst(now: Instant, session: AgentSession): void {
    const { spare, relayed } = session;
    if (!spare.link?.isLive) {
      if (spare.relay === undefined) spare.deadline ??= now;
      return;
    }
    // Of two that end the one in use stays for now: the other makes room for its successor.
    if (isDue(now, spare.link) && session.link !== spare.link) return;
    this.promote(now, session);
    this.#leave(now, session, relayed!);
  }

  /** Packets take other links than this one, if there are any. */
  #leave(now: Instant, session: AgentSession, { managed }: Link): void {
    session.spare.leftSince ??= now;
    if (managed?.isDrained === false) session.set.manager.drain(now, managed);
  }

  /** The spare link is wanted no more, and packets have taken another one for a while. */
  #isLeft(now: Instant, session: AgentSession, link: Link): boolean {
    const at = this.#leftAt(session, link);
    return at !== undefined && now >= at;
  }

  #leftAt(session: AgentSession, link: Link): Instant | undefined {
    const { leftSince } = session.spare;
    if (leftSince === undefined || session.link === undefined || session.link === link) return undefined;
    return later(Math.max(leftSince, session.set.manager.activeSince) as Instant, IN_FLIGHT);
  }

  #open(now: Instant, session: AgentSession): void {
    const { spare } = session;
    const { asker, links } = this.#parts;
    const relay =
      asker.pick(session.service, spare.refusedBy, session.relay) ??
      (isDue(now, session.relayed) ? asker.pick(session.service, spare.refusedBy) : undefined);
    spare.deadline = undefined;
    if (relay === undefined) {
      this.#askLater(now, session);
      return;
    }
    spare.turn ??= asker.turnAt(now, relay);
    if (now < spare.turn) {
      spare.deadline = spare.turn;
      return;
    }
    spare.turn = undefined;
    spare.relay = relay;
    asker.ask(now, session, relay, (at, asked) => {
      const isOver = spare.relay !== relay || spare.channel !== undefined;
      if (asked.channel === undefined) {
        if (isOver) return;
        spare.relay = undefined;
        spare.deadline = later(at, spare.backoff.next(false));
        if (asked.isAbsence) {
          spare.refusedBy.add(relay);
          spare.deadline = at;
        }
        return;
      }
      if (isOver || session.relayState === 'closed') {
        asker.close(at, relay, asked.channel, 'not needed');
        return;
      }
      spare.channel = asked.channel;
      spare.link = links.connect(at, session, asked.channel.address, asked.channel);
      spare.deadline = later(at, LINK_TIMEOUT);
    });
  }

  /**
   * Every relay has refused. One whose catalogue has the service says nothing more when the connector, which was only silent or slow
   * there, is back.
   */
  #askLater(now: Instant, { service, spare }: AgentSession): void {
    for (const relay of spare.refusedBy) {
      if (this.#parts.asker.catalogues.isAbsent(relay, service)) continue;
      spare.refusedBy.delete(relay);
      spare.deadline ??= later(now, spare.backoff.next(false));
    }
  }
}

/** Whether another link is to take its place, as its certificates end soon. */
function isDue(now: Instant, link: Link | undefined): boolean {
  return link?.renewAt !== undefined && now >= link.renewAt;
}

function dueAfter(now: Instant, link: Link | undefined): Instant | undefined {
  return isDue(now, link) ? undefined : link?.renewAt;
}

export function noSpareWay(backoff: Backoff): SpareWay {
  return {
    relay: undefined,
    channel: undefined,
    link: undefined,
    deadline: undefined,
    turn: undefined,
    leftSince: undefined,
    backoff,
    refusedBy: new Set(),
  };
}
