/**
 * Answers whose time is over, given once more because nobody can be asked (RFC 8767):
 *
 *   fresh ─ TTL ─► stale ─┬─ servers fail, or take longer than 1.8 s ─► given with a TTL of 30 s, and for 30 s without asking again
 *                         ├─ an answer comes ─► fresh
 *                         └─ `staleTime` over, or another network ─► forgotten
 *
 * Addresses and other data only: that something did not exist is not said again.
 */
import { Days, elapsed, type Instant, Millis, Seconds, toSeconds } from '../../base/time.js';
import { writeU32 } from '../../wire/bytes.js';
import type { DnsAnswer } from './answer.js';
import { RCODE } from './message.js';

/** RFC 8767 §5: the client response timer. */
export const STALE_AFTER = Millis(1_800);
/** RFC 8767 §5: the TTL of stale data, and the failure recheck timer. */
const STALE_TTL = Seconds(30);
export const RECHECK_TIME = Seconds(30);
/** RFC 8767 §5 suggests one to three days; a week is the most that makes sense. */
export const STALE_TIME_MAX = Days(7);

/** Whether it is more than "no such name", "no such record" or a failure. */
export function isData(answer: DnsAnswer): boolean {
  return answer.rcode === RCODE.NOERROR && !answer.negative && answer.from === 'server';
}

/** The answer as it is given now. */
export function staleCopy(now: Instant, answer: DnsAnswer): DnsAnswer {
  const bytes = answer.bytes?.slice();
  if (bytes !== undefined) for (const at of answer.ttlsAt) writeU32(bytes, at, toSeconds(STALE_TTL));
  return { ...answer, bytes, receivedAt: now, ttl: STALE_TTL, from: 'stale' };
}

/** How long its time is over; negative: it is not. */
export const overdue = (now: Instant, answer: DnsAnswer): number => elapsed(answer.receivedAt, now) - answer.ttl;
