/**
 * How far away a relay is that this node keeps no connection to: a PROBE now and then, whose answer tells the round trip and that
 * the relay is there.
 *
 *   resting ──due──► asked, three times 200 ms apart ──answer──► measured ──► resting: 5 min
 *                                                  └──none───► away ──────► resting: 30 s
 */
import type { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, elapsed, type Instant, later, Millis, Minutes, Seconds } from '../base/time.js';
import { encodeProbe, type Word64 } from '../tunnel/frames.js';

const AGAIN: Duration = Minutes(5);
/** One that was away is what a node may need next. */
const AGAIN_AWAY: Duration = Seconds(30);
const RETRY: Duration = Millis(200);
const TRIES = 3;

export class RelayMeter {
  /** Of the last question that was answered; undefined: none was. */
  rtt: Duration | undefined;
  /** The last question was not answered. */
  isAway = false;
  #nonce: Word64 | undefined;
  #asked: Instant = 0 as Instant;
  #tries = 0;
  #next: Instant = 0 as Instant;
  readonly #entropy: Entropy;
  readonly #send: (address: SocketAddress, bytes: Uint8Array) => void;

  constructor(entropy: Entropy, send: (address: SocketAddress, bytes: Uint8Array) => void) {
    this.#entropy = entropy;
    this.#send = send;
  }

  /** When `turn` wants to be called. */
  get due(): Instant {
    return this.#nonce === undefined ? this.#next : later(this.#asked, RETRY);
  }

  /** Whether an answer, or that there is none, has been waited for. */
  get isKnown(): boolean {
    return this.rtt !== undefined || this.isAway;
  }

  /** Asks soon, whatever is known: the network has changed. */
  renew(now: Instant): void {
    this.#next = now;
  }

  /** Asks when it is time. */
  turn(now: Instant, address: SocketAddress): void {
    if (now < this.due) return;
    if (this.#nonce !== undefined && this.#tries >= TRIES) {
      this.#nonce = undefined;
      this.isAway = true;
      this.#next = later(now, AGAIN_AWAY);
      return;
    }
    this.#tries = this.#nonce === undefined ? 1 : this.#tries + 1;
    this.#nonce = { high: this.#entropy.uint32(), low: this.#entropy.uint32() };
    this.#asked = now;
    this.#send(address, encodeProbe(this.#nonce));
  }

  /** A PROBE REPLY has come to this node; false: another's. */
  onReply(now: Instant, { high, low }: Word64): boolean {
    if (this.#nonce?.high !== high || this.#nonce.low !== low) return false;
    this.#nonce = undefined;
    this.measured(elapsed(this.#asked, now));
    this.#next = later(now, AGAIN);
    return true;
  }

  /** The round trip is known from elsewhere: from the relay's connection. */
  measured(rtt: Duration): void {
    this.rtt = rtt;
    this.isAway = false;
  }
}
