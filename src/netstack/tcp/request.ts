/**
 * A SYN that waits for the application: accepted (then, and only then, the SYN-ACK goes out) or rejected.
 *
 *   SYN ─► pending ─accept──► SYN-RECEIVED (a TcpConnection)
 *            │ ├──reject──► RST, ICMP error, or nothing
 *            │ └──the peer's RST, or too long────► `onCancelled`
 *   further SYNs while pending are absorbed and counted
 *
 * RFC 9293 §3.10.7.2; withholding the SYN-ACK keeps a refused service looking refused.
 */
import type { Instant } from '../../base/time.js';
import { Count } from '../counters.js';
import { Flow } from '../flow.js';
import type { Rejection, TcpHandlers } from '../types.js';
import type { TcpConnection } from './connection.js';
import { ACK, ECN_FLAGS, RST, Segment, SYN } from './segment.js';

/** What a request needs from its stack. */
export interface RequestHost {
  readonly counts: Float64Array;
  acceptRequest(request: TcpRequest, handlers: TcpHandlers): TcpConnection;
  rejectRequest(request: TcpRequest, how: Rejection): void;
  cancelRequest(request: TcpRequest): void;
}

export class TcpRequest extends Flow {
  /** Called when the peer gave up, or the stack dropped the request for age: the dial can stop. */
  onCancelled: (() => void) | undefined;
  /** Anything the application wants to keep with the request. */
  context: unknown;
  isPending = true;
  /** The SYN without payload (nothing of it has been acknowledged). */
  readonly syn = new Segment();

  constructor(
    words: Uint32Array,
    syn: Segment,
    readonly arrived: Instant,
    readonly host: RequestHost,
  ) {
    super(words);
    this.syn.seq = syn.seq;
    this.syn.flags = SYN | (syn.flags & ECN_FLAGS);
    this.syn.ecn = syn.ecn;
    this.syn.window = syn.window;
    const { options } = this.syn;
    options.mss = syn.options.mss;
    options.windowScale = syn.options.windowScale;
    options.sackPermitted = syn.options.sackPermitted;
    options.hasTimestamps = syn.options.hasTimestamps;
    options.timestampValue = syn.options.timestampValue;
    options.userTimeout = syn.options.userTimeout;
  }

  /** Answers the SYN at the next flush. Undefined when the request is over already. */
  accept(handlers: TcpHandlers): TcpConnection | undefined {
    if (!this.isPending) return undefined;
    this.isPending = false;
    return this.host.acceptRequest(this, handlers);
  }

  /** Refuses. Nothing happens when the request is over already. */
  reject(how: Rejection): void {
    if (!this.isPending) return;
    this.isPending = false;
    this.host.rejectRequest(this, how);
  }

  override segment(_now: Instant, seg: Segment): void {
    if ((seg.flags & (SYN | ACK | RST)) === SYN && seg.seq === this.syn.seq) {
      this.host.counts[Count.tcp_syn_absorbed]++;
      this.syn.options.timestampValue = seg.options.timestampValue;
      this.syn.flags = SYN | (seg.flags & ECN_FLAGS);
      this.syn.ecn = seg.ecn;
      return;
    }
    // A RST of this SYN's sender, or a new SYN (it started over): the request is over.
    if ((seg.flags & RST) !== 0 && seg.seq !== ((this.syn.seq + 1) | 0) && seg.seq !== this.syn.seq) return;
    if ((seg.flags & (RST | SYN)) === 0) return;
    this.cancel();
  }

  /** Ends the request without an answer. */
  cancel(): void {
    if (!this.isPending) return;
    this.isPending = false;
    this.host.cancelRequest(this);
    this.onCancelled?.();
  }

  override unreachable(): void {}
}
