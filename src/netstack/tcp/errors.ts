/**
 * ICMP errors about a connection: believed only when the quoted sequence number is one in flight, and never enough to
 * end an established connection.
 *
 * RFC 5927 §4–7, RFC 1191 §6.4 and RFC 8201 §5.4 (packet too big).
 */
import type { Instant } from '../../base/time.js';
import type { TcpConnection } from './connection.js';
import { dataOptionSpace } from './emit.js';
import { seqAtOrAfter, seqBefore } from './sequence.js';
import { isIn, SYNCHRONIZED } from './state.js';

const TCP_HEADER = 20;
/** Smallest packet every link must carry: RFC 791 (68 is legal but only an attack uses it; 576 as RFC 1122 §3.3.3) and RFC 8200. */
const LEAST_MTU_V4 = 576;
const LEAST_MTU_V6 = 1280;

export function unreachable(c: TcpConnection, now: Instant, seq: number, hard: boolean, mtu: number): void {
  const s = c.sender;
  if (seqBefore(seq, s.una) || seqAtOrAfter(seq, s.maxSent)) return;
  if (mtu > 0) {
    const least = c.isV4 ? LEAST_MTU_V4 : LEAST_MTU_V6;
    const ip = c.isV4 ? 20 : 40;
    const mss = Math.max(mtu, least) - ip - TCP_HEADER - dataOptionSpace(c.timestamps);
    if (mss >= s.mss) return;
    s.setMss(mss);
    s.synAt = -1;
    s.recovery.resendAll();
    c.host.schedule(c);
    return;
  }
  if (!isIn(c.state, SYNCHRONIZED) && hard) c.close('unreachable');
  else c.softErrorAt = now;
}
