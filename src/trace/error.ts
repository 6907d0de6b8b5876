/**
 * The error codes of a trace, as programs that use datadog-traceroute know them, and how the system's errors become them.
 *
 *   INVALID_REQUEST                                 the caller's: target, port, protocol
 *   DNS  TIMEOUT  CONNREFUSED  HOSTUNREACH          the network's
 *   NETUNREACH  DENIED  FAILED_ENCODING  UNKNOWN
 */
import { type ErrorKind, SallyportError } from '../base/error.js';

export type TraceErrorCode =
  | 'INVALID_REQUEST'
  | 'DNS'
  | 'TIMEOUT'
  | 'CONNREFUSED'
  | 'HOSTUNREACH'
  | 'NETUNREACH'
  | 'DENIED'
  | 'FAILED_ENCODING'
  | 'UNKNOWN';

const KINDS: Readonly<Record<TraceErrorCode, ErrorKind>> = {
  INVALID_REQUEST: 'caller',
  DNS: 'environment',
  TIMEOUT: 'environment',
  CONNREFUSED: 'peer',
  HOSTUNREACH: 'environment',
  NETUNREACH: 'environment',
  DENIED: 'environment',
  FAILED_ENCODING: 'bug',
  UNKNOWN: 'environment',
};

/** Names of Node's and libc's errors. */
const BY_ERRNO: Readonly<Record<string, TraceErrorCode>> = {
  ETIMEDOUT: 'TIMEOUT',
  ECONNREFUSED: 'CONNREFUSED',
  EHOSTUNREACH: 'HOSTUNREACH',
  ENETUNREACH: 'NETUNREACH',
  EACCES: 'DENIED',
  EPERM: 'DENIED',
  ENOTFOUND: 'DNS',
  EAI_AGAIN: 'DNS',
  EAI_FAIL: 'DNS',
  ABORT_ERR: 'TIMEOUT',
};

/** Longest chain of causes looked through. */
const MAX_CAUSES = 16;

export function traceError(code: TraceErrorCode, message: string, cause?: unknown): SallyportError {
  return new SallyportError(KINDS[code], code, message, cause === undefined ? {} : { cause });
}

/** The code of the first error in the chain of causes that has one; UNKNOWN for anything else. */
export function traceErrorCode(error: unknown): TraceErrorCode {
  let one = error;
  for (let i = 0; i < MAX_CAUSES && one instanceof Error; i++) {
    const { code, name } = one as Error & { readonly code?: unknown };
    const known = typeof code === 'string' ? codeNamed(code) : undefined;
    if (known !== undefined) return known;
    if (name === 'AbortError' || name === 'TimeoutError') return 'TIMEOUT';
    one = one.cause;
  }
  return 'UNKNOWN';
}

/** UNKNOWN is not an answer as long as a cause may have a better one. */
function codeNamed(code: string): TraceErrorCode | undefined {
  if (Object.hasOwn(BY_ERRNO, code)) return BY_ERRNO[code];
  return Object.hasOwn(KINDS, code) && code !== 'UNKNOWN' ? (code as TraceErrorCode) : undefined;
}
