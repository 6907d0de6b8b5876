/**
 * What happens when a connection's time has come.
 *
 *   reorderAt      a segment is late by more than the reordering window: lost      tailAt   probe (RFC 8985 §6.3, §7)
 *   retransmitAt   SYN states: the SYN again · data outstanding: RTO (RFC 6298 §5.4–5.7) · window shut: probe (RFC 9293 §3.8.6.1)
 *   delayedAckAt   the acknowledgement goes out            keepaliveAt   a probe, or the end after too many (RFC 1122 §4.2.3.6)
 *   idleAt         no payload for too long: reset           timeWaitAt    the 4-tuple is free again
 */
import type { Instant } from '../../base/time.js';
import { Count } from '../counters.js';
import type { TcpConnection } from './connection.js';
import { blackHole } from './errors.js';
import { Phase } from './recovery.js';
import { NEVER, State } from './state.js';

export function expireTimers(c: TcpConnection, now: Instant): void {
  if (c.delayedAckAt <= now) {
    c.delayedAckAt = NEVER;
    c.ackNow = true;
    c.host.schedule(c);
  }
  if (c.retransmitAt <= now) {
    c.retransmitAt = NEVER;
    retransmissionTimeout(c, now);
  }
  if (c.reorderAt <= now) {
    c.reorderAt = NEVER;
    if (c.sender.recovery.reorderingTimeout(now, c.sender.mss)) c.sender.tail.cancel();
    c.reorderAt = c.sender.recovery.rack.deadline;
    c.host.schedule(c);
  }
  if (c.paceAt <= now) {
    c.paceAt = NEVER;
    c.host.schedule(c);
  }
  if (c.tailAt <= now) {
    c.tailAt = NEVER;
    c.tailPending = true;
    c.host.schedule(c);
  }
  if (c.keepaliveAt <= now && c.state !== State.closed) {
    c.keepaliveAt = NEVER;
    keepalive(c, now);
  }
  if (c.idleAt <= now && c.state !== State.closed) {
    // Data on its way is not idleness: the user timeout judges that.
    if (c.sender.ring.length > 0) c.touch(now);
    else {
      c.host.counts[Count.tcp_idle_timeouts]++;
      c.reset('idle');
    }
  }
  if (c.timeWaitAt <= now && c.state === State.timeWait) {
    // Bytes not yet taken keep the connection; the idle timer bounds that.
    if (c.told) c.close('finished');
    else c.timeWaitAt = now + c.host.options.timeWait;
  }
  if (c.state !== State.closed) c.arm();
}

function retransmissionTimeout(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const { options, counts } = c.host;
  if (c.state === State.synSent || c.state === State.synReceived) {
    if (c.synTries >= options.synRetries) {
      giveUp(c);
      return;
    }
    s.rtt.backOff();
    c.synPending = true;
    c.host.schedule(c);
    return;
  }
  const outstanding = s.una !== s.nxt;
  // A peer that answers probes with a shut window is alive: then only silence counts (RFC 1122 §4.2.2.17).
  const since = s.window === 0 ? c.unansweredAt : c.progressAt;
  if (now - since >= c.userTimeout) {
    giveUp(c);
    return;
  }
  if (c.unansweredAt === NEVER) c.unansweredAt = now;
  s.rtt.backOff();
  c.host.schedule(c);
  if (!outstanding) {
    c.probePending = true;
    return;
  }
  counts[Count.tcp_rto]++;
  const again = s.recovery.phase === Phase.timeout && c.retries > 0;
  c.retries++;
  // A shut window takes nothing of any size.
  if (options.pathMtuProbing && s.window > 0 && c.retries >= s.recovery.pathMtu.patience) blackHole(c, now);
  s.tail.cancel();
  s.recovery.timedOut(now, s.sack, again);
  c.tailAt = NEVER;
  c.reorderAt = NEVER;
}

function giveUp(c: TcpConnection): void {
  c.host.counts[Count.tcp_timeouts]++;
  c.reset('timeout');
}

/** Arms the keepalive clock; called when the connection opens. */
export function startKeepalive(c: TcpConnection, now: Instant): void {
  const { keepaliveIdle } = c.host.options;
  c.probes = 0;
  c.keepaliveAt = keepaliveIdle > 0 ? now + keepaliveIdle : NEVER;
}

function keepalive(c: TcpConnection, now: Instant): void {
  const { keepaliveIdle, keepaliveInterval, keepaliveProbes } = c.host.options;
  if (c.state === State.timeWait) return;
  const due = c.heardAt + keepaliveIdle;
  if (due > now) {
    c.probes = 0;
    c.keepaliveAt = due;
    return;
  }
  if (c.probes >= keepaliveProbes) {
    giveUp(c);
    return;
  }
  // Data outstanding is its own probe.
  if (c.sender.una === c.sender.nxt) {
    c.probes++;
    c.keepalivePending = true;
    c.host.schedule(c);
  }
  c.keepaliveAt = now + keepaliveInterval;
}
