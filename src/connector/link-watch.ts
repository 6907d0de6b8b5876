/**
 * Watches a connector's links for life signs of their agents. Timers are armed by traffic: a link at rest costs nothing.
 */
import { type Instant, later } from '../base/time.js';
import { Timer, type TimerQueue } from '../base/timers.js';
import { SILENCE } from '../node/life-signs.js';
import type { Link } from '../node/link.js';
import type { ConnectorSession } from './session.js';

export interface LinkWatchOwner {
  /** Its agent has given no life sign for too long. */
  onGone(now: Instant, session: ConnectorSession, link: Link): void;
  /** A link that was asked for a life sign has given one. */
  onBack(now: Instant, session: ConnectorSession, link: Link): void;
}

/** A link whose agent is watched for life signs. */
export interface WatchedLink {
  readonly session: ConnectorSession;
  readonly link: Link;
  readonly timer: Timer;
}

export class LinkWatch {
  readonly #timers: TimerQueue;
  readonly #owner: LinkWatchOwner;
  readonly #all = new Set<WatchedLink>();
  /** Links whose agents have been asked for a life sign. */
  readonly #asking = new Set<WatchedLink>();

  constructor(timers: TimerQueue, owner: LinkWatchOwner) {
    this.#timers = timers;
    this.#owner = owner;
  }

  add(session: ConnectorSession, link: Link): WatchedLink {
    const watched: WatchedLink = { session, link, timer: new Timer((now) => this.#check(now, watched)) };
    this.#all.add(watched);
    return watched;
  }

  /** Packets have gone out on it, or come. */
  traffic(now: Instant, { timer }: WatchedLink): void {
    if (!timer.isArmed) this.#timers.arm(timer, later(now, SILENCE));
  }

  remove(watched: WatchedLink): void {
    this.#timers.cancel(watched.timer);
    this.#asking.delete(watched);
    this.#all.delete(watched);
  }

  /** Looks at those that have been asked. */
  turn(now: Instant): void {
    for (const watched of this.#asking) this.#check(now, watched);
  }

  /** This machine may have slept: all are looked at. */
  suspect(now: Instant): void {
    for (const { timer } of this.#all) this.#timers.arm(timer, now);
  }

  #check(now: Instant, watched: WatchedLink): void {
    const { session, link, timer } = watched;
    const { lifeSigns, connection } = link;
    const state = lifeSigns.check(now, connection);
    if (state === 'gone') {
      this.remove(watched);
      this.#owner.onGone(now, session, link);
      return;
    }
    if (state === 'asking') this.#asking.add(watched);
    else this.#asking.delete(watched);
    if (state === 'back') this.#owner.onBack(now, session, link);
    const { due } = lifeSigns;
    if (due !== undefined) this.#timers.arm(timer, due);
  }
}
