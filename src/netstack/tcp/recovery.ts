/**
 * Loss detection and recovery of one sender: which bytes are lost, how many are in flight, and how fast to resend.
 *
 *   una ─── highRxt ─── lostEdge ─────────────── nxt
 *    holes:  resent      lost, to be resent        in flight, or selectively acknowledged
 *
 *   open ──3 duplicates or SACK says lost──► fast ──all of it acknowledged──► open
 *     └───────────timer──────► timeout ◄──timer──┘        timeout ──all of it acknowledged──► open
 *
 * Without SACK each duplicate ACK counts as one segment that left the network (RFC 6582), so that one rule serves both.
 * RFC 6675 §4–5 (pipe, IsLost, NextSeg), RFC 9937 (PRR), RFC 3042 (limited transmit follows from counting in `pipe`).
 */
import type { Instant } from '../../base/time.js';
import type { CongestionControl } from './congestion.js';
import { SequenceRanges } from './ranges.js';
import { seqAfter, seqAtOrAfter, seqBefore, seqMax, seqMin } from './sequence.js';

/** Duplicate acknowledgements that make a loss, RFC 5681 §2. */
const DUP_THRESHOLD = 3;
/** Ranges kept by the scoreboard; information beyond is ignored (SACK is advice). */
const SCOREBOARD_RANGES = 256;

export const Phase = { open: 0, fast: 1, timeout: 2 } as const;

export class Recovery {
  phase: number = Phase.open;
  readonly board = new SequenceRanges(SCOREBOARD_RANGES);
  /** Recovery ends when everything before this is acknowledged. */
  point = 0;
  lostEdge = 0;
  highRxt = 0;
  dupAcks = 0;
  /** Without SACK: bytes that duplicates say have left the network. */
  #guessed = 0;
  #delivered = 0;
  #sent = 0;
  #startFlight = 1;
  /** `nxt` when the last retransmission left: later data acknowledged past it proves that retransmission lost. */
  #lastRxtNxt = 0;

  constructor(readonly congestion: CongestionControl) {}

  start(iss: number): void {
    this.point = iss;
    this.lostEdge = iss;
    this.highRxt = iss;
  }

  /** Bytes in flight by the sender's best knowledge. */
  pipe(una: number, nxt: number, sack: boolean): number {
    const from = seqMax(una, this.highRxt);
    let lost = (this.lostEdge - from) | 0;
    if (lost < 0) lost = 0;
    else if (lost > 0 && this.board.count > 0) lost -= this.board.bytesWithin(from, this.lostEdge);
    const pipe = ((nxt - una) | 0) - (sack ? this.board.bytes : this.#guessed) - lost;
    return Math.max(pipe, 0);
  }

  /** Whether lost bytes wait to be resent. */
  get hasLost(): boolean {
    return seqAfter(this.lostEdge, this.highRxt);
  }

  /**
   * An acknowledgement, after `una` has advanced by `acked` and the board has taken its SACK blocks (`sacked` new bytes,
   * of which none is below `una`; `trimmed` of the acknowledged were known before).
   * Returns true when fast recovery begins with it.
   */
  acknowledged(
    now: Instant,
    una: number,
    nxt: number,
    mss: number,
    sack: boolean,
    acked: number,
    sacked: number,
    trimmed: number,
    duplicate: boolean,
  ): boolean {
    let delivered = acked - trimmed + sacked;
    if (acked > 0) {
      this.dupAcks = 0;
      if (seqBefore(this.highRxt, una)) this.highRxt = una;
      if (seqBefore(this.lostEdge, una)) this.lostEdge = una;
      if (!sack) {
        // What duplicates had announced is part of what is acknowledged now, except the segment that filled the gap.
        const known = Math.min(this.#guessed, Math.max(acked - mss, 0));
        this.#guessed -= known;
        delivered -= known;
      }
    } else if (duplicate) {
      this.dupAcks++;
      if (!sack && this.phase !== Phase.timeout) {
        const room = ((nxt - una) | 0) - mss - this.#guessed;
        const step = Math.min(mss, Math.max(room, 0));
        this.#guessed += step;
        delivered += step;
      }
    }
    if (this.phase !== Phase.open && seqAtOrAfter(una, this.point)) this.#finish(una);
    if (this.phase === Phase.timeout) return false;
    const before = this.lostEdge;
    const lost = this.#detect(una, nxt, mss, sack);
    if (this.phase === Phase.open) {
      if (!lost) return false;
      this.#enter(now, una, nxt);
      this.#proportion(una, nxt, mss, sack, delivered, false, true);
      return true;
    }
    if (sack && this.#retransmissionLost(una, nxt, mss)) {
      this.highRxt = una;
      this.#enter(now, una, nxt);
    }
    const safe = acked > 0 && this.lostEdge === before;
    this.#proportion(una, nxt, mss, sack, delivered, safe, false);
    return false;
  }

  /** The retransmission timer expired: everything outstanding counts as lost. */
  timedOut(now: Instant, una: number, nxt: number, again: boolean): void {
    // A receiver that no longer holds what it reported would have the first hole reported as held (RFC 2018 §8).
    if (this.board.count > 0 && !seqAfter(this.board.starts[0], una)) this.board.clear();
    if (again) this.congestion.window = this.congestion.segment;
    else this.congestion.timedOut(now, (nxt - una) | 0);
    this.phase = Phase.timeout;
    this.point = nxt;
    this.lostEdge = nxt;
    this.highRxt = una;
    this.dupAcks = 0;
    this.#guessed = 0;
  }

  /** What is outstanding was too big for the path: all of it goes again, and that is no sign of congestion. */
  resendAll(una: number, nxt: number): void {
    this.phase = Phase.timeout;
    this.point = nxt;
    this.lostEdge = nxt;
    this.highRxt = una;
    this.#guessed = 0;
  }

  /** The timeout was spurious: nothing is lost, the window is as before. */
  undoTimeout(una: number): void {
    this.congestion.undo();
    this.phase = Phase.open;
    this.lostEdge = una;
    this.highRxt = una;
  }

  /** Start of the next lost hole; call only when `hasLost`. Equal to or after `lostEdge`: there is none. */
  nextLost(una: number): number {
    return this.board.skip(seqMax(una, this.highRxt));
  }

  /** End of the hole that starts at `seq`. */
  holeEnd(seq: number): number {
    return this.board.nextStart(seq, this.lostEdge);
  }

  /** [seq, end) was sent again. */
  resent(seq: number, end: number, nxt: number): void {
    this.highRxt = end;
    this.#lastRxtNxt = nxt;
    this.#sent += (end - seq) | 0;
  }

  /** New data of `bytes` was sent. */
  sentNew(bytes: number): void {
    if (this.phase === Phase.fast) this.#sent += bytes;
  }

  #enter(now: Instant, una: number, nxt: number): void {
    const flight = (nxt - una) | 0;
    this.congestion.lost(now, flight);
    this.phase = Phase.fast;
    this.point = nxt;
    this.#lastRxtNxt = nxt;
    this.#startFlight = Math.max(flight, 1);
    this.#delivered = 0;
    this.#sent = 0;
  }

  #finish(una: number): void {
    if (this.phase === Phase.fast) this.congestion.window = this.congestion.threshold;
    this.phase = Phase.open;
    this.#guessed = 0;
    // `highRxt` stays: holes beyond the point may have been resent already.
    this.lostEdge = una;
  }

