/**
 * The first way of each session: a channel of a relay to its connector, and the link through it.
 *
 *   waiting ──due, this agent's turn──► opening ──channel──► linking ──welcome──► live
 *      ▲                                   │ refused: another relay's turn │          │ link, channel or relay lost
 *      └──────────── back-off ─────────────┴───────────────────────────────┴──────────┴─► or live at once by the spare way
 */
import { type Duration, type Instant, later, Seconds } from '../base/time.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Relays } from '../node/relays.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { ChannelAsker } from './channel-asker.js';
import type { LinkChoice } from './link-choice.js';
import type { AgentSession } from './session.js';
import type { SessionLinks } from './session-links.js';
import type { SpareWays } from './spare-ways.js';

/** A link that is not live by then is given up. */
const LINK_TIMEOUT: Duration = Seconds(8);
/** After this agent has come back to a relay its connectors may still be coming: an idle one notices a restart by its keep-alive. */
const RELAY_SETTLES: Duration = Seconds(12);

export interface FirstWaysParts {
  readonly relays: Relays;
  readonly links: SessionLinks;
  readonly asker: ChannelAsker;
  readonly spares: SpareWays;
  readonly choice: LinkChoice;
  /** Whether the policy in force still admits anything new. */
  readonly admits: () => boolean;
}

export class FirstWays {
  readonly #parts: FirstWaysParts;
  /** Until then the relay's word that a connector is not there may only mean that it is not back yet. */
  #settled: Instant | undefined;
  /** Relays that have been ready before. */
  readonly #known = new WeakSet<RelayClient>();

  constructor(parts: FirstWaysParts) {
    this.#parts = parts;
  }

  relayReady(now: Instant, relay: RelayClient): void {
    this.#settled = this.#known.has(relay) ? later(now, RELAY_SETTLES) : (this.#settled ?? now);
    this.#known.add(relay);
  }

  /** The session's deadline has come. */
  due(now: Instant, session: AgentSession): void {
    session.deadline = undefined;
    if (session.relayState === 'waiting') this.#openInTurn(now, session);
    else if (session.relayState === 'linking') {
      this.unlink(now, session, 'the connector does not answer', true);
      session.absentSince ??= now;
    }
  }

  /** The relay says that the session's connector is not there. */
  toldAbsent(now: Instant, session: AgentSession): void {
    session.absentSince ??= Math.max(now, this.#settled ?? now) as Instant;
  }

  #openInTurn(now: Instant, session: AgentSession): void {
    const relay = this.#parts.asker.pick(session.service, session.refusedBy);
    if (relay === undefined) return;
    session.turn ??= this.#parts.asker.turnAt(now, relay);
    if (session.turn <= now) {
      session.turn = undefined;
      this.#open(now, session, relay);
    } else session.deadline = session.turn;
  }

  #open(now: Instant, session: AgentSession, relay: RelayClient): void {
    if (!this.#parts.admits()) {
      this.#wait(now, session, 'the policy has expired');
      return;
    }
    session.relay = relay;
    session.enter(now, 'opening', 'asking the relay for a channel');
    this.#parts.asker.ask(now, session, relay, (at, asked) => {
      const { channel } = asked;
      if (session.relayState !== 'opening' || session.relay !== relay) {
        if (channel !== undefined) this.#parts.asker.close(at, relay, channel, 'not needed');
        return;
      }
      if (channel !== undefined) {
        session.channel = channel;
        session.relayed = this.#parts.links.connect(at, session, channel.address, channel);
        session.enter(at, 'linking', 'channel open');
        session.deadline = later(at, LINK_TIMEOUT);
      } else if (asked.isAbsence) this.#refused(at, session, relay, asked.problem);
      else this.#wait(at, session, asked.problem);
    });
  }

  /** The relay knows no such connector: another may, of those this agent is connected to, or of the others. */
  #refused(now: Instant, session: AgentSession, relay: RelayClient, problem: string): void {
    session.refusedBy.add(relay);
    const isLast = this.#parts.asker.pick(session.service, session.refusedBy) === undefined;
    if (isLast) {
      session.refusedBy.clear();
      this.toldAbsent(now, session);
      this.#parts.relays.search(now);
    }
    this.#wait(now, session, problem);
    if (!isLast) session.deadline = now;
  }

  /** Ends the session's link through the relay; the session stays and tries again. */
  unlink(now: Instant, session: AgentSession, reason: string, tellRelay: boolean, code: number = CloseCode.done): void {
    const { channel, relayed, relay } = session;
    session.channel = undefined;
    session.relayed = undefined;
    session.relay = undefined;
    if (channel !== undefined) this.#parts.asker.close(now, relay, channel, tellRelay ? reason : undefined);
    const wasLive = session.relayState === 'live';
    if (code === CloseCode.sessionOver || !this.#parts.spares.promote(now, session)) {
      this.#wait(now, session, reason);
      if (wasLive) session.deadline = now;
    }
    if (relayed !== undefined)
      this.#parts.choice.because(reason, () => this.#parts.links.close(now, relayed, code, reason));
  }

  #wait(now: Instant, session: AgentSession, reason: string): void {
    session.lastProblem = reason;
    session.enter(now, 'waiting', reason);
    session.deadline = later(now, session.backoff.next(session.isWanted(now)));
  }
}
