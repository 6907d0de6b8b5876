/**
 * What a connection sends at a flush: SYN, lost data, new data, FIN, probes, and at most one bare acknowledgement.
 *
 *   order: acknowledgement with SACK (only while something is missing) · lost holes · new data + FIN · probe · bare ACK
 *
 * Data leaves as super-segments, so that the work is per flush and not per packet. RFC 9293 §3.8, RFC 6675 §5, RFC 5681 §4.2.
 */
import type { Instant } from '../../base/time.js';
import { ECN_ECT0, ECN_NOT_ECT } from '../../wire/ecn.js';
import { TCP_CWR } from '../../wire/tcp.js';
import { Count } from '../counters.js';
import type { TcpConnection } from './connection.js';
import { Phase } from './recovery.js';
import { MAX_DUPLICATES, SACK_BLOCKS } from './sack-blocks.js';
import { ACK, FIN, PSH, SYN } from './segment.js';
import { seqAfter, seqBefore } from './sequence.js';
import { isIn, NEVER, SENDING, State, SYNCHRONIZED } from './state.js';
import { probeTimeout } from './tail-probe.js';
import { userTimeoutField } from './user-timeout.js';

/** A super-segment with its headers fits the 16-bit length fields; 120 bytes is the longest header. */
const MAX_PAYLOAD = 65_535 - 120;
/** Segments that have to be able to follow a probe of the path MTU. */
const PROBE_FOLLOWERS = 4;

/** Full segments received that may wait for one acknowledgement (RFC 9293 §3.8.6.3). */
const ACK_EVERY = 2;
/** A receive buffer of no more bytes is what limits its sender, and each acknowledgement held back would make it smaller still. */
const SMALL_BUFFER = 48 * 1024;

export function transmit(c: TcpConnection, now: Instant): void {
  if (c.state === State.closed) return;
  if (c.synPending) {
    sendSyn(c, now);
    c.arm();
    return;
  }
  if (!isIn(c.state, SYNCHRONIZED)) {
    // What is not acceptable is answered before the handshake is complete too (RFC 9293 §3.10.7.4).
    if (c.state === State.synReceived && c.ackNow) sendAck(c, now);
    return;
  }
  if (c.receiver.ranges.count > 0 && (c.ackNow || c.unacked > 0)) sendDuplicates(c, now);
  if (isIn(c.state, SENDING)) {
    sendLost(c, now);
    sendNew(c, now);
    if (c.probePending) sendProbe(c, now);
    if (c.tailPending) sendTail(c, now);
    armRetransmission(c, now);
    armTailProbe(c, now);
  }
  if (c.keepalivePending) {
    c.keepalivePending = false;
    c.host.counts[Count.tcp_keepalives]++;
    prepare(c, now);
    c.host.emitter.control(c.words, ACK, (c.sender.una - 1) | 0, c.receiver.nxt, windowField(c));
    acknowledged(c);
  }
  const isQuick = c.quickAcks > 0 || c.receiver.limit <= SMALL_BUFFER;
  if (c.ackNow || c.unacked >= ACK_EVERY || (c.unacked > 0 && isQuick)) sendAck(c, now);
  else if (c.unacked > 0 && c.delayedAckAt === NEVER) c.delayedAckAt = now + c.host.options.delayedAck;
  c.arm();
  c.restIfDone();
}

function sendSyn(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const { options, emitter, mtu } = c.host;
  c.synPending = false;
  c.synTries++;
  const first = s.nxt === s.iss;
  s.nxt = (s.iss + 1) | 0;
  s.maxSent = s.nxt;
  if (first) {
    s.synAt = now;
    c.progressAt = now;
  } else {
    s.synAt = -1;
    c.host.counts[Count.tcp_retransmits]++;
  }
  const answer = c.state === State.synReceived;
  prepare(c, now);
  const offer = emitter.options;
  offer.mss = mtu - (c.isV4 ? 40 : 60);
  offer.sackPermitted = answer ? s.sack : options.sack;
  const scaling = answer ? c.scaling : options.windowScaling;
  offer.windowScale = !scaling ? -1 : answer ? c.receiver.shift : scaleFor(c.receiver.max);
  if (!answer) offer.hasTimestamps = options.timestamps;
  if (options.userTimeoutOption) offer.userTimeout = userTimeoutField(options.userTimeout);
  if (answer && c.synTries === 1) c.ecn.writeOption(offer);
  const flags = answer ? SYN | ACK | c.ecn.answer(c.synTries) : SYN | c.ecn.ask(options.ecn, c.synTries);
  emitter.syn(c.words, flags, s.iss, answer ? c.receiver.nxt : 0, c.receiver.synWindow);
  if (answer) acknowledged(c);
  c.retransmitAt = now + s.rtt.timeout;
}