  /** Moves `lostEdge` forward; true when there is a loss. */
  #detect(una: number, nxt: number, mss: number, sack: boolean): boolean {
    let edge = una;
    if (!sack) {
      if (this.phase === Phase.fast) edge = seqMin((una + mss) | 0, this.point);
      else if (this.dupAcks >= DUP_THRESHOLD) edge = seqMin((una + mss) | 0, nxt);
    } else if (this.board.count > 0) {
      let above = 0;
      for (let i = this.board.count - 1; i >= 0; i--) {
        above += (this.board.ends[i] - this.board.starts[i]) | 0;
        if (this.board.count - i >= DUP_THRESHOLD || above > (DUP_THRESHOLD - 1) * mss) {
          edge = this.board.starts[i];
          break;
        }
      }
      if (edge === una && this.dupAcks >= DUP_THRESHOLD) edge = seqMin((una + mss) | 0, this.board.starts[0]);
    }
    if (seqAfter(edge, this.lostEdge)) this.lostEdge = edge;
    return seqAfter(edge, una);
  }

  /** Everything lost was resent, and data sent after the last of it has arrived: what is still missing is lost again. */
  #retransmissionLost(una: number, nxt: number, mss: number): boolean {
    if (this.hasLost || !seqAfter(this.lostEdge, una) || this.board.count === 0) return false;
    return this.board.bytesWithin(this.#lastRxtNxt, nxt) > (DUP_THRESHOLD - 1) * mss;
  }

  /** Proportional rate reduction: how much this acknowledgement allows to be sent (RFC 9937 §6). */
  #proportion(
    una: number,
    nxt: number,
    mss: number,
    sack: boolean,
    delivered: number,
    safe: boolean,
    first: boolean,
  ): void {
    const cc = this.congestion;
    const pipe = this.pipe(una, nxt, sack);
    this.#delivered += delivered;
    let send: number;
    if (pipe > cc.threshold) {
      send = Math.ceil((this.#delivered * cc.threshold) / this.#startFlight) - this.#sent;
    } else {
      send = Math.max(this.#delivered - this.#sent, delivered);
      if (safe) send += mss;
      send = Math.min(send, cc.threshold - pipe);
    }
    if (first || (this.#sent === 0 && send < mss)) send = Math.max(send, mss);
    cc.window = pipe + Math.max(send, 0);
  }
}
