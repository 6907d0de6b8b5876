/**
 * The first datagrams of a flow to one destination, which wait until its name is known: a rule may refuse what the name says, and a QUIC
 * ClientHello is often longer than one datagram. In order, and for a short time; what is too much for it goes on, and so does everything.
 *
 *   Initial ─► held ─┬─ name known ─► judged ─► all of them on their way, or none
 *                    ├─ 200 ms, an 8th datagram, 16 KiB ─► all on their way; the name is judged when it comes
 *                    └─ the flow ends ─► gone
 */
import { type Instant, later, Millis } from '../base/time.js';
import type { Reactor } from '../os/io.js';

/** Below the time after which QUIC sends its first packets again (RFC 9002 §6.2.2: 1 s at first). */
const HOLD_TIME = Millis(200);
/** A ClientHello with a large key share takes two or three; 0-RTT data may come with them. */
const DATAGRAMS_MAX = 7;
/** Bytes of one flow. */
const BYTES_MAX = 16 * 1024;
/** Flows that hold something at once: 1 MiB in all at their most. */
const HOLDS_MAX = 64;

/** How many flows hold something. */
export class Holds {
  count = 0;

  get hasRoom(): boolean {
    return this.count < HOLDS_MAX;
  }
}

export class HeldDatagrams {
  readonly #holds: Holds;
  readonly #stopTimer: () => void;
  readonly #datagrams: Uint8Array[] = [];
  #bytes = 0;

  /** @param onTime the time is up; not after `close`. */
  constructor(holds: Holds, reactor: Reactor, now: Instant, onTime: (now: Instant) => void) {
    this.#holds = holds;
    holds.count++;
    this.#stopTimer = reactor.at(later(now, HOLD_TIME), onTime);
  }

  /** Keeps a copy; false: there is no room. */
  add(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.#datagrams.length >= DATAGRAMS_MAX || this.#bytes + length > BYTES_MAX) return false;
    this.#datagrams.push(bytes.slice(offset, offset + length));
    this.#bytes += length;
    return true;
  }

  /** Called once: `take` is given each datagram in order; without it they are gone. */
  close(take?: (bytes: Uint8Array) => void): void {
    this.#stopTimer();
    this.#holds.count--;
    if (take !== undefined) for (const bytes of this.#datagrams) take(bytes);
  }
}
