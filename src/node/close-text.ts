/**
 * Why a connection ended, for people. TLS says "certificate expired" for one that is not valid yet as well (RFC 8446 §6.2), and
 * the reason is mostly a clock.
 */
import { CloseCode } from '../quic/close.js';
import type { CloseReason } from '../quic/connection.js';

/** CRYPTO_ERROR 0x100 (RFC 9001 §4.8) + alert certificate_expired (45). */
const CERTIFICATE_TIME = 0x100 + 45;
const CLOCKS = 'are the clocks of this machine and of the other right?';

/** @param wall this machine's clock. */
export function closeText(reason: CloseReason, wall: number): string {
  const isOver = reason.code === CloseCode.certificateExpired && reason.kind !== 'transport';
  if (reason.code !== CERTIFICATE_TIME && !isOver) return reason.text;
  const now = `${new Date(wall).toISOString().slice(0, 16)}Z`;
  if (reason.kind === 'peer-transport')
    return `the other end does not take our certificate for valid now (here it is ${now}): ${CLOCKS}`;
  if (reason.kind === 'transport')
    return `by this machine’s clock (${now}) the other end’s certificate is not valid: ${CLOCKS}`;
  return `${reason.text} (here it is ${now}): ${CLOCKS}`;
}
