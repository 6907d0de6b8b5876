/**
 * The links of an agent's sessions, from the handshake to the close; those through the relay and direct ones alike. What a link
 * means to its session is the owner's business.
 *
 *   connect ──► handshake ──► certificate is the connector's ──► hello ──► welcome verified ──► live
 */
import type { SocketAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import { type Duration, type Instant, Seconds, type WallTime } from '../base/time.js';
import { closeText } from '../node/close-text.js';
import { Link } from '../node/link.js';
import type { Channel } from '../node/link-channels.js';
import { renewalOf } from '../node/renewal.js';
import type { ConnectionHandler, DatagramBatch } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { decodeMessage, encodeMessage, OPEN_CHECKSUMS, PROTOCOL_VERSION, ToAgent } from '../tunnel/messages.js';
import type { LinkAdmission, Welcome } from './link-admission.js';
import type { AgentSession } from './session.js';

/**
 * A link that packets have left for another is kept open this long: the connector hears of it half a round trip later, and what it
 * sent until then takes the other half. Longer round trips than this are not used by anybody who would notice.
 */
export const IN_FLIGHT: Duration = Seconds(1);

export interface SessionLinksParts {
  readonly links: QuicEndpoint;
  readonly network: string;
  readonly admission: LinkAdmission;
  readonly drops: Counters<DropName>;
  readonly wall: () => WallTime;
  readonly proof: () => unknown;
  /** Packets have left through the relay of this slot. */
  readonly onSentRelayed: (now: Instant, relay: number) => void;
  readonly owner: SessionLinksOwner;
}

export interface SessionLinksOwner {
  /** The connector's welcome has been verified: the link is live. */
  onWelcome(now: Instant, session: AgentSession, link: Link, welcome: Welcome): void;
  /** Any other message on a link. */
  onMessage(now: Instant, session: AgentSession, link: Link, message: Exclude<ToAgent, Welcome>): void;
  /** A link failed or was closed by the peer; not called for links that `close` has closed. */
  onLost(now: Instant, session: AgentSession, link: Link, reason: string): void;
  onDatagrams(now: Instant, session: AgentSession, batch: DatagramBatch, link: Link): void;
  /** A link that was asked for a life sign has given one. */
  onBack(now: Instant, session: AgentSession, link: Link): void;
}

export class SessionLinks {
  readonly #parts: SessionLinksParts;

  constructor(parts: SessionLinksParts) {
    this.#parts = parts;
  }

  /** Begins a link of the session. @param channel undefined: direct. @throws SallyportError QUIC_CONNECT. */
  connect(now: Instant, session: AgentSession, to: SocketAddress, channel: Channel | undefined): Link {
    const { links, network, drops, owner, wall, onSentRelayed } = this.#parts;
    const handler: ConnectionHandler = {
      onConnected: (at) => {
        if (link.state === 'handshaking') this.#greet(at, session, link);
      },
      onControlMessage: (at, bytes) => {
        if (link.state !== 'closed') this.#message(at, session, link, bytes);
      },
      onDatagrams: (at, batch) => {
        if (!link.isLive) {
          drops.values[Drop.not_admitted]! += batch.count;
          return;
        }
        const isBack = link.lifeSigns.isAsking;
        link.received(at);
        session.lastUsed = at;
        if (isBack) owner.onBack(at, session, link);
        owner.onDatagrams(at, session, batch, link);
      },
      onClosed: (at, reason) => {
        if (link.state === 'closed') return;
        link.enter(at, 'closed');
        session.set.remove(at, link, 'closed');
        owner.onLost(at, session, link, closeText(reason, wall()));
      },
    };
    const connection = links.connect(now, to, `${session.connector}.connector.${network}`, handler);
    const onSent = channel === undefined ? (): void => {} : (at: Instant) => onSentRelayed(at, channel.relay);
    const link: Link = new Link(now, connection, channel, session.links++, session.fragmenter, onSent);
    return link;
  }

  close(now: Instant, link: Link, code: number, reason: string): void {
    link.enter(now, 'closed');
    link.set?.remove(now, link, 'closed');
    link.connection.close(now, code, reason);
  }

  /** Whether the link's peer may still be the session's connector: the policy has changed. */
  isAllowed(session: AgentSession, link: Link): boolean {
    const { admission } = this.#parts;
    const isRevoked = link.invitationId !== undefined && admission.isRevoked(link.invitationId);
    return !isRevoked && admission.isConnector(link.connection, session.connector);
  }

  #fail(now: Instant, session: AgentSession, link: Link, code: number, reason: string): void {
    this.close(now, link, code, reason);
    this.#parts.owner.onLost(now, session, link, reason);
  }

  #greet(now: Instant, session: AgentSession, link: Link): void {
    const { admission, proof } = this.#parts;
    if (!admission.isConnector(link.connection, session.connector)) {
      this.#fail(now, session, link, 0, 'the peer is not the connector the policy names');
      return;
    }
    link.enter(now, 'greeting');
    link.connection.openControl().send(
      encodeMessage({
        type: 'hello',
        version: PROTOCOL_VERSION,
        session: session.id,
        link: link.number,
        proof: proof(),
        capabilities: [OPEN_CHECKSUMS],
      }),
    );
  }

  #message(now: Instant, session: AgentSession, link: Link, bytes: Uint8Array): void {
    const decoded = decodeMessage(ToAgent, bytes);
    if (!decoded.ok) return;
    const { message } = decoded;
    if (message.type !== 'welcome') {
      this.#parts.owner.onMessage(now, session, link, message);
      return;
    }
    if (link.state !== 'greeting') return;
    const peer = this.#parts.admission.identify(link.connection, message, session.connector, session.id);
    if (typeof peer === 'string') this.#fail(now, session, link, 0, peer);
    else {
      link.invitationId = peer.invitationId;
      link.takesOpen = message.capabilities.includes(OPEN_CHECKSUMS);
      link.enter(now, 'live');
      link.renewAt = renewalOf(now, this.#parts.wall(), link.connection.certificateExpiry);
      this.#parts.owner.onWelcome(now, session, link, message);
    }
  }
}
