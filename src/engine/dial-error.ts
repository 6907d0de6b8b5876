/**
 * Why a flow could not leave: what is counted of it, and what the client is told.
 *
 *   errno                       counted        TCP                UDP
 *   ECONNREFUSED, ECONNRESET    refused        RST                port unreachable
 *   ENETUNREACH                 unreachable    net unreachable    net unreachable
 *   EACCES                      blocked        admin-prohibited   admin-prohibited
 *   ETIMEDOUT                   timeout        silence            host unreachable
 *   every other                 unreachable    host unreachable   host unreachable
 */
import type { Rejection } from '../netstack/types.js';
import { EACCES, ECONNREFUSED, ECONNRESET, ENETUNREACH, ETIMEDOUT, type IoResult } from '../os/io.js';

export type DialErrorKind = 'refused' | 'timeout' | 'unreachable' | 'blocked';

/** @param result a negated errno. */
export function dialErrorKind(result: IoResult): DialErrorKind {
  if (result === -ECONNREFUSED || result === -ECONNRESET) return 'refused';
  if (result === -EACCES) return 'blocked';
  return result === -ETIMEDOUT ? 'timeout' : 'unreachable';
}

/** @param refused what the client is told of a refusal. */
export function dialRejection(result: IoResult, refused: 'reset' | 'port-unreachable'): Rejection {
  switch (dialErrorKind(result)) {
    case 'refused':
      return refused;
    case 'blocked':
      return 'admin-prohibited';
    case 'timeout':
      // A SYN is sent again and dialled again; a datagram's sender may have another way.
      return refused === 'reset' ? 'ignore' : 'host-unreachable';
    case 'unreachable':
      return result === -ENETUNREACH ? 'net-unreachable' : 'host-unreachable';
  }
}