/** Payload bytes of the longest super-segment: a multiple of what segments are cut into. */
export function superSegmentOf(c: TcpConnection): number {
  const { cut } = c.sender;
  const most = Math.min(c.host.options.superSegment, MAX_PAYLOAD);
  return Math.max(most - (most % cut), cut);
}

/** The smallest shift that lets 16 bits express `window` (RFC 7323 §2.3: at most 14). */
export function scaleFor(window: number): number {
  let shift = 0;
  while (shift < 14 && 65_535 * 2 ** shift < window) shift++;
  return shift;
}

function sendLost(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const r = s.recovery;
  const { log } = r;
  const rate = s.congestion.pacing ?? 0;
  while (log.lost > 0) {
    const i = log.firstLost();
    const seq = log.starts[i];
    const hole = log.lengthOf(i);
    const budget = s.congestion.window - r.pipe;
    if (budget < Math.min(hole, s.mss) && r.pipe > 0 && !r.headDue) {
      s.windowLimited = true;
      return;
    }
    let allowed = budget;
    if (rate > 0) {
      allowed = Math.min(budget, s.pacer.available(now, rate, s.mss));
      if (allowed < Math.min(hole, s.mss) && !r.headDue) {
        c.paceAt = now + s.pacer.wait(rate, log.lost);
        return;
      }
    }
    r.headDue = false;
    const sent = sendRange(c, now, seq, Math.min(hole, Math.max(Math.floor(allowed / s.mss), 1) * s.mss), false);
    if (rate > 0) s.pacer.spend(sent);
    c.host.counts[Count.tcp_retransmits] += Math.ceil(sent / s.mss);
    if (r.phase === Phase.fast && seq === s.una) c.host.counts[Count.tcp_fast_retransmits]++;
    if (r.firstCopyDue) {
      r.firstCopyDue = false;
      c.eifelArmed = c.timestamps;
      c.eifelTimestamp = c.timestampAt(now);
    }
    r.resent(now, i, sent);
    c.tailAt = NEVER;
  }
}

function sendNew(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const mss = s.cut;
  const rate = s.congestion.pacing ?? 0;
  let credit = rate > 0 ? s.pacer.available(now, rate, mss) : Number.POSITIVE_INFINITY;
  if (s.answered) {
    s.answered = false;
    s.windowLimited = false;
  }
  let spent = 0;
  let part = 0;
  let { pipe } = s.recovery;
  if (s.una === s.nxt && s.unsent > 0) {
    if (s.lastSentAt > 0 && now - s.lastSentAt > s.rtt.timeout) s.congestion.restart();
    c.progressAt = now;
  }
  const probe = c.host.options.pathMtuProbing ? s.recovery.pathMtu.due(now) : 0;
  if (probe > 0) {
    const sent = sendSize(c, now, probe, pipe);
    if (sent < 0) return;
    pipe += sent;
    credit -= sent;
  }
  for (;;) {
    const unsent = s.unsent;
    const bare = unsent === 0;
    if (bare && (!s.finQueued || s.finSent)) {
      if (rate > 0 && pipe < s.congestion.window && !s.isFull) s.recovery.rate.limitedByOthers(pipe);
      return;
    }
    const usable = (s.una + s.window - s.nxt) | 0;
    const room = s.congestion.window - pipe;
    const budget = Math.min(room, credit - spent);
    let n = Math.min(unsent, usable);
    if (n > budget || (bare && budget <= 0)) {
      s.windowLimited = true;
      n = Math.floor(budget / mss) * mss;
      if (n <= 0) {
        if (budget < room) {
          c.paceAt = now + s.pacer.wait(rate, Math.min(unsent, usable, room));
          return;
        }
        if (pipe > 0) return;
        n = Math.min(unsent, usable, mss);
      }
    } else if (!bare && n < unsent) {
      // Held back by the peer's window: whole segments, or at least half of the largest window it ever offered. What the buffer's
      // wrap has cut in two counts as one: its second part may go too.
      if (n + part >= mss) n -= (n + part) % mss;
      else if (n < s.maxWindow / 2) {
        // A rate measured now is the peer's buffer per round trip, not the path's.
        if (rate > 0 && pipe < s.congestion.window) s.recovery.rate.limitedByOthers(pipe);
        return;
      }
    }
    if (n <= 0 && !bare) return;
    const first = s.nxt;
    const sent = sendRange(c, now, first, bare ? 1 : n, true);
    noteNew(c, now, sent);
    part = (part + sent) % mss;
    pipe += sent;
    if (rate > 0) {
      spent += sent;
      s.pacer.spend(sent);
    }
  }
}

