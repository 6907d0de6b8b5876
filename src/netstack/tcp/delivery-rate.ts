/**
 * Delivery rate samples: how fast the network delivered the data between the sending of a segment and its acknowledgement.
 *
 *   rate = bytes delivered meanwhile / max(time it took to send them, time it took to acknowledge them)
 *
 * Every record of the send log remembers how much had been delivered, and when, at its sending. A sample taken while the
 * application had nothing to send says only that the path carries at least so much.
 * draft-ietf-ccwg-bbr §4.1 (draft-cheng-iccrg-delivery-rate-estimation before it).
 */
import type { Instant } from '../../base/time.js';

export class DeliveryRate {
  /** Bytes delivered since the beginning, and when last. */
  delivered = 0;
  deliveredAt: number = 0;
  /** When the newest delivered record was sent: the send interval of the next sample begins there. */
  firstSentAt: number = 0;
  /** Up to this many delivered bytes samples are limited by something else than the path; 0 = they are not. */
  limitedUntil = 0;

  // The sample of the acknowledgement being taken.
  /** Bytes per µs; 0 = no sample. */
  rate = 0;
  /** `delivered` when the newest record of it was sent. */
  prior = -1;
  limited = false;
  #priorAt = 0;
  #sendElapsed = 0;
  #sentAt = 0;

  /** Something is about to be sent; `idle`: nothing is in flight. */
  sending(now: Instant, idle: boolean): void {
    if (!idle) return;
    this.firstSentAt = now;
    this.deliveredAt = now;
  }

  /** A new acknowledgement is about to be taken. */
  begin(): void {
    this.prior = -1;
    this.rate = 0;
  }

  /** `bytes` of a record were delivered, which was sent at `sentAt` with the other values as they then were. */
  take(
    now: Instant,
    bytes: number,
    sentAt: number,
    delivered: number,
    deliveredAt: number,
    firstSentAt: number,
    limited: boolean,
  ): void {
    this.delivered += bytes;
    this.deliveredAt = now;
    if (delivered < this.prior || (delivered === this.prior && sentAt < this.#sentAt)) return;
    this.prior = delivered;
    this.#priorAt = deliveredAt;
    this.#sentAt = sentAt;
    this.#sendElapsed = sentAt - firstSentAt;
    this.limited = limited;
    this.firstSentAt = sentAt;
  }

  /** The acknowledgement has been taken; `least`: the smallest round trip known, µs: shorter samples are none. */
  conclude(least: number): void {
    if (this.limitedUntil > 0 && this.delivered > this.limitedUntil) this.limitedUntil = 0;
    if (this.prior < 0) return;
    const interval = Math.max(this.#sendElapsed, this.deliveredAt - this.#priorAt);
    if (interval <= 0 || interval < least) return;
    this.rate = (this.delivered - this.prior) / interval;
  }

  /** While `pipe` bytes are in flight the application has nothing more to send, or the peer's window allows no more. */
  limitedByOthers(pipe: number): void {
    this.limitedUntil = Math.max(this.delivered + pipe, 1);
  }
}
