/**
 * What a received segment does to a connection: the steps of RFC 9293 §3.10.7 in their order.
 *
 *   SYN-SENT: ACK → RST → SYN          otherwise: timestamps → sequence → RST → SYN → ACK → text → FIN
 *
 * RFC 5961 (challenge ACKs), RFC 7323 §5 (PAWS), RFC 6675 (via Sender), RFC 1122 §4.2.
 */
import { type Instant, Micros } from '../../base/time.js';
import { ECN_CE } from '../../wire/ecn.js';
import { Count } from '../counters.js';
import type { TcpConnection } from './connection.js';
import { EcnMode } from './ecn.js';
import { acceptOptions, takeUserTimeout } from './handshake.js';
import { Probe } from './path-mtu.js';
import { Phase } from './recovery.js';
import { ACK, FIN, RST, type Segment, SYN } from './segment.js';
import type { SenderEvents } from './sender.js';
import { seqAfter, seqAtOrAfter, seqAtOrBefore, seqBefore, seqMin } from './sequence.js';
import { isIn, NEVER, SENDING, State } from './state.js';
import { startKeepalive } from './timers.js';

/**
 * Acknowledgements that are not delayed after a segment came out of order. A sender that has just lost something has a small window;
 * one of an odd number of segments would wait for the delayed acknowledgement of the last in every round trip. As many as Linux gives.
 */
const QUICK_ACKS = 16;
/** A timestamp older than this says nothing (RFC 7323 §5.5): 24 days in µs. */
const PAWS_IDLE = 24 * 86_400 * 1e6;
const events: SenderEvents = { fastRetransmits: 0, duplicateReports: 0, undone: 0 };

export function processSegment(c: TcpConnection, now: Instant, seg: Segment): void {
  if (c.state === State.closed) return;
  if (c.state === State.synSent) {
    synSent(c, now, seg);
    return;
  }
  if (c.state === State.synReceived && repeatedSyn(c, now, seg)) return;
  if (pawsRejects(c, now, seg) || !acceptable(c, now, seg)) return;
  if ((seg.flags & RST) !== 0) {
    reset(c, now, seg);
    return;
  }
  if ((seg.flags & SYN) !== 0) {
    challenge(c, now);
    return;
  }
  if ((seg.flags & ACK) === 0) return;
  c.heard(now);
  if (c.ecn.mode !== EcnMode.off) noteMarks(c, seg);
  if (!acknowledge(c, now, seg)) return;
  if (seg.options.userTimeout >= 0) takeUserTimeout(c, seg);
  if (seg.options.hasTimestamps && c.timestamps) rememberTimestamp(c, now, seg);
  stream(c, now, seg);
  if (c.scheduled || c.ackNow || c.unacked > 0 || isIn(c.state, SENDING)) c.host.schedule(c);
}

function synSent(c: TcpConnection, now: Instant, seg: Segment): void {
  const s = c.sender;
  const acked = (seg.flags & ACK) !== 0;
  if (acked && (seqAtOrBefore(seg.ack, s.iss) || seqAfter(seg.ack, s.maxSent))) {
    if ((seg.flags & RST) === 0) c.host.emitter.reset(c.words, seg.ack, 0, false);
    return;
  }
  if ((seg.flags & RST) !== 0) {
    c.host.counts[Count.tcp_rst_in]++;
    if (acked) c.close('refused');
    return;
  }
  if ((seg.flags & SYN) === 0) return;
  c.heard(now);
  acceptOptions(c, now, seg);
  if (!acked) {
    // Both ends opened at once: the peer's SYN crossed ours.
    c.enter(State.synReceived);
    c.synPending = true;
    c.host.schedule(c);
    return;
  }
  s.acknowledge(now, seg, false, echoedRtt(c, now, seg), true, events);
  establish(c, now, seg, true);
  c.ackNow = true;
  c.host.schedule(c);
  // What rode on the SYN-ACK (RFC 9293 §3.10.7.3): the window test has not seen it.
  seg.seq = (seg.seq + 1) | 0;
  seg.flags &= ~SYN;
  if (seg.space > 0 && !c.isClosed && acceptable(c, now, seg)) stream(c, now, seg);
}

