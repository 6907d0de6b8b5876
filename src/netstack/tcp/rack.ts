/**
 * RACK: a segment is lost when one sent sufficiently later has arrived. "Sufficiently" is the reordering window: nothing
 * until reordering was seen, then a quarter of the least round trip, more after retransmissions that DSACK says were idle.
 *
 *   record sent at t is lost at   t + (round trip of the newest delivered) + window      if the newest delivered is later than t
 *
 * RFC 8985 §6.2. Times are µs; sequence comparisons break ties between segments of one flush.
 */
import type { Instant } from '../../base/time.js';
import { LOST, RESENT, SACKED, type SendLog } from './send-log.js';
import { seqAfter, seqAtOrAfter, seqBefore } from './sequence.js';
import { NEVER } from './state.js';

/** RFC 8985 §6.2.4: recoveries that a widened window lasts, and how wide it gets (in quarters of a round trip). */
const PERSIST = 16;
const WIDEST = 255;
/** What an echoed timestamp may be off, µs. */
const TIMESTAMP_TICK = 1000;

export class Rack {
  /** When the newest delivered segment was sent, where it ended, and its round trip. */
  #sentAt = -1;
  #end = 0;
  #rtt = 0;
  /** The highest number delivered, by acknowledgement or SACK. */
  #highest = 0;
  reordering = false;
  #quarters = 1;
  #persist = 0;
  #roundEnd = 0;
  #inRound = false;
  /** Sending time of the newest delivered record that was sent only once, since `begin`; −1 = none (Karn). */
  sampledAt = -1;
  /** Since `begin` a record that was sent more than once was delivered. */
  copyDelivered = false;
  /** When `detect` has to be asked again; NEVER = not. */
  deadline = NEVER;

  start(iss: number): void {
    this.#end = iss;
    this.#highest = iss;
  }

  /** A new acknowledgement is about to be taken. */
  begin(): void {
    this.sampledAt = -1;
    this.copyDelivered = false;
  }

  /**
   * Bytes up to `end` of a record sent at `sentAt` were delivered for the first time. `least`: the smallest round trip known;
   * `echoed`: the round trip the acknowledgement's timestamp tells, −1 = none.
   */
  delivered(now: Instant, sentAt: number, end: number, mark: number, least: number, echoed: number): void {
    const rtt = now - sentAt;
    if ((mark & RESENT) === 0) {
      if (sentAt > this.sampledAt) this.sampledAt = sentAt;
      if (seqBefore(end, this.#highest)) this.reordering = true;
    } else {
      this.copyDelivered = true;
      // The round trip of the original, not of the copy.
      if (rtt < least || (echoed >= 0 && echoed > rtt + TIMESTAMP_TICK)) return;
    }
    if (seqAfter(end, this.#highest)) this.#highest = end;
    if (sentAt > this.#sentAt || (sentAt === this.#sentAt && seqAfter(end, this.#end))) {
      this.#sentAt = sentAt;
      this.#end = end;
      this.#rtt = rtt;
    }
  }

  /** The peer reported a duplicate: a retransmission was idle. */
  duplicateReported(una: number, nxt: number): void {
    if (this.#inRound && seqBefore(una, this.#roundEnd)) return;
    this.#inRound = true;
    this.#roundEnd = nxt;
    this.#quarters = Math.min(this.#quarters + 1, WIDEST);
    this.#persist = PERSIST;
  }

  /** A recovery is over. */
  recovered(): void {
    if (this.#persist > 0 && --this.#persist === 0) this.#quarters = 1;
  }

  /** The reordering window, µs. `eager`: in recovery, or enough was selectively acknowledged to be sure. */
  window(eager: boolean, least: number, smoothed: number): number {
    if (!this.reordering && eager) return 0;
    return Math.min((this.#quarters * least) / 4, smoothed);
  }

  /** Marks what is lost by now and sets `deadline` for the rest. Returns the bytes newly marked. */
  detect(now: Instant, log: SendLog, window: number): number {
    this.deadline = NEVER;
    if (log.sacked === 0 && log.resent === 0) return 0;
    const before = log.lost;
    for (let i = log.head; i < log.tail; i++) {
      const mark = log.marks[i];
      if ((mark & (SACKED | LOST)) !== 0) continue;
      const sentAt = log.times[i];
      if (sentAt > this.#sentAt) {
        // Records sent once lie in the order of their times: what follows is later still.
        if ((mark & RESENT) === 0) break;
        continue;
      }
      if (sentAt === this.#sentAt && seqAtOrAfter(log.endOf(i), this.#end)) continue;
      const due = sentAt + this.#rtt + window;
      if (due <= now) log.markLost(i);
      else if (due < this.deadline) this.deadline = due;
    }
    return log.lost - before;
  }

  /** The retransmission timer expired: the head is lost, and whatever has been under way for longer than a round trip. */
  detectTimeout(now: Instant, log: SendLog, window: number): void {
    this.deadline = NEVER;
    for (let i = log.head; i < log.tail; i++) {
      if (i === log.head || log.times[i] + this.#rtt + window <= now) log.markLost(i);
    }
  }
}
