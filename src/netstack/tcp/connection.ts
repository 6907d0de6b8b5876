/**
 * One TCP connection: its state, its two halves, its timers and the application's calls.
 *
 *   application ─ write/reserve+commit ─► Sender ──► output.ts ──► packets
 *   application ◄─ onData / pull ──────── Receiver ◄── input.ts ◄── packets
 *   timers.ts: retransmission or window probe, delayed ACK, keepalive and idle, TIME-WAIT
 *
 * Commands only note what is wanted; packets leave at the stack's next `flush`. RFC 9293 §3.9–3.10.
 */

import type { Duration, Instant } from '../../base/time.js';
import { Timer } from '../../base/timers.js';
import { Count } from '../counters.js';
import { Flow } from '../flow.js';
import type { CloseReason, TcpHandlers } from '../types.js';
import type { Span } from './byte-ring.js';
import { Ecn } from './ecn.js';
import { unreachable } from './errors.js';
import type { TcpHost } from './host.js';
import { processSegment } from './input.js';
import { superSegmentOf } from './output.js';
import { Receiver } from './receiver.js';
import { type Resting, restingOf, SPENT_RECEIVER, SPENT_SENDER, wakeReceiver, wakeSender } from './resting.js';
import type { Segment } from './segment.js';
import { Sender } from './sender.js';
import { isIn, isTransition, NEVER, RECEIVING, State, SYNCHRONIZED, type TcpState } from './state.js';
import { expireTimers } from './timers.js';

const SINK: TcpHandlers = { onData: (_bytes, _offset, length) => length, onClosed: () => {} };

export class TcpConnection extends Flow {
  state: TcpState = State.closed;
  handlers: TcpHandlers = SINK;
  /** Anything the application wants to keep with the connection. */
  context: unknown;
  sender: Sender;
  receiver: Receiver;
  readonly ecn = new Ecn();
  readonly timer = new Timer((now) => expireTimers(this, now));

  // Agreed options.
  timestamps = false;
  timestampOffset = 0;
  scaling = false;
  /** TS.Recent and when it was taken (RFC 7323 §4.3). */
  recent = 0;
  recentAt = 0;
  /** Last acknowledgement number sent (RFC 7323's Last.ACK.sent). */
  lastAck = 0;
  /** The peer's MSS option, or the default it stands for. */
  peerMss = 536;

  // What output owes.
  scheduled = false;
  ackNow = false;
  /** Segments received since the last acknowledgement went out. */
  unacked = 0;
  /** So many acknowledgements yet are not delayed: something was lost a short time ago, and its sender has few segments on the way. */
  quickAcks = 0;
  /** Segments that came beyond a gap since the last flush: each is owed an acknowledgement. */
  duplicatesOwed = 0;
  /** Bytes that came although they were here already: the next acknowledgement reports them (RFC 2883 §4). */
  duplicateFrom = 0;
  duplicateTo = 0;
  synPending = false;
  probePending = false;
  tailPending = false;
  keepalivePending = false;
  /** Opened by the peer. */
  passive = false;
  /** Simultaneous open: the ACK came with a SYN, so its window is unscaled. */
  synAckSeen = false;
  peerClosedTold = false;
  /** Both FINs are acknowledged. */
  finished = false;
  /** `onClosed` has been called. */
  told = false;

  // Deadlines, in µs of the monotonic clock.
  retransmitAt = NEVER;
  tailAt = NEVER;
  reorderAt = NEVER;
  paceAt = NEVER;
  delayedAckAt = NEVER;
  keepaliveAt = NEVER;
  idleAt = NEVER;
  timeWaitAt = NEVER;
  synTries = 0;
  probes = 0;
  /** When the oldest unacknowledged byte was first waiting; the user timeout counts from here. */
  progressAt = 0;
  /** The last valid segment; and when something was first sent again, or a window probed, since then (NEVER = not). */
  heardAt = 0;
  unansweredAt = NEVER;
  /** Unacknowledged data older than this ends the connection. */
  userTimeout: Duration;
  dataAt = 0;
  retries = 0;
  /** When ICMP last said the peer could not be reached; −1 = never. For reports only (RFC 5927 §5). */
  softErrorAt = -1;
  /** Timestamp of the first retransmission of a recovery, to recognize a spurious one (RFC 3522). */
  eifelTimestamp = 0;
  eifelArmed = false;
  /** Instead of the halves, which then are spent ones. */
  #resting: Resting | undefined;