/** What the network has marked on the way here. */
function noteMarks(c: TcpConnection, seg: Segment): void {
  if (seg.ecn === ECN_CE) c.host.counts[Count.tcp_ce_in] += seg.parts;
  if (c.ecn.received(seg)) c.ackNow = true;
}

/** The handshake is complete. `unscaled`: the segment was a SYN, whose window is never scaled. */
function establish(c: TcpConnection, now: Instant, seg: Segment, unscaled: boolean): void {
  c.enter(State.established);
  if (c.ecn.mode !== EcnMode.off) c.host.counts[Count.tcp_ecn]++;
  if (c.sender.finQueued) c.enter(State.finWait1);
  c.sender.updateWindow(seg, true, unscaled);
  c.retransmitAt = NEVER;
  c.sender.rtt.established(c.synTries > 1);
  c.progressAt = now;
  startKeepalive(c, now);
  c.touch(now);
  c.handlers.onConnected?.();
}

/** In SYN-RECEIVED the peer's SYN again: ours was lost, or both ends opened at once. True when the segment is done with. */
function repeatedSyn(c: TcpConnection, now: Instant, seg: Segment): boolean {
  if ((seg.flags & (SYN | RST)) !== SYN || seg.seq !== c.receiver.irs) return false;
  if ((seg.flags & ACK) === 0 || seg.ack !== c.sender.nxt) {
    // An echo of the first one's would tell its sender the timeout as the round trip.
    if (seg.options.hasTimestamps && c.timestamps) rememberTimestamp(c, now, seg);
    if (c.sender.nxt !== c.sender.iss) c.synPending = true;
    c.host.schedule(c);
    return true;
  }
  // The SYN-ACK of a simultaneous open: what remains of it is an acknowledgement.
  seg.seq = (seg.seq + 1) | 0;
  seg.flags &= ~SYN;
  c.synAckSeen = true;
  return false;
}

function pawsRejects(c: TcpConnection, now: Instant, seg: Segment): boolean {
  if (!c.timestamps || (seg.flags & RST) !== 0) return false;
  if (!seg.options.hasTimestamps) {
    c.host.counts[Count.tcp_paws_drops]++;
    return true;
  }
  if (seqAtOrAfter(seg.timestamp, c.recent) || now - c.recentAt > PAWS_IDLE || isLateAck(c, seg)) return false;
  c.host.counts[Count.tcp_paws_drops]++;
  challenge(c, now);
  return true;
}

/**
 * A bare acknowledgement that was overtaken by a later segment: no data of an earlier incarnation can ride on it, and what it
 * selectively acknowledges may stand nowhere else. Older than a retransmission timeout it is what PAWS is against.
 */
function isLateAck(c: TcpConnection, seg: Segment): boolean {
  if (seg.length > 0 || (seg.flags & (SYN | FIN | ACK)) !== ACK || seg.seq !== c.receiver.nxt) return false;
  return ((c.recent - seg.timestamp) | 0) * 1000 <= c.sender.rtt.timeout;
}

