/**
 * The sending half of a connection: the stream not yet acknowledged, the peer's window, and what may be sent next.
 *
 *   una = ring head          nxt                    una + window
 *   │ sent, unacknowledged    │ queued, may go        │ queued, must wait        [FIN takes one number after the last byte]
 *
 * RFC 9293 §3.8, RFC 1122 §4.2.3.4 (silly window), RFC 6298 (timing).
 */
import { type Instant, Micros } from '../../base/time.js';
import type { BufferPool } from '../buffer-pool.js';
import { ByteRing, copy, type Span } from './byte-ring.js';
import type { CongestionControl } from './congestion.js';
import { createCongestionControl } from './congestion-control.js';
import type { TcpOptions } from './options.js';
import { Pacer } from './pacer.js';
import { Phase, Recovery } from './recovery.js';
import { RttEstimator } from './rtt.js';
import type { Segment } from './segment.js';
import { seqAfter, seqAtOrBefore, seqBefore } from './sequence.js';
import { TailProbe } from './tail-probe.js';

/** Below this much contiguous room a growing ring grows rather than offering crumbs. */
const CRUMB = 16 * 1024;
/** Windows of more segments than this lose little by a part of one. */
const EVEN_SEGMENTS = 32;
/** Segments are not made smaller than this. */
const LEAST_CUT = 256;

export class Sender {
  iss = 0;
  /** SND.UNA, SND.NXT. */
  una = 0;
  nxt = 0;
  /** One past the highest number ever sent; beyond `nxt` only while a window probe is out. */
  maxSent = 0;
  window = 0;
  maxWindow = 0;
  /** The peer's window scale shift. */
  shift = 0;
  #wl1 = 0;
  #wl2 = 0;
  /** Bytes of the ring that the pool has set aside beyond the first. */
  #promised = 0;
  /** Marks reported below this belong to a window that has been answered. */
  #markPoint = 0;
  /** Sequence number of the ring's head. */
  ringSeq = 0;
  readonly ring: ByteRing;
  finQueued = false;
  finSent = false;
  /** Payload bytes of a full segment. */
  mss = 536;
  /** What segments are cut into: `mss`, or less where a small window would leave a part of itself unused. */
  cut = 536;
  sack = false;
  readonly congestion: CongestionControl;
  readonly recovery: Recovery;
  readonly rtt = new RttEstimator();
  readonly tail = new TailProbe();
  readonly pacer = new Pacer();
  /** When the SYN was sent, if only once; −1 = no measure (Karn). */
  synAt = -1;
  /** The window kept data from being sent since the last acknowledgement: only then may it grow (RFC 7661's concern). */
  windowLimited = false;
  /** Data was acknowledged since the last flush. */
  answered = false;
  /** The application found the ring full. */
  wanting = false;
  lastSentAt: Instant = 0 as Instant;

  constructor(
    pool: BufferPool,
    readonly options: TcpOptions,
  ) {
    this.ring = new ByteRing(pool);
    this.congestion = createCongestionControl(options.congestion, this.mss);
    this.recovery = new Recovery(this.congestion, this.rtt);
  }

  start(iss: number): void {
    this.iss = iss;
    this.una = iss;
    this.nxt = iss;
    this.maxSent = iss;
    this.ringSeq = (iss + 1) | 0;
    this.#markPoint = iss;
    this.recovery.start(iss);
  }

  /** Sets the segment size before the first data; the windows scale with it. */
  setMss(mss: number): void {
    const whole = this.congestion.window / this.congestion.segment;
    this.mss = mss;
    this.#chooseCut();
    this.congestion.segment = mss;
    this.congestion.window = Math.max(Math.floor(whole) * mss, mss);
  }

  /** Larger segments pass: as many bytes in flight as before, in fewer pieces. */
  raiseMss(mss: number): void {
    this.mss = mss;
    this.#chooseCut();
    this.congestion.segment = mss;
  }

  /** The number after the last queued byte: where FIN goes. */
  get end(): number {
    return (this.ringSeq + this.ring.length) | 0;
  }

  /** Bytes queued and never sent. */
  get unsent(): number {
    const n = (this.end - this.nxt) | 0;
    return Math.max(n, 0);
  }

