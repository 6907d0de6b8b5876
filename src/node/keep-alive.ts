/**
 * Keeps the mappings that the NAT before this machine has for the node's idle connections: relay connections and direct links
 * (links through a relay live on its connection's mapping).
 *
 *   lifetime not known, or longer than QUIC's own keep-alives need ──► nothing is done, no timer runs
 *   shorter ──► a connection that has been silent for 0.8 × lifetime (RFC 4787 §4.3) gets a PING, whose answer ends the silence
 *
 * Any packet that comes is answered by one of ours within QUIC's acknowledgement delay, so silence is measured by what comes in.
 */
import { type Duration, earliest, elapsed, type Instant, later, Millis, Seconds, toSeconds } from '../base/time.js';
import type { QuicConnection } from '../quic/connection.js';
import { isVirtual } from './virtual-address.js';

/** QUIC's own keep-alive of a relay connection (protocol.md §2). */
export const RELAY_KEEP_ALIVE = Seconds(10);
/** QUIC's own keep-alive of a link: below the usual lifetimes of UDP mappings, 30 s and more (protocol.md §4). */
export const LINK_KEEP_ALIVE = Seconds(15);
/** Share of a measured lifetime after which a mapping is used again: room for a round trip and a lost PING. */
const SHARE = 0.8;
/** No mapping is worth more packets than one in this time. */
const LEAST: Duration = Seconds(3);
/** Connections that are due within this time are asked together: at most two looks a second, however many there are. */
const TOGETHER: Duration = Millis(500);

/** Seconds of silence that mappings are known to survive, by address family; undefined: not known, or nothing forgets. */
export interface IdleLifetimes {
  readonly ipv4: number | undefined;
  readonly ipv6: number | undefined;
}

/** How long a connection may be silent. @param lifetime seconds. @param most QUIC's own keep-alive. */
function keepAliveInterval(lifetime: number | undefined, most: Duration): Duration {
  if (lifetime === undefined) return most;
  return Math.min(most, Math.max(LEAST, Seconds(lifetime * SHARE))) as Duration;
}

/** For `netcheck` and `status`: seconds of silence after which this node's connections send. */
export function keepAliveSeconds(lifetime: number): { readonly relay: number; readonly direct: number } {
  return {
    relay: toSeconds(keepAliveInterval(lifetime, RELAY_KEEP_ALIVE)),
    direct: toSeconds(keepAliveInterval(lifetime, LINK_KEEP_ALIVE)),
  };
}

/** Connections of one kind. */
interface Kept {
  readonly connections: () => Iterable<QuicConnection>;
  /** QUIC's own keep-alive. */
  readonly most: Duration;
}

export class KeepAlive {
  readonly #kept: readonly Kept[];
  #lifetimes: IdleLifetimes = { ipv4: undefined, ipv6: undefined };
  #due: Instant | undefined;
  /** When a connection was asked last, as long as it has not answered. */
  #asked = new Map<QuicConnection, Instant>();
  /** PINGs so far, beyond QUIC's own. */
  pings = 0;

  constructor(kept: readonly Kept[]) {
    this.#kept = kept;
  }

  /** What was measured; `turn` has to follow. */
  setLifetimes(now: Instant, lifetimes: IdleLifetimes): void {
    this.#lifetimes = lifetimes;
    this.#due = now;
  }

  /** Asks those that are due; runs before what has to be sent is collected. */
  turn(now: Instant): void {
    if (this.#due === undefined || now < this.#due) return;
    this.#due = undefined;
    const asked = new Map<QuicConnection, Instant>();
    for (const { connections, most } of this.#kept) {
      const shortest = Math.min(this.#interval(4, most), this.#interval(6, most)) as Duration;
      if (shortest === most) continue;
      // One made right after this is not due before.
      this.#due = earliest(this.#due, later(now, shortest));
      for (const connection of connections()) this.#look(now, connection, most, asked);
    }
    this.#asked = asked;
  }

  /** When `turn` is wanted; undefined: QUIC's own keep-alives do. */
  get due(): Instant | undefined {
    return this.#due;
  }

  #look(now: Instant, connection: QuicConnection, most: Duration, asked: Map<QuicConnection, Instant>): void {
    const { remote, state } = connection;
    const interval = this.#interval(remote.ip.family, most);
    if (state !== 'open' || interval === most || isVirtual(remote)) return;
    const last = this.#asked.get(connection);
    const silent = connection.silentFor(now);
    const idle = last === undefined ? silent : Math.min(silent, elapsed(last, now));
    let left = interval - idle;
    if (left <= TOGETHER) {
      this.pings++;
      connection.ping();
      asked.set(connection, now);
      left = interval;
    } else if (last !== undefined && idle < silent) asked.set(connection, last);
    this.#due = earliest(this.#due, later(now, Math.max(TOGETHER, left - TOGETHER) as Duration));
  }

  #interval(family: 4 | 6, most: Duration): Duration {
    return keepAliveInterval(family === 4 ? this.#lifetimes.ipv4 : this.#lifetimes.ipv6, most);
  }
}
