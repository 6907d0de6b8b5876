/**
 * Loss recovery of one sender: which bytes are lost, how many are in flight, how fast to resend, and when to take it back.
 *
 *   open ──RACK, or three duplicates without SACK──► fast ──all of it acknowledged──► open
 *     └───────────────timer──────► timeout ◄──timer──┘      timeout ──all of it acknowledged──► open
 *     fast, timeout ──the original had arrived (timestamp, or every copy a duplicate)──► open, window as before
 *
 * Without SACK each duplicate ACK counts as one segment that left the network (RFC 6582), so that one rule serves both.
 * RFC 8985 (RACK), RFC 6675 §4 (pipe), RFC 9937 (PRR), RFC 6582, RFC 3042 (limited transmit follows from counting in
 * `pipe`), RFC 4015, RFC 5682 and RFC 3708 (undo). A retransmission lost again in the same recovery does not reduce a second time.
 */
import type { Instant } from '../../base/time.js';
import type { CongestionControl } from './congestion.js';
import { DeliveryRate } from './delivery-rate.js';
import { PathMtu, Probe } from './path-mtu.js';
import { ProportionalReduction } from './prr.js';
import { Rack } from './rack.js';
import type { RttEstimator } from './rtt.js';
import { LIMITED, LOST, RESENT, SACKED, SendLog } from './send-log.js';
import { seqAfter, seqAtOrAfter, seqAtOrBefore, seqBefore, seqMax, seqMin } from './sequence.js';

/** Duplicate acknowledgements that make a loss, RFC 5681 §2. */
const DUP_THRESHOLD = 3;

export const Phase = { open: 0, fast: 1, timeout: 2 } as const;

export class Recovery {
  phase: number = Phase.open;
  readonly log = new SendLog();
  readonly rack = new Rack();
  readonly rate = new DeliveryRate();
  readonly pathMtu = new PathMtu();
  readonly #prr = new ProportionalReduction();
  /** Recovery ends when everything before this is acknowledged. */
  point = 0;
  dupAcks = 0;
  /** The timer has expired: the head goes out whatever the window says. */
  headDue = false;
  /** Nothing was sent again yet in this recovery. */
  firstCopyDue = false;
  /** Without SACK: bytes that duplicates say have left the network. */
  #guessed = 0;
  /** Delivered by the acknowledgement being taken, bytes. */
  #delivered = 0;
  /** Bytes sent again in this recovery and not reported as duplicates; −1 = nothing to take back. */
  #unproven = -1;
  /** When the segment was sent that timed out, −1 = the timeout is not to be judged (any more). */
  #timedOutSentAt = -1;
  /** By the acknowledgement being taken: round trip of an original that came after its timeout, µs; 0 = none. */
  originalCame = 0;
  /** Where this recovery began. */
  #from = 0;

  constructor(
    readonly congestion: CongestionControl,
    readonly rtt: RttEstimator,
  ) {}

  start(iss: number): void {
    this.point = iss;
    this.log.reset((iss + 1) | 0);
    this.rack.start(iss);
  }

