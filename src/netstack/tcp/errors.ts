/**
 * ICMP errors about a connection: believed only when the quoted sequence number is one in flight, and never enough to
 * end an established connection.
 *
 * RFC 5927 §4–7, RFC 1191 §6.4 and RFC 8201 §5.4 (packet too big), RFC 4821 §7.7 (the same without a word).
 */
import type { Instant } from '../../base/time.js';
import { Count } from '../counters.js';
import type { TcpConnection } from './connection.js';
import { dataOptionSpace } from './emit.js';
import { seqAtOrAfter, seqBefore } from './sequence.js';
import { isIn, SYNCHRONIZED } from './state.js';

const TCP_HEADER = 20;
/** Smallest packet every link must carry: RFC 791 (68 is legal but only an attack uses it; 576 as RFC 1122 §3.3.3) and RFC 8200. */
const LEAST_MTU_V4 = 576;
const LEAST_MTU_V6 = 1280;

/** Packets that nearly every path carries (RFC 4821 §7.2 begins a search there). */
const BASE_MTU_V4 = 1024;

const leastMtu = (c: TcpConnection): number => (c.isV4 ? LEAST_MTU_V4 : LEAST_MTU_V6);

/** Payload of a segment in a packet of `mtu` bytes. */
const payloadOf = (c: TcpConnection, mtu: number): number =>
  mtu - (c.isV4 ? 20 : 40) - TCP_HEADER - dataOptionSpace(c.timestamps);

/** Timeout after timeout, and nothing was said: the path may swallow what is large. Smaller segments from now on, if there are any. */
export function blackHole(c: TcpConnection, now: Instant): void {
  const s = c.sender;
  const base = payloadOf(c, c.isV4 ? BASE_MTU_V4 : LEAST_MTU_V6);
  const size = s.mss > base ? base : payloadOf(c, leastMtu(c));
  // Only SACK shows that a probe alone was lost: without it there would be no way back. And a run of that size that it reports has passed.
  if (!s.sack || s.recovery.log.hasSacked(s.mss) || size >= s.mss || ((s.nxt - s.una) | 0) <= size) return;
  c.host.counts[Count.tcp_pmtu_black_holes]++;
  s.setMss(size);
  s.recovery.pathMtu.suspect(now, size);
}

export function unreachable(c: TcpConnection, now: Instant, seq: number, hard: boolean, mtu: number): void {
  const s = c.sender;
  if (seqBefore(seq, s.una) || seqAtOrAfter(seq, s.maxSent)) return;
  if (mtu > 0) {
    const mss = payloadOf(c, Math.max(mtu, leastMtu(c)));
    if (mss >= s.mss) return;
    s.setMss(mss);
    s.recovery.pathMtu.told(now, mss);
    s.synAt = -1;
    s.recovery.resendAll();
    c.host.schedule(c);
    return;
  }
  if (!isIn(c.state, SYNCHRONIZED) && hard) c.close('unreachable');
  else c.softErrorAt = now;
}
