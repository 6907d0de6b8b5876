/**
 * A link: one QUIC connection of a session on one underlay, never migrated. Both ends use this class; who is admitted is
 * decided by the roles.
 *
 *   handshaking ──connected──► greeting ──hello, welcome verified──► live ──► closed
 *
 * No DATAGRAM is sent or accepted before the peer's hello or welcome has been verified.
 */
import { type Duration, elapsed, type Instant, Seconds } from '../base/time.js';
import type { QuicConnection } from '../quic/connection.js';
import type { Fragmenter } from '../tunnel/fragments.js';
import type { ManagedLink } from '../tunnel/links/managed-link.js';
import { encodeMessage, type ToAgent, type ToConnector } from '../tunnel/messages.js';
import { LifeSigns } from './life-signs.js';
import type { Channel } from './link-channels.js';
import type { LinkSet } from './link-set.js';
import { ALWAYS_CARRIED } from './outbound.js';

/**
 * For this long after a link is made, whenever it begins to carry packets, and when they seem to have to be smaller, packets of
 * any size go as fragments: until size discovery has had its turns (under loss a path often only looks smaller, and a size told
 * to a TCP is not taken back), or programs have learnt of a smaller size.
 */
export const PROVING_TIME: Duration = Seconds(2);
/** What a QUIC packet of 1200 bytes, the least that every path carries, leaves of itself for a DATAGRAM payload. */
const LEAST_DATAGRAM = 1150;

/** Unanswered life signs, one per 300 ms, after which a direct link is closed: 15 s (protocol.md §5). */
const DIRECT_PINGS = 50;

export type LinkState = 'handshaking' | 'greeting' | 'live' | 'closed';

export class Link {
  readonly connection: QuicConnection;
  /** The relay channel it takes; undefined: it is direct. */
  readonly channel: Channel | undefined;
  /** The agent's counter of the session's links. */
  readonly number: number;
  readonly fragmenter: Fragmenter;
  readonly lifeSigns: LifeSigns;
  readonly made: Instant;
  liveSince: Instant | undefined;
  /** When another link is to take its place, as its certificates end soon; undefined: not before they do. */
  renewAt: Instant | undefined;
  /** The session's links, while this is one of them, and what their manager knows of it. */
  set: LinkSet | undefined;
  managed: ManagedLink | undefined;
  /** Whether the peer takes packets whose TCP checksum is left open. */
  takesOpen = false;
  /** At an agent: the connector's invitation, once its welcome has been verified. */
  invitationId: string | undefined;
  packetsOut = 0;
  packetsIn = 0;
  lastOut: Instant;
  lastIn: Instant;
  #state: LinkState = 'handshaking';
  /** What `maxDatagram` was when last looked at, and when it last was less than before. */
  #size = 0;
  #shrunk: Instant | undefined;
  #carriesSince: Instant | undefined;
  readonly #onSent: (now: Instant) => void;

  /** @param fragmenter the session's: fragment ids count per session and sender. */
  constructor(
    now: Instant,
    connection: QuicConnection,
    channel: Channel | undefined,
    number: number,
    fragmenter: Fragmenter,
    onSent: (now: Instant) => void,
  ) {
    this.connection = connection;
    this.channel = channel;
    this.number = number;
    this.fragmenter = fragmenter;
    this.lifeSigns = new LifeSigns(channel === undefined ? DIRECT_PINGS : undefined);
    this.made = now;
    this.lastOut = now;
    this.lastIn = now;
    this.#onSent = onSent;
  }

  get state(): LinkState {
    return this.#state;
  }

  get isDirect(): boolean {
    return this.channel === undefined;
  }

  get isLive(): boolean {
    return this.#state === 'live';
  }

  enter(now: Instant, state: LinkState): void {
    this.#state = state;
    if (state === 'live') this.liveSince = now;
  }

  /** Largest DATAGRAM payload in bytes; follows the connection's packet-size discovery. */
  get maxDatagram(): number {
    return this.connection.maxDatagramSize || LEAST_DATAGRAM;
  }

  joinSet(set: LinkSet, managed: ManagedLink): void {
    this.set = set;
    this.managed = managed;
  }

  leaveSet(): void {
    this.set = undefined;
  }

  /** Packets, or copies of them, take this link from now on; those before them may have been larger. */
  beginsToCarry(now: Instant): void {
    this.#carriesSince = now;
  }

  /** Whether its size is still being found. */
  isProving(now: Instant): boolean {
    const size = this.maxDatagram;
    if (size < this.#size) this.#shrunk = now;
    this.#size = size;
    if (this.#shrunk !== undefined && elapsed(this.#shrunk, now) < PROVING_TIME) return true;
    return this.liveSince === undefined || elapsed(this.liveSince, now) < PROVING_TIME;
  }

  mayFragment(now: Instant, length: number): boolean {
    if (length <= ALWAYS_CARRIED || this.isProving(now)) return true;
    return this.#carriesSince !== undefined && elapsed(this.#carriesSince, now) < PROVING_TIME;
  }

  /** The largest inner packet this link is known to carry whole, at least what is always carried. */
  innerMtu(now: Instant, most: number): number {
    if (this.isProving(now)) return most;
    return Math.min(most, Math.max(ALWAYS_CARRIED, this.maxDatagram));
  }

  /** Sends a control message; false when the stream is not there. */
  say(message: ToConnector | ToAgent): boolean {
    return this.connection.control?.send(encodeMessage(message)) ?? false;
  }

  sent(now: Instant, packets: number): void {
    this.packetsOut += packets;
    this.lastOut = now;
    this.lifeSigns.sent(now);
    this.#onSent(now);
  }

  /** Anything has come on it. */
  received(now: Instant): void {
    this.lastIn = now;
    this.lifeSigns.received(now);
    this.managed?.health.heard(now);
  }
}
