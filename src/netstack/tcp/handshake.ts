/**
 * How a connection begins: options agreed from the peer's SYN, the initial sequence number, and the two ways to open.
 *
 * RFC 9293 §3.5, §3.7.1 (MSS), RFC 7323 §2.2 and §3.2, RFC 2018 §2, RFC 5482 §3.
 */
import type { Instant } from '../../base/time.js';
import { Count } from '../counters.js';
import type { TcpConnection } from './connection.js';
import { dataOptionSpace } from './emit.js';
import type { InitialSequence } from './isn.js';
import { scaleFor } from './output.js';
import { ACK, type Segment } from './segment.js';
import { State } from './state.js';
import { agreedUserTimeout } from './user-timeout.js';

/** Without an MSS option, RFC 9293 §3.7.1. */
export const DEFAULT_MSS_V4 = 536;
export const DEFAULT_MSS_V6 = 1220;
/** A smaller offer is taken as this, so that headers do not dwarf the data. */
const LEAST_MSS = 64;

const chosen = new Int32Array(2);

/** Takes what the peer's SYN offers and this end allows. */
export function acceptOptions(c: TcpConnection, now: Instant, seg: Segment): void {
  const { options, mtu } = c.host;
  const offer = seg.options;
  c.timestamps = options.timestamps && offer.hasTimestamps;
  if (c.timestamps) {
    c.recent = seg.timestamp;
    c.recentAt = now;
  }
  c.sender.sack = options.sack && offer.sackPermitted;
  takeUserTimeout(c, seg);
  if ((seg.flags & ACK) !== 0) c.ecn.answered(seg);
  else c.ecn.asked(options.ecn, seg);
  c.scaling = options.windowScaling && offer.windowScale >= 0;
  c.sender.shift = c.scaling ? offer.windowScale : 0;
  c.receiver.start(seg.seq, c.scaling ? scaleFor(c.receiver.max) : 0);
  c.lastAck = c.receiver.nxt;
  c.peerMss = Math.max(offer.mss > 0 ? offer.mss : c.isV4 ? DEFAULT_MSS_V4 : DEFAULT_MSS_V6, LEAST_MSS);
  const ours = mtu - (c.isV4 ? 40 : 60);
  c.sender.setMss(Math.max(Math.min(c.peerMss, ours) - dataOptionSpace(c.timestamps), 1));
  c.sender.recovery.pathMtu.start(c.sender.mss);
}

/** How long the peer will wait (RFC 5482 §3.1), where this end takes part. */
export function takeUserTimeout(c: TcpConnection, seg: Segment): void {
  const { userTimeout, userTimeoutOption } = c.host.options;
  if (userTimeoutOption && seg.options.userTimeout >= 0) {
    c.userTimeout = agreedUserTimeout(userTimeout, seg.options.userTimeout);
  }
}

function begin(c: TcpConnection, now: Instant, isn: InitialSequence): void {
  isn.choose(now, c.words, chosen);
  c.sender.start(chosen[0]);
  c.timestampOffset = chosen[1];
  c.heardAt = now;
  c.progressAt = now;
  c.synPending = true;
}

/** CLOSED → SYN-SENT. */
export function openActive(c: TcpConnection, now: Instant, isn: InitialSequence): void {
  begin(c, now, isn);
  c.enter(State.synSent);
  c.host.counts[Count.tcp_active_opens]++;
  c.host.schedule(c);
}

/** LISTEN → SYN-RECEIVED with the SYN as it was kept. */
export function openPassive(c: TcpConnection, now: Instant, isn: InitialSequence, syn: Segment): void {
  begin(c, now, isn);
  c.passive = true;
  acceptOptions(c, now, syn);
  c.enter(State.synReceived);
  c.host.counts[Count.tcp_passive_opens]++;
  c.host.schedule(c);
}
