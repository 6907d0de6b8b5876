/** The ways over TCP that a packet thread's relays are reached by: whether one of them says "later", and what it may be sent. */
import type { Instant } from '../base/time.js';
import { MAX_RELAYS } from '../policy/relay-contact.js';
import { TcpCreditUser } from './tcp-credit.js';

export class TcpCredits {
  /** By the relay's slot. */
  readonly #users = new Array<TcpCreditUser | undefined>(MAX_RELAYS).fill(undefined);
  /** Some relay is reached over TCP. */
  isUsed = false;
  /** As `review` found it: packets are to wait. Packets for one way wait for all. */
  isFull = false;

  /** @param memory of the bridge of the slot's relay; undefined: it is not reached over TCP. */
  set(slot: number, memory: SharedArrayBuffer | undefined): void {
    this.#users[slot] = memory && new TcpCreditUser(memory);
    this.isUsed = this.#users.some((user) => user !== undefined);
    if (!this.isUsed) this.isFull = false;
  }

  sent(slot: number, bytes: number): void {
    this.#users[slot]?.sent(bytes);
  }

  review(now: Instant): void {
    let isFull = false;
    for (let slot = 0; slot < MAX_RELAYS; slot++) if (this.#users[slot]?.isFull(now) === true) isFull = true;
    this.isFull = isFull;
  }

  /** Bytes that the fullest way may be sent now, at most `most`; never none, as one that is stuck holds nothing up. */
  left(most: number): number {
    let left = most;
    for (let slot = 0; slot < MAX_RELAYS; slot++) {
      const user = this.#users[slot];
      if (user !== undefined) left = Math.min(left, Math.max(1, user.left));
    }
    return left;
  }
}
