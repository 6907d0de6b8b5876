/**
 * Whether the peer of a connection is still there, asked only while packets for it go out: a dead peer must not swallow
 * packets until an idle timeout.
 *
 *   quiet ──sent──► waiting ──1 s without a life sign──► asking: one PING per 300 ms ──10 unanswered──► gone
 *     ▲                │                                    │
 *     └──── heard ─────┴────────────────────────────────────┘
 */
import { type Duration, elapsed, type Instant, later, Millis, Seconds } from '../base/time.js';
import type { QuicConnection } from '../quic/connection.js';

/** Packets went out and nothing came back for this long: a life sign is asked for (protocol §3). */
const SILENCE: Duration = Seconds(1);
/** Life signs are asked for this often (protocol §4). */
const PING_INTERVAL: Duration = Millis(300);
/** Unanswered life signs after which the peer is gone. */
const MAX_PINGS = 10;

export class LifeSigns {
  #waitingSince: Instant | undefined;
  #nextPing: Instant | undefined;
  #pings = 0;

  /** Something went out. */
  sent(now: Instant): void {
    this.#waitingSince ??= now;
  }

  /** Something came that only the peer can have sent. */
  heard(): void {
    this.#waitingSince = undefined;
    this.#nextPing = undefined;
    this.#pings = 0;
  }

  /** When `isGone` wants to be asked; undefined: not by itself. */
  get due(): Instant | undefined {
    if (this.#waitingSince === undefined) return undefined;
    return this.#nextPing ?? later(this.#waitingSince, SILENCE);
  }

  /** Runs what is due; true when the peer has not answered for too long. */
  isGone(now: Instant, connection: Pick<QuicConnection, 'silentFor' | 'ping'>): boolean {
    if (this.#waitingSince === undefined || elapsed(this.#waitingSince, now) < SILENCE) return false;
    if (this.#nextPing !== undefined && now < this.#nextPing) return false;
    if (connection.silentFor(now) < SILENCE) {
      this.heard();
      return false;
    }
    if (this.#pings === MAX_PINGS) return true;
    this.#pings++;
    this.#nextPing = later(now, PING_INTERVAL);
    connection.ping();
    return false;
  }
}