/** The window test of RFC 9293 §3.10.7.4; trims the segment to what is new and allowed. */
function acceptable(c: TcpConnection, now: Instant, seg: Segment): boolean {
  const r = c.receiver;
  const space = seg.space;
  const end = (seg.seq + space) | 0;
  const window = r.window;
  const edge = (r.nxt + window) | 0;
  const inside =
    space === 0
      ? window === 0
        ? seg.seq === r.nxt
        : seqAtOrAfter(seg.seq, r.nxt) && seqBefore(seg.seq, edge)
      : window > 0 && seqBefore(seg.seq, edge) && seqAfter(end, r.nxt);
  if (!inside) {
    // A shut window still takes acknowledgements and resets that are exactly in order.
    if (space > 0 && window === 0 && seg.seq === r.nxt && (seg.flags & (SYN | FIN)) === 0) {
      seg.length = 0;
      c.ackNow = true;
      return true;
    }
    // A FIN alone needs no room, and not every sender waits with it.
    if (space === 1 && window === 0 && seg.seq === r.nxt && (seg.flags & (SYN | FIN)) === FIN) return true;
    if ((seg.flags & RST) !== 0) return false;
    if (space > 0 || seg.seq === ((r.nxt - 1) | 0)) {
      // Old or repeated data, or a keepalive: the peer is told where we are. In TIME-WAIT a repeated FIN starts the rest anew.
      if (c.state === State.timeWait && (seg.flags & FIN) !== 0) c.timeWaitAt = now + c.host.options.timeWait;
      c.heard(now);
      if (seg.length > 0) duplicate(c, seg.seq, seqMin((seg.seq + seg.length) | 0, r.nxt));
      if (seqAtOrBefore(end, r.nxt)) staleAcknowledgement(c, now, seg);
      c.ackNow = true;
      c.host.schedule(c);
    } else challenge(c, now);
    return false;
  }
  const old = (r.nxt - seg.seq) | 0;
  if (old > 0) {
    if ((seg.flags & SYN) === 0) {
      if (old > 1 || seg.length > 1) duplicate(c, seg.seq, r.nxt);
      seg.seq = r.nxt;
      seg.offset += old;
      seg.length -= old;
    }
  }
  const beyond = (((seg.seq + seg.space) | 0) - edge) | 0;
  if (beyond > 0 && (seg.flags & SYN) === 0) {
    // FIN lies past the window's end with the bytes before it.
    const finBeyond = (seg.flags & FIN) !== 0 ? 1 : 0;
    seg.flags &= ~FIN;
    seg.length -= Math.max(beyond - finBeyond, 0);
  }
  return true;
}

/** Notes bytes that were here already, for the next acknowledgement. */
function duplicate(c: TcpConnection, from: number, to: number): void {
  if (!c.sender.sack || !seqBefore(from, to)) return;
  c.duplicateFrom = from;
  c.duplicateTo = to;
  c.ackNow = true;
}

/** A repeated segment may still carry a newer acknowledgement (both ends resend when both directions lose). */
function staleAcknowledgement(c: TcpConnection, now: Instant, seg: Segment): void {
  if ((seg.flags & (ACK | SYN)) === ACK && c.isConnected && seqAfter(seg.ack, c.sender.una)) {
    if (seqAtOrBefore(seg.ack, c.sender.maxSent)) acknowledge(c, now, seg);
  }
}

/** RFC 5961 §3.2: only the exact number resets; anything else in the window is asked again. */
function reset(c: TcpConnection, now: Instant, seg: Segment): void {
  // Both streams are complete: a reset can only be late (RFC 1337) and must not cost bytes that wait to be taken.
  if (c.finished) return;
  if (seg.seq !== c.receiver.nxt) {
    challenge(c, now);
    return;
  }
  c.host.counts[Count.tcp_rst_in]++;
  c.close(c.state === State.synReceived && !c.passive ? 'refused' : 'reset');
}