/** `sent` numbers from `nxt` on have left for the first time. */
function noteNew(c: TcpConnection, now: Instant, sent: number): void {
  const s = c.sender;
  s.nxt = (s.nxt + sent) | 0;
  if (seqAfter(s.nxt, s.maxSent)) s.maxSent = s.nxt;
  s.recovery.sentNew(now, sent);
  c.probePending = false;
  c.tailPending = false;
  c.tailAt = NEVER;
}

/**
 * The next `size` bytes as one segment, larger than others, if enough follows for its loss to show (RFC 4821 §7.4). Returns the
 * bytes sent; −1: room for it is being saved, nothing else is to be sent.
 */
function sendSize(c: TcpConnection, now: Instant, size: number, pipe: number): number {
  const s = c.sender;
  const { phase, log, pathMtu } = s.recovery;
  if (s.unsent < size + PROBE_FOLLOWERS * s.mss || Math.min(s.window, s.congestion.window) < 2 * size) return 0;
  if (phase !== Phase.open || !s.sack || log.lost > 0 || log.sacked > 0) return 0;
  // Acknowledgements free room segment by segment: it is saved until it is enough.
  if (Math.min((s.una + s.window - s.nxt) | 0, s.congestion.window - pipe) < size) return s.una === s.nxt ? 0 : -1;
  // The buffer's wrap would cut it.
  if (s.ring.contiguous((s.nxt - s.ringSeq) | 0, size) < size) return 0;
  c.host.counts[Count.tcp_pmtu_probes]++;
  const { cut, nxt } = s;
  s.cut = size;
  const sent = sendRange(c, now, nxt, size, true);
  s.cut = cut;
  pathMtu.sent(nxt, (nxt + sent) | 0);
  noteNew(c, now, sent);
  if ((s.congestion.pacing ?? 0) > 0) s.pacer.spend(sent);
  return sent;
}

/**
 * Sends from `seq` on, at most `length` numbers (FIN counts one) and at most one super-segment or up to the ring's wrap.
 * `fresh`: for the first time, so that the network may mark it (RFC 3168 §6.1.5). Returns the numbers sent.
 */
function sendRange(c: TcpConnection, now: Instant, seq: number, length: number, fresh: boolean): number {
  const s = c.sender;
  const { emitter } = c.host;
  const at = (seq - s.ringSeq) | 0;
  const left = s.ring.length - at;
  prepare(c, now);
  s.lastSentAt = now;
  const window = windowField(c);
  if (left <= 0) {
    s.finSent = true;
    emitter.control(c.words, FIN | ACK, seq, c.receiver.nxt, window);
    acknowledged(c);
    return 1;
  }
  let n = Math.min(length, left, superSegmentOf(c));
  if (c.ecn.isIndivisible) n = Math.min(n, s.cut);
  n = s.ring.contiguous(at, n);
  let flags = ACK;
  let numbers = n;
  const ecn = fresh && c.ecn.marks ? ECN_ECT0 : ECN_NOT_ECT;
  if (c.ecn.reductionDue && fresh) {
    c.ecn.reductionDue = false;
    flags |= TCP_CWR;
  }
  if (n === left) {
    flags |= PSH;
    // A FIN not sent yet may only follow new data: `nxt` counts it.
    if (s.finQueued && (s.finSent || seq === s.nxt)) {
      flags |= FIN;
      s.finSent = true;
      numbers++;
    }
  }
  emitter.data(c.words, flags, seq, c.receiver.nxt, window, s.ring.arena, s.ring.index(at), n, s.cut, ecn);
  acknowledged(c);
  return numbers;
}

/** What the window holds, if for so long it was too little to be worth a segment; one byte beyond a shut one, to learn when it opens. */
function sendProbe(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  c.probePending = false;
  if (s.unsent === 0 || s.una !== s.nxt) return;
  if (s.window > 0) {
    noteNew(c, now, sendRange(c, now, s.nxt, Math.min(s.window, s.unsent, s.mss), true));
    return;
  }
  c.host.counts[Count.tcp_window_probes]++;
  prepare(c, now);
  const at = s.ring.index((s.nxt - s.ringSeq) | 0);
  c.host.emitter.data(c.words, ACK, s.nxt, c.receiver.nxt, windowField(c), s.ring.arena, at, 1, s.mss, ECN_NOT_ECT);
  const end = (s.nxt + 1) | 0;
  if (seqAfter(end, s.maxSent)) s.maxSent = end;
  acknowledged(c);
}