  constructor(
    words: Uint32Array,
    readonly host: TcpHost,
  ) {
    super(words);
    this.userTimeout = host.options.userTimeout;
    this.sender = new Sender(host.pool, host.options);
    this.receiver = new Receiver(host.pool, host.options.receiveInitial, host.options.receiveMax);
  }

  // ---- the application's side

  /** Bytes received in order and not yet taken. */
  get readable(): number {
    return this.receiver.ring.length;
  }

  /** Bytes that `write` would take now. */
  get writable(): number {
    return this.canSend ? this.sender.room : 0;
  }

  /** Bytes that leave as one super-segment: whole segments of the present size. */
  get superSegment(): number {
    return superSegmentOf(this);
  }

  /** Bytes queued or sent and not yet acknowledged. */
  get queued(): number {
    return this.sender.ring.length;
  }

  get isClosed(): boolean {
    return this.state === State.closed;
  }

  get isConnected(): boolean {
    return isIn(this.state, SYNCHRONIZED);
  }

  /** The peer has ended its stream (what came before may still wait to be taken). */
  get peerClosed(): boolean {
    return this.receiver.finReceived;
  }

  /** Smoothed round trip, µs; 0 = unknown. */
  get roundTrip(): Duration {
    return this.sender.rtt.smoothed;
  }

  /** Whether the stream towards the peer is still open for writing. */
  get canSend(): boolean {
    return this.state !== State.closed && this.state !== State.timeWait && !this.sender.finQueued;
  }

  /** Replaces the handlers, for instance once a dial has succeeded. */
  setHandlers(handlers: TcpHandlers): void {
    this.handlers = handlers;
  }

  /**
   * Free contiguous room of the send buffer, to be filled (read(2) into it) and counted in with `commit`. Length 0: full;
   * `onWritable` follows. The span is valid until the next call into the stack.
   */
  reserve(span: Span): Span {
    if (this.canSend) this.sender.reserve(span);
    else span.length = 0;
    return span;
  }

  /** Queues the first `n` bytes of the reserved room. */
  commit(n: number): void {
    if (n <= 0 || !this.canSend) return;
    this.sender.ring.commit(n);
    this.host.schedule(this);
  }

  /** Queues a copy of as many bytes as there is room for and returns how many. Less than `length`: `onWritable` follows. */
  write(bytes: Uint8Array, offset: number, length: number): number {
    if (!this.canSend) return 0;
    const taken = this.sender.write(bytes, offset, length, scratch);
    if (taken > 0) this.host.schedule(this);
    return taken;
  }

  /** Offers waiting bytes to `onData` again. Returns how many were taken. */
  pull(): number {
    if (this.state === State.closed) return 0;
    const taken = this.receiver.deliver(this.handlers);
    if (taken > 0 && this.receiver.canOpen(this.sender.mss)) {
      // Worth a packet of its own only when the peer is, or may soon be, held back by the window it knows.
      if (this.receiver.gain >= this.receiver.window) this.ackNow = true;
      this.host.schedule(this);
    }
    this.#completeIfTaken();
    return taken;
  }

  /** Ends our stream: FIN follows what is queued (after the handshake, if that is still going on). The peer may go on sending. */
  shutdownWrite(): void {
    if (this.sender.finQueued || this.state === State.closed) return;
    this.sender.finQueued = true;
    if (this.state === State.established) this.enter(State.finWait1);
    else if (this.state === State.closeWait) this.enter(State.lastAck);
    this.touch(this.host.now);
    this.host.schedule(this);
  }

  /** Resets the connection at once. */
  abort(): void {
    if (this.state === State.closed) return;
    this.reset('aborted');
  }

  // ---- the stack's side

  override segment(now: Instant, segment: Segment): void {
    this.wake();
    processSegment(this, now, segment);
  }

