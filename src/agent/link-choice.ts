/**
 * Which link carries the packets of each session of an agent: its manager decides, and here it is told to the connector, to
 * packets that waited, and to whoever reads events.
 */
import type { Counters } from '../base/counters.js';
import type { Instant } from '../base/time.js';
import type { Link } from '../node/link.js';
import { LinkSet } from '../node/link-set.js';
import type { Punching } from '../node/punching.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { LinkCounter, LinkReason } from '../tunnel/links/states.js';
import type { AgentDirect } from './direct.js';
import type { AgentSession } from './session.js';
import type { SessionLinks } from './session-links.js';

export interface LinkChoiceParts {
  /** Knows which links the operator wants used. */
  readonly punching: Punching;
  readonly counters: Counters<LinkCounter>;
  readonly links: SessionLinks;
  readonly direct: AgentDirect;
  /** The session's link carries packets now: these have waited for it. */
  readonly onReleased: (now: Instant, session: AgentSession, packets: readonly Uint8Array[]) => void;
  /** Packets take another link than before. */
  readonly onPath: (session: AgentSession, link: Link, reason: LinkReason) => void;
}

export class LinkChoice {
  readonly #parts: LinkChoiceParts;
  /** Why links come and go just now, when the session knows better than its links. */
  #why: string | undefined;

  constructor(parts: LinkChoiceParts) {
    this.#parts = parts;
  }

  makeSet(session: AgentSession): LinkSet {
    const { punching, counters, links, direct } = this.#parts;
    return new LinkSet({
      decides: true,
      path: punching.path,
      counters,
      owner: {
        onActive: (now, link, reason) => this.#use(now, session, link, reason),
        onLive: (now) => {
          // Packets that are held to its kind of links may have waited for it.
          if (session.isLive && session.waiting.length > 0) this.#release(now, session);
        },
        onDead: (now, link) => {
          links.close(now, link, CloseCode.timeout, 'no life sign');
          direct.failed(now, session, link, 'no life sign');
        },
        // Every session has its turn in every turn.
        onWake: () => {},
      },
    });
  }

  /** The operator wants other links used: packets move first, then links end. */
  pathChanged(now: Instant, session: AgentSession): void {
    const { punching, direct } = this.#parts;
    session.set.manager.setPath(now, punching.path);
    direct.pathChanged(now, session);
  }

  /** What links do in `act` has this reason for the session. */
  because(why: string, act: () => void): void {
    this.#why = why;
    act();
    this.#why = undefined;
  }

  #use(now: Instant, session: AgentSession, link: Link | undefined, reason: LinkReason): void {
    const old = session.link;
    session.use(now, link, this.#why ?? reason);
    if (link === undefined) return;
    this.#parts.direct.tellActive(session, link, reason);
    this.#parts.onPath(session, link, reason);
    // A planned switch loses nothing, so nothing is sent again.
    if (old === undefined || !old.isLive || reason === 'three_missed') {
      this.#release(now, session);
    }
  }

  #release(now: Instant, session: AgentSession): void {
    this.#parts.onReleased(now, session, session.waiting.drain());
  }
}