/** One segment more than the window allows, or the last one again (RFC 8985 §7.3). */
function sendTail(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const r = s.recovery;
  c.tailPending = false;
  if (r.phase !== Phase.open || s.una === s.nxt) return;
  c.host.counts[Count.tcp_tail_probes]++;
  const fresh = Math.min(s.unsent, s.mss, (s.una + s.window - s.nxt) | 0);
  if (fresh > 0) {
    const sent = sendRange(c, now, s.nxt, fresh, true);
    s.nxt = (s.nxt + sent) | 0;
    if (seqAfter(s.nxt, s.maxSent)) s.maxSent = s.nxt;
    r.sentNew(now, sent);
    s.tail.sent(s.nxt, false);
  } else {
    const { log } = r;
    let seq = r.tailOf(s.mss + (s.finSent ? 1 : 0));
    // The ring's wrap may cut it in two.
    while (seqBefore(seq, s.nxt)) {
      const at = log.split(seq);
      const sent = sendRange(c, now, seq, (s.nxt - seq) | 0, false);
      if (at >= 0) r.resent(now, at, sent);
      seq = (seq + sent) | 0;
    }
    c.host.counts[Count.tcp_retransmits]++;
    s.tail.sent(s.nxt, true);
  }
  c.retransmitAt = now + s.rtt.timeout;
}

function armTailProbe(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const { log, phase } = s.recovery;
  if (c.tailAt !== NEVER || !s.sack || s.una === s.nxt || phase !== Phase.open || log.sacked > 0 || s.tail.isOut)
    return;
  // Sooner than the timer only where the round trip is known: a copy of what is still under way would keep it from being measured.
  if (s.rtt.smoothed === 0) return;
  const at = now + probeTimeout(s.rtt.smoothed, ((s.nxt - s.una) | 0) <= s.mss + (s.finSent ? 1 : 0));
  if (at < c.retransmitAt) c.tailAt = at;
}

/** Something is outstanding, or waits for the window: the timer runs (RFC 6298 §5.1). */
function armRetransmission(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  if (c.retransmitAt !== NEVER) return;
  if (s.una !== s.nxt || s.unsent > 0 || (s.finQueued && !s.finSent)) c.retransmitAt = now + s.rtt.timeout;
}

/** A bare acknowledgement, with a report of duplicate bytes in front of what else it names. */
function sendAck(c: TcpConnection, now: Instant): void {
  prepare(c, now);
  if (c.duplicateFrom !== c.duplicateTo) reportDuplicate(c);
  c.ecn.writeOption(c.host.emitter.options);
  c.host.emitter.control(c.words, ACK, c.sender.nxt, c.receiver.nxt, windowField(c));
  acknowledged(c);
}

/**
 * Acknowledgements while bytes are missing. A batch may have brought many segments beyond gaps and RFC 5681 §4.2 owes one
 * for each: without SACK the sender counts them; with SACK it needs one for each range that has come or grown.
 */
function sendDuplicates(c: TcpConnection, now: Instant): void {
  const { blocks, ranges } = c.receiver;
  const { sack } = c.sender;
  const { options } = c.host.emitter;
  const n = sack ? blocks.due : Math.max(Math.min(c.duplicatesOwed, MAX_DUPLICATES), 1);
  c.duplicatesOwed = 0;
  for (let i = 0; i < n; i++) {
    if (sack) options.sackCount = blocks.write(ranges, options.sackEdges, n - i);
    sendAck(c, now);
  }
}

function reportDuplicate(c: TcpConnection): void {
  const { options } = c.host.emitter;
  const edges = options.sackEdges;
  const others = Math.min(options.sackCount, SACK_BLOCKS - 1);
  edges.copyWithin(2, 0, 2 * others);
  edges[0] = c.duplicateFrom;
  edges[1] = c.duplicateTo;
  options.sackCount = others + 1;
  c.duplicateFrom = c.duplicateTo;
  c.host.counts[Count.tcp_dsack_out]++;
}

function prepare(c: TcpConnection, now: Instant): void {
  const { emitter } = c.host;
  const { options } = emitter;
  emitter.flags = c.ecn.flags;
  options.hasTimestamps = c.timestamps;
  options.timestampValue = c.timestampAt(now);
  options.timestampEcho = c.recent;
}

function windowField(c: TcpConnection): number {
  const field = c.receiver.advertise();
  if (field === 0) c.host.counts[Count.tcp_zero_window]++;
  return field;
}

/** What was just sent carried the current acknowledgement number. */
function acknowledged(c: TcpConnection): void {
  if (c.quickAcks > 0 && c.unacked > 0) c.quickAcks--;
  c.ackNow = false;
  c.unacked = 0;
  c.delayedAckAt = NEVER;
  c.lastAck = c.receiver.nxt;
  c.ecn.sent();
}