/** True when processing goes on. */
function acknowledge(c: TcpConnection, now: Instant, seg: Segment): boolean {
  const s = c.sender;
  if (c.state === State.synReceived) {
    if (seqAtOrBefore(seg.ack, s.una) || seqAfter(seg.ack, s.nxt)) {
      c.host.emitter.reset(c.words, seg.ack, 0, false);
      return false;
    }
    s.acknowledge(now, seg, false, echoedRtt(c, now, seg), true, events);
    c.ecn.confirmed(seg);
    establish(c, now, seg, c.synAckSeen);
    return c.isConnected;
  }
  // RFC 5961 §5.2.
  if (seqAfter(seg.ack, s.maxSent) || seqBefore(seg.ack, (s.una - s.maxWindow) | 0)) {
    challenge(c, now);
    return false;
  }
  if (c.state === State.timeWait) return true;
  const acked = (seg.ack - s.una) | 0;
  const wasShut = s.window === 0;
  const bareDuplicate =
    acked === 0 &&
    seg.length === 0 &&
    (seg.flags & FIN) === 0 &&
    s.una !== s.nxt &&
    seg.window * 2 ** s.shift === s.window;
  if (bareDuplicate) c.host.counts[Count.tcp_dup_acks]++;
  if (acked > 0 || seg.options.sackCount > 0 || bareDuplicate) {
    // After a timeout the echo may date from before acknowledgements were lost: it would measure the outage.
    const timely = s.recovery.phase !== Phase.timeout;
    if (acked > 0 && c.eifelArmed) spuriousRecovery(c, now, seg);
    const { rate } = s.recovery;
    const before = rate.delivered;
    s.acknowledge(now, seg, bareDuplicate, acked > 0 ? echoedRtt(c, now, seg) : -1, timely, events);
    const late = s.recovery.originalCame;
    if (late > 0) takeBack(c, Phase.timeout, late);
    c.reorderAt = s.recovery.rack.deadline;
    const marked = c.ecn.reported(seg, rate.delivered - before, s.mss);
    if (marked > 0) congestionExperienced(c, now, marked, Math.max(acked, 0));
    countEvents(c);
  }
  if (acked >= 0) s.updateWindow(seg, false, false);
  if (acked > 0) {
    const { pathMtu } = s.recovery;
    if (pathMtu.state === Probe.out && seqAtOrAfter(s.una, pathMtu.to)) s.raiseMss(pathMtu.arrived(now));
    c.progressAt = now;
    if (c.retries > 0 && acked >= s.mss) pathMtu.survived();
    c.retries = 0;
    c.tailAt = NEVER;
    c.tailPending = false;
    c.retransmitAt = s.una === s.nxt ? NEVER : now + s.rtt.timeout;
    if (s.wanting && s.room >= s.ring.length) {
      s.wanting = false;
      c.handlers.onWritable?.();
    }
    c.touch(now);
    if (s.finAcknowledged) finAcknowledged(c, now);
  } else if (wasShut && s.window > 0 && (s.una === s.nxt || s.recovery.phase === Phase.timeout)) {
    s.rtt.resetBackoff();
    c.retransmitAt = NEVER;
    // What went again while it was shut was not taken, a FIN or what the peer has taken its promise back for; the next time would be late.
    if (s.una !== s.nxt) s.recovery.timedOut(now, s.sack, true);
  }
  return c.state !== State.closed;
}

/** The round trip that the echoed timestamp tells, µs; −1 = none. */
function echoedRtt(c: TcpConnection, now: Instant, seg: Segment): number {
  if (!c.timestamps || seg.echo === 0) return -1;
  const millis = (c.timestampAt(now) - seg.echo) | 0;
  return millis >= 0 ? Micros(millis * 1000) : -1;
}

/** The first new acknowledgement of a recovery echoes a timestamp from before it: the original had arrived (RFC 3522). */
function spuriousRecovery(c: TcpConnection, now: Instant, seg: Segment): void {
  c.eifelArmed = false;
  const { phase } = c.sender.recovery;
  if (phase === Phase.open || seg.echo === 0 || !seqBefore(seg.echo, c.eifelTimestamp)) return;
  // Later it may be the copy's answer after all, sent because the original's was lost: the time between says nothing of the path.
  const atOnce = (now - c.sender.lastSentAt) * 2 < c.sender.rtt.least;
  takeBack(c, phase, atOnce ? echoedRtt(c, now, seg) : -1);
}

/** Nothing was lost, the path only took `rtt` µs for once (−1 = not known): no reduction, and a timeout that allows for it. */
function takeBack(c: TcpConnection, phase: number, rtt: number): void {
  const { recovery, rtt: estimate } = c.sender;
  c.host.counts[phase === Phase.timeout ? Count.tcp_spurious_rto : Count.tcp_spurious_recoveries]++;
  recovery.undo();
  if (phase === Phase.timeout && rtt > 0) estimate.late(Micros(rtt));
}

/** The network has marked packets of ours: as good as lost for the controller, once per window (RFC 3168 §6.1.2). */
function congestionExperienced(c: TcpConnection, now: Instant, packets: number, acked: number): void {
  c.host.counts[Count.tcp_ce_reported] += packets;
  if (c.sender.marked(now, packets, acked) && c.ecn.mode === EcnMode.classic) c.ecn.reductionDue = true;
}