  /** Bytes the application may add now, counting growth that is allowed. */
  get room(): number {
    return Math.max(this.#target(), this.ring.capacity) - this.ring.length;
  }

  /** The buffer cannot hold more than is in it: its size limits what is in flight, not the application. */
  get isFull(): boolean {
    return this.ring.length * 2 > this.options.sendMax;
  }

  /**
   * Points `span` at contiguous free room to fill before `commit`; `span.length` is 0 when the buffer is full. `first`: what
   * to begin with, bytes, when there is no buffer yet; when absent what may leave at once, so that a short answer holds little.
   */
  reserve(span: Span, first = powerOfTwo(this.congestion.window)): void {
    const { capacity } = this.ring;
    if (capacity < this.#target() && this.ring.free < Math.min(first, CRUMB)) {
      this.#grow(Math.max(capacity * 2, Math.min(first, this.options.sendInitial)));
    }
    const at = this.ring.index(this.ring.length);
    span.bytes = this.ring.bytes;
    span.offset = at;
    span.length = this.ring.contiguous(this.ring.length, this.ring.free);
    if (span.length === 0) this.wanting = true;
  }

  /** Copies as much as there is room for; returns the bytes taken. */
  write(bytes: Uint8Array, offset: number, length: number, span: Span): number {
    let done = 0;
    while (done < length) {
      this.reserve(span, length - done);
      if (span.length === 0) break;
      const n = Math.min(span.length, length - done);
      copy(bytes, offset + done, span.bytes, span.offset, n);
      this.ring.commit(n);
      done += n;
    }
    return done;
  }

  /** Takes the peer's window from a segment unless a newer one was seen (RFC 9293 §3.10.7.4). True when it changed. */
  updateWindow(seg: Segment, force: boolean, unscaled: boolean): boolean {
    if (!force && seqAfter(this.#wl1, seg.seq)) return false;
    if (!force && this.#wl1 === seg.seq && seqAfter(this.#wl2, seg.ack)) return false;
    const window = seg.window * 2 ** (unscaled ? 0 : this.shift);
    const changed = window !== this.window;
    this.window = window;
    if (window > this.maxWindow) {
      this.maxWindow = window;
      this.#chooseCut();
    }
    this.#wl1 = seg.seq;
    this.#wl2 = seg.ack;
    return changed;
  }

  /**
   * A valid acknowledgement. `echoed` is the round trip its timestamp tells, or −1; `timely`: it is fit to be a sample. Returns the bytes of stream that
   * left the ring, or −1 when nothing new was acknowledged.
   */
  acknowledge(
    now: Instant,
    seg: Segment,
    duplicate: boolean,
    echoed: number,
    timely: boolean,
    events: SenderEvents,
  ): number {
    const { recovery } = this;
    const { log, rack } = recovery;
    const acked = (seg.ack - this.una) | 0;
    if (acked > 0) {
      this.una = seg.ack;
      if (seqAfter(this.una, this.nxt)) this.nxt = this.una;
    }
    recovery.advance(now, this.una, echoed);
    if (log.head === log.tail && log.end !== this.nxt) log.reset(this.nxt);
    const reported = this.sack && seg.options.sackCount > 0 && this.#takeSack(now, seg, echoed, events);
    const before = recovery.phase;
    this.#measure(now, timely ? echoed : -1);
    const told = duplicate || (this.sack && seg.options.sackCount > 0 && !reported);
    if (recovery.conclude(now, this.una, this.mss, this.sack, Math.max(acked, 0), told)) {
      events.fastRetransmits++;
      this.tail.cancel();
    }
    if (this.tail.acknowledged(this.una, reported, duplicate) && recovery.phase === Phase.open) {
      this.congestion.lost(now, acked);
      this.congestion.window = Math.min(this.congestion.window, this.congestion.threshold);
    }
    if (acked <= 0) return -1;
    this.answered = true;
    // What echoes the time of its sending shows a path that answers; without, only a sample does.
    if (echoed >= 0) this.rtt.resetBackoff();
    if (before !== Phase.fast && recovery.phase !== Phase.fast && this.windowLimited) {
      if (rack.sampledAt >= 0) this.congestion.measured(now - rack.sampledAt, this.una, this.nxt);
      this.congestion.acknowledged(now, acked, this.rtt.smoothed);
    }
    let freed = (this.una - this.ringSeq) | 0;
    if (freed > this.ring.length) freed = this.ring.length;
    if (freed > 0) {
      this.ring.drop(freed);
      this.ringSeq = (this.ringSeq + freed) | 0;
      if (this.ring.length === 0) this.#releaseRing();
      return freed;
    }
    return 0;
  }

  /**
   * The peer reports, in an acknowledgement of `acked` bytes, `packets` of ours that the network has marked. True when a window's first report is taken: the window
   * shrinks as after a loss, if it has not for one already.
   */
  marked(now: Instant, packets: number, acked: number): boolean {
    const { congestion } = this;
    congestion.marked?.(packets * this.mss);
    if (seqBefore(this.una, this.#markPoint)) return false;
    this.#markPoint = this.nxt;
    if (congestion.isModel || this.recovery.phase !== Phase.open) return true;
    congestion.lost(now, ((this.nxt - this.una) | 0) + acked);
    congestion.window = Math.min(congestion.window, congestion.threshold);
    return true;
  }

  /** Whether an acknowledgement covers our FIN. */
  get finAcknowledged(): boolean {
    return this.finSent && this.una === this.nxt && this.ring.length === 0;
  }

  release(): void {
    this.#releaseRing();
    this.recovery.log.reset(this.nxt);
  }

  /** A ring of `size` bytes, a power of two, if the pool has that much beyond the first ones. */
  #grow(size: number): void {
    const more = size - Math.max(this.ring.capacity, this.options.sendInitial);
    if (more > 0) {
      if (!this.ring.pool.promise(more)) return;
      this.#promised += more;
    }
    this.ring.ensure(size, this.ring.length);
  }

  #releaseRing(): void {
    this.ring.pool.release(this.#promised);
    this.#promised = 0;
    this.ring.release();
  }

  /** Bytes the ring may hold now: twice the congestion window, within the configured bounds, a power of two. */
  #target(): number {
    const { sendInitial, sendMax } = this.options;
    const wanted = Math.max(Math.ceil(2 * this.congestion.window), sendInitial);
    return wanted >= sendMax ? sendMax : powerOfTwo(wanted);
  }

  /** One sample per acknowledgement, of the newest segment it delivers; none when a copy was among them (Karn). */
  #measure(now: Instant, echoed: number): void {
    const { rack } = this.recovery;
    if (this.synAt >= 0) {
      this.rtt.sample(Micros(now - this.synAt));
      this.synAt = -1;
    } else if (rack.sampledAt >= 0) {
      if (!rack.copyDelivered) this.rtt.sample(Micros(now - rack.sampledAt));
    } else if (echoed >= 0) this.rtt.sample(Micros(echoed));
  }

  /**
   * Takes the blocks of an acknowledgement, the lowest first: what one acknowledgement tells is no sign of reordering.
   * True when the first reports a duplicate (RFC 2883 §4).
   */
  #takeSack(now: Instant, seg: Segment, echoed: number, events: SenderEvents): boolean {
    const { sackCount, sackEdges } = seg.options;
    let reported = false;
    let from = this.una;
    for (let taken = 0; taken < sackCount; taken++) {
      let lowest = -1;
      for (let i = 0; i < sackCount; i++) {
        const left = sackEdges[2 * i] | 0;
        if (seqBefore(left, from)) continue;
        if (lowest < 0 || seqBefore(left, sackEdges[2 * lowest] | 0)) lowest = i;
      }
      if (lowest < 0) break;
      const left = sackEdges[2 * lowest] | 0;
      const right = sackEdges[2 * lowest + 1] | 0;
      from = (left + 1) | 0;
      // Beyond what was sent, or empty: nonsense.
      if (seqAtOrBefore(right, left) || seqAfter(right, this.nxt)) continue;
      if (lowest > 0 || !this.#isDuplicate(left, right, seg)) this.recovery.takeBlock(now, left, right, echoed);
    }
    const left = sackEdges[0] | 0;
    const right = sackEdges[1] | 0;
    if (seqBefore(left, right) && this.#isDuplicate(left, right, seg)) {
      reported = true;
      events.duplicateReports++;
      if (this.recovery.duplicateReported(this.una, this.nxt, left, right)) events.undone++;
    }
    return reported;
  }

  /** The peer's largest window in whole segments of equal size (RFC 1122 §4.2.3.4 would leave the rest of it waiting). */
  #chooseCut(): void {
    const whole = Math.ceil(this.maxWindow / this.mss);
    const even = whole < 2 || whole > EVEN_SEGMENTS ? this.mss : Math.floor(this.maxWindow / whole);
    this.cut = Math.max(even, Math.min(this.mss, LEAST_CUT));
  }

  #isDuplicate(left: number, right: number, seg: Segment): boolean {
    if (seqAtOrBefore(right, seg.ack)) return seqAfter(left, (this.una - this.maxWindow) | 0);
    if (seg.options.sackCount < 2) return false;
    const outerLeft = seg.options.sackEdges[2] | 0;
    const outerRight = seg.options.sackEdges[3] | 0;
    return seqAtOrBefore(outerLeft, left) && seqAtOrBefore(right, outerRight);
  }
}

/** The smallest power of two that is at least `n`, 1 … 2^30. */
function powerOfTwo(n: number): number {
  return 1 << (32 - Math.clz32(Math.ceil(Math.min(n, 1 << 30)) - 1));
}

/** What one acknowledgement set off, for the counters. */
export interface SenderEvents {
  fastRetransmits: number;
  duplicateReports: number;
  /** Recoveries taken back because every copy was a duplicate. */
  undone: number;
}
