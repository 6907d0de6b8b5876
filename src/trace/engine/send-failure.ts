/**
 * A probe that the host refused to send, in the words and codes of a trace.
 */
import type { SallyportError } from '../../base/error.js';
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } from '../../os/io.js';
import { type TraceErrorCode, traceError } from '../error.js';
import type { TraceOptions } from '../types.js';

/** errno values that the trace has codes for; a firewall's refusal is EPERM (1), a blackhole route EINVAL or EACCES (13). */
const CODES: ReadonlyMap<number, TraceErrorCode> = new Map([
  [1, 'DENIED'],
  [13, 'DENIED'],
  [ECONNREFUSED, 'CONNREFUSED'],
  [EHOSTUNREACH, 'HOSTUNREACH'],
  [ENETUNREACH, 'NETUNREACH'],
]);

const TEXTS: Readonly<Record<string, string>> = {
  DENIED: 'operation not permitted',
  CONNREFUSED: 'connection refused',
  HOSTUNREACH: 'no route to host',
  NETUNREACH: 'network is unreachable',
};

/** @param errno as the kernel numbers it */
export function sendFailure(errno: number, options: TraceOptions, tooLarge: boolean): SallyportError {
  if (tooLarge) {
    const size = options.packetSize === undefined ? 'the probe' : `a probe of ${options.packetSize} bytes`;
    return traceError('INVALID_REQUEST', `SendProbe() failed: ${size} is larger than the device takes`);
  }
  const code = CODES.get(errno) ?? 'UNKNOWN';
  return traceError(code, `SendProbe() failed: ${TEXTS[code] ?? `errno ${errno}`}`);
}
