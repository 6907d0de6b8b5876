/**
 * Whether the peer of a connection is still there, asked only around traffic: a dead peer must not swallow packets until an
 * idle timeout, and a peer that has stopped sending may wait for a word from our new address.
 *
 *   quiet ──sent, received──► waiting ──0.5 s without a life sign──► asking: one PING per 300 ms ──10 unanswered──► gone
 *     ▲                          │                                      │
 *     └────── life sign ─────────┴──────────────────────────────────────┘
 */
import { type Duration, elapsed, type Instant, later, Millis } from '../base/time.js';
import type { QuicConnection } from '../quic/connection.js';

/** Packets went out, or stopped coming in, and nothing has come for this long: a life sign is asked for (protocol.md). */
export const SILENCE: Duration = Millis(500);
/** Life signs are asked for this often. */
const PING_INTERVAL: Duration = Millis(300);
/** Unanswered life signs after which the peer is gone, unless told otherwise. */
const MAX_PINGS = 10;

/** What `check` found: nothing to ask, life signs asked for, the first one after asking, or none for too long. */
export type LifeState = 'quiet' | 'asking' | 'back' | 'gone';

export class LifeSigns {
  #waitingSince: Instant | undefined;
  #lastPing: Instant | undefined;
  #pings = 0;
  #suspected = false;
  readonly #maxPings: number;

  /** @param maxPings unanswered life signs after which the peer is gone. */
  constructor(maxPings: number = MAX_PINGS) {
    this.#maxPings = maxPings;
  }

  /** Whether life signs have been asked for and none has come yet. */
  get isAsking(): boolean {
    return this.#pings > 0;
  }

  /** Something went out. */
  sent(now: Instant): void {
    this.#waitingSince ??= now;
  }

  /** Traffic came that only the peer can have sent; when no more comes, the peer is asked once. */
  received(now: Instant): void {
    this.heard();
    this.#waitingSince = now;
  }

  /** A life sign that promises no more. */
  heard(): void {
    this.#waitingSince = undefined;
    this.#lastPing = undefined;
    this.#pings = 0;
    this.#suspected = false;
  }

  /** Asks at the next `check`, whatever was heard before: this machine may have slept. */
  suspect(now: Instant): void {
    this.heard();
    this.#waitingSince = (now - SILENCE) as Instant;
    this.#suspected = true;
  }

  /** When `check` wants to be called; undefined: not by itself. */
  get due(): Instant | undefined {
    if (this.#waitingSince === undefined) return undefined;
    return later(this.#lastPing ?? this.#waitingSince, this.#lastPing === undefined ? SILENCE : PING_INTERVAL);
  }

  /** Runs what is due; may be called at any time. */
  check(now: Instant, connection: Pick<QuicConnection, 'silentFor' | 'ping'>): LifeState {
    // Compared as `due` tells it: instants are fractions, and a sum may be reached before the difference.
    if (this.#waitingSince === undefined || now < later(this.#waitingSince, SILENCE)) return 'quiet';
    if (this.#lastPing === undefined) {
      if (!this.#suspected && connection.silentFor(now) < SILENCE) {
        this.heard();
        return 'quiet';
      }
    } else {
      const asked = elapsed(this.#lastPing, now);
      if (connection.silentFor(now) < asked) {
        this.heard();
        return 'back';
      }
      if (now < later(this.#lastPing, PING_INTERVAL)) return 'asking';
      if (this.#pings === this.#maxPings) return 'gone';
    }
    this.#pings++;
    this.#lastPing = now;
    connection.ping();
    return 'asking';
  }
}
