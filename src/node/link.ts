/**
 * A link: one QUIC connection of a session on one underlay, never migrated. Both ends use this class; who is admitted is
 * decided by the roles.
 *
 *   handshaking ──connected──► greeting ──hello, welcome verified──► live ──► closed
 *
 * No DATAGRAM is sent or accepted before the peer's hello or welcome has been verified.
 */
import { type Duration, type Instant, Seconds, elapsed, later } from '../base/time.js';
import type { QuicConnection } from '../quic/connection.js';
import { Fragmenter } from '../tunnel/fragments.js';
import { ALWAYS_CARRIED } from './outbound.js';
import type { Channel } from './underlay.js';

/** For this long after a link is made packets of any size go as fragments, until size discovery has had its turns. */
export const PROVING_TIME: Duration = Seconds(2);
/** The largest datagram is asked for again this often. */
const REFRESH: Duration = Seconds(1);
/** While it is being discovered it changes within round trips. */
const REFRESH_PROVING: Duration = 20_000 as Duration;

export type LinkState = 'handshaking' | 'greeting' | 'live' | 'closed';

export class Link {
  readonly connection: QuicConnection;
  readonly channel: Channel;
  /** The agent's counter of the session's links. */
  readonly number: number;
  readonly fragmenter: Fragmenter;
  readonly made: Instant;
  liveSince: Instant | undefined;
  /** Largest DATAGRAM payload in bytes; 0 while the link is not live. */
  maxDatagram = 0;
  packetsOut = 0;
  packetsIn = 0;
  lastOut: Instant;
  lastIn: Instant;
  #state: LinkState = 'handshaking';
  #refreshAt: Instant;
  readonly #onSent: (now: Instant) => void;

  /** @param fragmenter the session's: fragment ids count per session and sender. */
  constructor(
    now: Instant,
    connection: QuicConnection,
    channel: Channel,
    number: number,
    fragmenter: Fragmenter,
    onSent: (now: Instant) => void,
  ) {
    this.connection = connection;
    this.channel = channel;
    this.number = number;
    this.fragmenter = fragmenter;
    this.made = now;
    this.lastOut = now;
    this.lastIn = now;
    this.#refreshAt = now;
    this.#onSent = onSent;
  }

  get state(): LinkState {
    return this.#state;
  }

  get isLive(): boolean {
    return this.#state === 'live';
  }

  enter(now: Instant, state: LinkState): void {
    this.#state = state;
    if (state === 'live') {
      this.liveSince = now;
      this.refresh(now);
    } else this.maxDatagram = 0;
  }

  /** Asks the connection for its largest datagram, at most every so often. */
  refresh(now: Instant): void {
    if (now < this.#refreshAt || !this.isLive) return;
    this.#refreshAt = later(now, this.isProving(now) ? REFRESH_PROVING : REFRESH);
    this.maxDatagram = this.connection.maxDatagramSize;
  }

  isProving(now: Instant): boolean {
    return this.liveSince === undefined || elapsed(this.liveSince, now) < PROVING_TIME;
  }

  mayFragment(now: Instant, length: number): boolean {
    return length <= ALWAYS_CARRIED || this.isProving(now);
  }

  /** The largest inner packet this link is known to carry whole, at least what is always carried. */
  innerMtu(now: Instant, most: number): number {
    if (this.isProving(now)) return most;
    return Math.min(most, Math.max(ALWAYS_CARRIED, this.maxDatagram));
  }

  sent(now: Instant, packets: number): void {
    this.packetsOut += packets;
    this.lastOut = now;
    this.refresh(now);
    this.#onSent(now);
  }

  received(now: Instant, packets: number): void {
    this.packetsIn += packets;
    this.lastIn = now;
  }
}