  override unreachable(now: Instant, seq: number, hard: boolean, mtu: number): void {
    // In TIME-WAIT nothing is in flight that it could be about.
    if (this.#resting === undefined) unreachable(this, now, seq, hard, mtu);
  }

  /** In TIME-WAIT, with nothing owed and the application told: all that may be asked of it yet fits into a few numbers. */
  restIfDone(): void {
    if (this.state !== State.timeWait || !this.told || this.ackNow || this.delayedAckAt !== NEVER) return;
    this.#resting = restingOf(this.sender, this.receiver);
    this.sender.release();
    this.receiver.release();
    this.sender = SPENT_SENDER;
    this.receiver = SPENT_RECEIVER;
  }

  /** The halves are there again, if it rested. */
  wake(): void {
    const resting = this.#resting;
    if (resting === undefined) return;
    this.#resting = undefined;
    const { pool, options } = this.host;
    this.sender = wakeSender(resting, pool, options);
    this.receiver = wakeReceiver(resting, pool);
  }

  /** The only way a state changes. */
  enter(to: TcpState): void {
    if (!isTransition(this.state, to)) return;
    this.state = to;
    if (to === State.established) this.host.counts[Count.tcp_opened]++;
  }

  /** Tells the application, once, that the peer's stream is at its end. */
  tellPeerClosed(): void {
    if (!this.receiver.finReceived || this.peerClosedTold || this.receiver.ring.length > 0) return;
    if (this.state === State.closed) return;
    this.peerClosedTold = true;
    this.handlers.onPeerClosed?.();
  }

  /** Sends a RST and closes. */
  reset(reason: CloseReason): void {
    if (this.state === State.synSent) {
      this.close(reason);
      return;
    }
    if (this.state !== State.closed && this.state !== State.timeWait) {
      this.host.emitter.reset(this.words, this.sender.nxt, this.receiver.nxt, true);
    }
    this.close(reason);
  }

  /** Ends the connection without a packet. */
  close(reason: CloseReason): void {
    if (this.state === State.closed) return;
    if (isIn(this.state, SYNCHRONIZED)) this.host.counts[Count.tcp_closed]++;
    this.enter(State.closed);
    this.sender.release();
    this.receiver.release();
    this.host.forget(this);
    this.#tellClosed(reason);
  }

  /** Both streams are over and acknowledged: from LAST-ACK to CLOSED, from the other states to TIME-WAIT. */
  finish(now: Instant): void {
    this.retransmitAt = NEVER;
    this.tailAt = NEVER;
    this.reorderAt = NEVER;
    this.paceAt = NEVER;
    this.keepaliveAt = NEVER;
    this.finished = true;
    this.sender.release();
    if (this.state !== State.lastAck) {
      this.enter(State.timeWait);
      this.timeWaitAt = now + this.host.options.timeWait;
    }
    this.#completeIfTaken();
    this.arm();
  }

  /** The application hears `finished` only once it has taken every byte: acknowledged bytes are never dropped. */
  #completeIfTaken(): void {
    this.tellPeerClosed();
    if (!this.finished || this.receiver.ring.length > 0) return;
    this.idleAt = NEVER;
    if (this.state === State.lastAck) this.close('finished');
    else this.#tellClosed('finished');
  }

  #tellClosed(reason: CloseReason): void {
    if (this.told) return;
    this.told = true;
    const handlers = this.handlers;
    this.handlers = SINK;
    handlers.onClosed(reason);
  }

  /** A valid segment came. */
  heard(now: Instant): void {
    this.heardAt = now;
    this.unansweredAt = NEVER;
  }

  /** Payload moved: the idle clocks start again. */
  touch(now: Instant): void {
    const { idleTimeout, halfClosedTimeout } = this.host.options;
    this.dataAt = now;
    const half = this.sender.finQueued || this.receiver.finReceived;
    const span = half ? halfClosedTimeout : idleTimeout;
    this.idleAt = span > 0 ? now + span : NEVER;
  }

  /** Arms the timer for the earliest deadline. */
  arm(): void {
    let at = this.retransmitAt;
    if (this.tailAt < at) at = this.tailAt;
    if (this.reorderAt < at) at = this.reorderAt;
    if (this.paceAt < at) at = this.paceAt;
    if (this.delayedAckAt < at) at = this.delayedAckAt;
    if (this.keepaliveAt < at) at = this.keepaliveAt;
    if (this.idleAt < at) at = this.idleAt;
    if (this.timeWaitAt < at) at = this.timeWaitAt;
    if (at !== NEVER) this.host.armNoLater(this.timer, at as Instant);
  }

  /** After a pause of the whole stack: what is outstanding goes again now, and the waiting counts from now. */
  kick(now: Instant): void {
    this.progressAt = now;
    this.heard(now);
    this.probes = 0;
    this.sender.rtt.resetBackoff();
    if (this.idleAt !== NEVER) this.touch(now);
    if (this.retransmitAt === NEVER) return;
    this.retransmitAt = now;
    this.synTries = Math.min(this.synTries, 1);
    this.arm();
  }

  /** Our timestamp clock: milliseconds plus an offset of this 4-tuple. */
  timestampAt(now: Instant): number {
    return (Math.floor(now / 1000) + this.timestampOffset) | 0;
  }

  get receiving(): boolean {
    return isIn(this.state, RECEIVING);
  }
}

const scratch: Span = { bytes: new Uint8Array(0), offset: 0, length: 0 };
