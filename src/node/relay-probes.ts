/**
 * Asks a relay's addresses whether they are there (PROBE), while packets wait for one that cannot be reached: the end of an outage
 * is known within an interval, whatever a handshake's or the back-off's timers say.
 *
 *   PROBE ─► every address, ten times a second        PROBE REPLY with a nonce of ours ─► that address answers
 */
import type { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, elapsed, type Instant, later, Millis } from '../base/time.js';
import { encodeProbe, type Word64 } from '../tunnel/frames.js';

/** A relay answers one source 20 times a second. */
const INTERVAL: Duration = Millis(100);
/** Addresses asked in one round; a name with more is a mistake. */
const MOST_ADDRESSES = 4;
/** An answer that takes longer is of no use. */
const PATIENCE: Duration = Millis(2000);

export interface AnsweredProbe {
  readonly address: SocketAddress;
  /** When it was asked. */
  readonly asked: Instant;
}

interface Asked extends AnsweredProbe {
  readonly nonce: Word64;
}

export class RelayProbes {
  readonly #entropy: Entropy;
  readonly #send: (address: SocketAddress, bytes: Uint8Array) => void;
  #asked: Asked[] = [];
  #last: Instant = 0 as Instant;

  constructor(entropy: Entropy, send: (address: SocketAddress, bytes: Uint8Array) => void) {
    this.#entropy = entropy;
    this.#send = send;
  }

  /** When the next round is due. */
  get due(): Instant {
    return later(this.#last, INTERVAL);
  }

  /** Asks every address, when a round is due. */
  ask(now: Instant, addresses: readonly SocketAddress[]): void {
    if (now < this.due) return;
    this.#last = now;
    this.#asked = this.#asked.filter(({ asked }) => elapsed(asked, now) < PATIENCE);
    for (const address of addresses.slice(0, MOST_ADDRESSES)) {
      const nonce = { high: this.#entropy.uint32(), low: this.#entropy.uint32() };
      this.#asked.push({ address, asked: now, nonce });
      this.#send(address, encodeProbe(nonce));
    }
  }

  /** The probe that an answer belongs to; undefined for one that nobody asked for. */
  answered(nonce: Word64): AnsweredProbe | undefined {
    return this.#asked.find((one) => one.nonce.high === nonce.high && one.nonce.low === nonce.low);
  }
}