  /** Bytes in flight by the sender's best knowledge. */
  get pipe(): number {
    const { log } = this;
    if (log.head === log.tail) return 0;
    return Math.max(((log.end - log.starts[log.head]) | 0) - log.sacked - log.lost - this.#guessed, 0);
  }

  // ---- one acknowledgement: `advance`, `takeBlock` for each SACK block, `conclude`

  /** `una` has advanced (or not). `echoed` as in `Rack.delivered`. */
  advance(now: Instant, una: number, echoed: number): void {
    const { log, rack } = this;
    const least = this.rtt.least;
    rack.begin();
    this.rate.begin();
    this.#delivered = 0;
    this.originalCame = 0;
    while (log.head < log.tail && seqBefore(log.starts[log.head], una)) {
      const i = log.head;
      const end = seqMin(log.endOf(i), una);
      const mark = log.marks[i];
      if ((mark & RESENT) !== 0 && this.#timedOutSentAt >= 0) this.#judgeTimeout(now, log.times[i], least);
      if ((mark & SACKED) === 0) {
        this.#delivered += (end - log.starts[i]) | 0;
        rack.delivered(now, log.times[i], end, mark, least, echoed);
        this.#sample(now, i, (end - log.starts[i]) | 0);
      }
      if (end === log.endOf(i)) log.dropHead();
      else log.trimHead(una);
    }
  }

  /** A SACK block, which lies between una and the end of what was sent. */
  takeBlock(now: Instant, left: number, right: number, echoed: number): void {
    const { log, rack } = this;
    if (log.split(left) < 0 || log.split(right) < 0) return;
    // Looked up again, because making room moves records.
    const from = log.indexOf(left);
    const last = right === log.end ? log.tail : log.indexOf(right);
    let gained = 0;
    for (let i = from; i < last; i++) {
      if ((log.marks[i] & SACKED) !== 0) continue;
      gained += log.lengthOf(i);
      this.#sample(now, i, log.lengthOf(i));
      rack.delivered(now, log.times[i], log.endOf(i), log.marks[i], this.rtt.least, echoed);
      log.markSacked(i);
    }
    this.#delivered += gained;
    if (last > from) log.joinSacked(from, last - 1);
  }

  /**
   * The acknowledgement has been taken: phase and window follow. `acked`: bytes by which una advanced; `duplicate`: it
   * acknowledged nothing new although data is outstanding, or brought SACK blocks. True when fast recovery begins with it.
   */
  conclude(now: Instant, una: number, mss: number, sack: boolean, acked: number, duplicate: boolean): boolean {
    const { log } = this;
    let delivered = this.#delivered;
    if (acked > 0) {
      this.dupAcks = 0;
      if (!sack) {
        // What duplicates had announced is part of what is acknowledged now, except the segment that filled the gap.
        const known = Math.min(this.#guessed, Math.max(acked - mss, 0));
        this.#guessed -= known;
        delivered -= known;
      }
    } else if (duplicate) {
      this.dupAcks++;
      if (!sack && this.phase !== Phase.timeout) {
        const room = ((log.end - una) | 0) - mss - this.#guessed;
        const step = Math.min(mss, Math.max(room, 0));
        this.#guessed += step;
        delivered += step;
      }
    }
    if (this.phase !== Phase.open && seqAtOrAfter(una, this.point)) this.#finish();
    this.rate.conclude(this.rtt.least);
    const lost = sack ? this.#detect(now, mss) : this.#detectByCount(una, mss);
    const alone = this.pathMtu.state !== Probe.none && this.#probeAlone(now);
    const { rack } = this;
    const measured = rack.sampledAt >= 0 && !rack.copyDelivered ? now - rack.sampledAt : -1;
    if (this.#delivered > 0) this.congestion.sampled?.(now, this.rate, this.#delivered, lost, this.pipe, measured);
    if (this.phase === Phase.timeout) return false;
    const began = this.phase === Phase.open && log.lost > 0 && !alone;
    if (began) this.#enter(now, delivered);
    if (this.phase === Phase.fast) this.#reduce(mss, delivered, acked > 0 && lost === 0);
    return began;
  }

  /** The reordering timer: losses may be certain by now. True when fast recovery begins. */
  reorderingTimeout(now: Instant, mss: number): boolean {
    this.#detect(now, mss);
    const alone = this.pathMtu.state !== Probe.none && this.#probeAlone(now);
    if (this.phase !== Phase.open || this.log.lost === 0 || alone) return false;
    this.#enter(now, 0);
    this.#reduce(mss, 0, false);
    return true;
  }

  /** The peer reported [left, right) as a duplicate. True when that proves the whole recovery needless: it is undone. */
  duplicateReported(una: number, nxt: number, left: number, right: number): boolean {
    this.rack.duplicateReported(una, nxt);
    if (this.#unproven <= 0 || seqBefore(left, this.#from) || seqAfter(right, this.point)) return false;
    this.#unproven -= (right - left) | 0;
    if (this.#unproven > 0) return false;
    this.undo();
    return true;
  }

  /** The retransmission timer expired. `again`: for the second time in a row. */
  timedOut(now: Instant, sack: boolean, again: boolean): void {
    const { log } = this;
    // The head cannot have arrived beyond a gap: the receiver no longer holds what it reported (RFC 2018 §8).
    if (log.sacked > 0 && (log.marks[log.head] & SACKED) !== 0) log.forgetSacked();
    // One reduction per flight: what recovery has reduced already, or the same timeout again, only shrinks the window.
    if (again || this.phase === Phase.fast) this.congestion.window = this.congestion.segment;
    else this.congestion.timedOut(now, (log.end - log.starts[log.head]) | 0);
    if (this.pathMtu.state !== Probe.none) this.pathMtu.timedOut(now, log.starts[log.head]);
    this.phase = Phase.timeout;
    this.point = log.end;
    this.dupAcks = 0;
    this.#guessed = 0;
    this.headDue = true;
    this.#timedOutSentAt = again || (log.marks[log.head] & RESENT) !== 0 ? -1 : log.times[log.head];
    if (!again) {
      this.#unproven = 0;
      this.#from = log.starts[log.head];
      this.firstCopyDue = true;
    }
    if (sack) this.rack.detectTimeout(now, log, this.#window(0));
    else this.#loseAll();
  }

  /** What is outstanding was too big for the path: all of it goes again, and that is no sign of congestion. */
  resendAll(): void {
    this.phase = Phase.timeout;
    this.point = this.log.end;
    this.#guessed = 0;
    this.#unproven = -1;
    this.#timedOutSentAt = -1;
    this.#loseAll();
  }

  /** The recovery was needless: nothing is lost, the window is as before. */
  undo(): void {
    this.congestion.undo();
    this.phase = Phase.open;
    this.headDue = false;
    this.firstCopyDue = false;
    this.log.forgetLost();
    this.rack.recovered();
    this.#guessed = 0;
    this.dupAcks = 0;
    this.#unproven = -1;
    this.#timedOutSentAt = -1;
  }

  // ---- sending

  /** Record `i` of the log, from its start, was sent again with `length` numbers. */
  resent(now: Instant, i: number, length: number): void {
    const { log } = this;
    const start = log.starts[i];
    const { pathMtu } = this;
    if (pathMtu.state === Probe.lost) pathMtu.state = Probe.none;
    // What is acknowledged from now on may be this copy, which is in smaller segments.
    const isProbe = seqBefore(start, pathMtu.to) && seqAfter((start + length) | 0, pathMtu.from);
    if (pathMtu.state === Probe.out && isProbe) pathMtu.inconclusive(now);
    log.split((start + length) | 0);
    this.rate.sending(now, this.pipe === 0);
    const at = log.indexOf(start);
    log.markResent(at, now);
    log.remember(at, this.rate);
    if (this.#unproven >= 0) this.#unproven += length;
    if (this.phase === Phase.fast) this.#prr.sent(length);
  }

  /** New data of `length` numbers was sent. */
  sentNew(now: Instant, length: number): void {
    this.rate.sending(now, this.pipe === 0);
    this.log.sent(now, length);
    this.log.remember(this.log.tail - 1, this.rate);
    if (this.phase === Phase.fast) this.#prr.sent(length);
  }

  /** Where a tail probe that resends at most `length` numbers begins. */
  tailOf(length: number): number {
    const { log } = this;
    return seqMax((log.end - length) | 0, log.starts[log.head]);
  }

  /** `bytes` of record `i` were delivered. */
  #sample(now: Instant, i: number, bytes: number): void {
    const { log } = this;
    const limited = (log.marks[i] & LIMITED) !== 0;
    this.rate.take(now, bytes, log.times[i], log.delivered[i], log.deliveredAt[i], log.firstSentAt[i], limited);
  }

  /**
   * What was sent again at `sentAt` after a timeout is acknowledged. Sooner than in half the least round trip it can only be the
   * original that arrived: the timeout was premature. (What F-RTO, RFC 5682, learns by holding copies back, the clock tells.)
   */
  #judgeTimeout(now: Instant, sentAt: number, least: number): void {
    if (this.phase !== Phase.timeout || (now - sentAt) * 2 >= least) return;
    this.originalCame = now - this.#timedOutSentAt;
    this.#timedOutSentAt = -1;
  }

  /** Whether nothing is lost but a probe of the path MTU, which then tells of its size and not of congestion (RFC 4821 §7.4). */
  #probeAlone(now: Instant): boolean {
    const { log, pathMtu } = this;
    if (log.lost === 0 || seqAtOrBefore(pathMtu.to, log.starts[log.head])) return false;
    const at = log.indexOf(pathMtu.from);
    const isLost = log.starts[at] === pathMtu.from && (log.marks[at] & LOST) !== 0;
    if (isLost && log.lost === ((pathMtu.to - pathMtu.from) | 0)) {
      if (pathMtu.state === Probe.out) pathMtu.lost(now);
      return true;
    }
    if (isLost) pathMtu.inconclusive(now);
    return false;
  }

  #enter(now: Instant, delivered: number): void {
    const { log } = this;
    const outstanding = (log.end - log.starts[log.head]) | 0;
    this.congestion.lost(now, outstanding);
    this.phase = Phase.fast;
    this.point = log.end;
    this.#unproven = 0;
    this.#from = log.starts[log.head];
    this.firstCopyDue = true;
    this.#prr.begin(outstanding - log.sacked - this.#guessed + delivered);
  }

  #finish(): void {
    if (this.phase === Phase.fast && !this.congestion.isModel) this.congestion.window = this.congestion.threshold;
    this.congestion.recovered?.();
    this.#timedOutSentAt = -1;
    this.phase = Phase.open;
    this.#guessed = 0;
    this.rack.recovered();
  }

  #reduce(mss: number, delivered: number, safe: boolean): void {
    const { congestion } = this;
    if (congestion.isModel) return;
    congestion.window = this.#prr.window(this.pipe, congestion.threshold, mss, delivered, safe);
  }

  #window(mss: number): number {
    const eager = this.phase !== Phase.open || this.dupAcks >= DUP_THRESHOLD || this.#sackedEnough(mss);
    return this.rack.window(eager, this.rtt.least, this.rtt.smoothed);
  }

  /** RFC 6675 §4's measure of three segments. */
  #sackedEnough(mss: number): boolean {
    return this.log.sacked > (DUP_THRESHOLD - 1) * mss;
  }

  #detect(now: Instant, mss: number): number {
    return this.rack.detect(now, this.log, this.#window(mss));
  }

  /** Without SACK: the third duplicate, and in recovery every partial acknowledgement, means the first segment (RFC 6582). */
  #detectByCount(una: number, mss: number): number {
    const { log } = this;
    if (log.head === log.tail) return 0;
    const certain = this.phase === Phase.fast ? (log.marks[log.head] & RESENT) === 0 : this.dupAcks >= DUP_THRESHOLD;
    if (!certain || this.phase === Phase.timeout) return 0;
    // Goes out whatever the window says (RFC 6582 §3.2, step 3).
    this.headDue = true;
    const before = log.lost;
    if (seqAtOrBefore((una + mss) | 0, log.end)) log.split((una + mss) | 0);
    log.markLost(log.head);
    return log.lost - before;
  }

  #loseAll(): void {
    const { log } = this;
    for (let i = log.head; i < log.tail; i++) log.markLost(i);
  }
}