function countEvents(c: TcpConnection): void {
  const { counts } = c.host;
  counts[Count.tcp_recoveries] += events.fastRetransmits;
  counts[Count.tcp_dsack_in] += events.duplicateReports;
  counts[Count.tcp_spurious_recoveries] += events.undone;
  events.fastRetransmits = 0;
  events.duplicateReports = 0;
  events.undone = 0;
}

function finAcknowledged(c: TcpConnection, now: Instant): void {
  if (c.state === State.finWait1) c.enter(State.finWait2);
  else if (c.state === State.closing || c.state === State.lastAck) c.finish(now);
}

/** RFC 7323 §4.3: only a segment at the left edge of what we last acknowledged renews TS.Recent. */
function rememberTimestamp(c: TcpConnection, now: Instant, seg: Segment): void {
  if (seqAtOrBefore(seg.seq, c.lastAck) && seqAtOrAfter(seg.timestamp, c.recent)) {
    c.recent = seg.timestamp;
    c.recentAt = now;
  }
}

/** Text and FIN of a segment trimmed to the window. */
function stream(c: TcpConnection, now: Instant, seg: Segment): void {
  if (c.receiving && seg.length > 0) text(c, now, seg);
  if ((seg.flags & FIN) !== 0) fin(c, now, (seg.seq + seg.length) | 0);
  else if (c.receiver.finWaits && c.receiver.finAt === c.receiver.nxt) fin(c, now, c.receiver.finAt);
}

function text(c: TcpConnection, now: Instant, seg: Segment): void {
  const r = c.receiver;
  const each = seg.parts === 1 ? seg.length : Math.ceil(seg.length / seg.parts);
  if (each > r.segment) r.segment = each;
  if (seg.seq === r.nxt) {
    const gap = r.ranges.count > 0;
    r.inOrder(seg.bytes, seg.offset, seg.length, c.handlers);
    if (c.state === State.closed) return;
    // What fills (part of) a gap is acknowledged at once (RFC 5681 §4.2).
    if (gap) c.ackNow = true;
    c.unacked += seg.parts;
    // The peer is, or with its next segment will be, held back by the window it knows.
    if (r.window < c.sender.mss && r.canOpen(c.sender.mss)) c.ackNow = true;
    r.tune(now, c.sender.rtt.smoothed > 0 ? c.sender.rtt.smoothed : 1e6);
  } else {
    c.host.counts[Count.tcp_ooo] += seg.parts;
    const held = r.outOfOrder(seg.seq, seg.bytes, seg.offset, seg.length);
    if (held === 0) duplicate(c, seg.seq, (seg.seq + seg.length) | 0);
    c.duplicatesOwed += seg.parts;
    c.quickAcks = QUICK_ACKS;
    c.ackNow = true;
  }
  c.touch(now);
}

function fin(c: TcpConnection, now: Instant, at: number): void {
  const r = c.receiver;
  if (!c.receiving) return;
  if (at !== r.nxt) {
    // It counts once everything ahead of it has come (and been kept).
    r.finWaits = true;
    r.finAt = at;
    c.ackNow = true;
    return;
  }
  r.finWaits = false;
  r.nxt = (r.nxt + 1) | 0;
  if (seqBefore(r.advertised, r.nxt)) r.advertised = r.nxt;
  r.finReceived = true;
  c.ackNow = true;
  c.touch(now);
  if (c.state === State.established) c.enter(State.closeWait);
  else if (c.state === State.finWait1) c.enter(State.closing);
  else if (c.state === State.finWait2) c.finish(now);
  c.tellPeerClosed();
  if (r.ring.length > 0) c.handlers.onMore?.();
}

/** An acknowledgement that asks the peer to prove it knows the connection; rate limited (RFC 5961 §7). */
export function challenge(c: TcpConnection, now: Instant): void {
  if (!c.host.mayChallenge(now)) return;
  c.host.counts[Count.tcp_challenge_acks]++;
  c.ackNow = true;
  c.host.schedule(c);
}
