/**
 * Errors of Darwin in the words and numbers of the rest of the program: error numbers of packets become those of os/io.ts, errors of
 * opening become SallyportErrors.
 */
import { SallyportError } from '../../base/error.js';
import { EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS, ETIMEDOUT } from '../io.js';
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EPERM } from './constants.js';

/** Darwin's number → ours; what is not here is the same or of no concern. */
const NUMBERS: ReadonlyMap<number, number> = new Map([
  [35, EAGAIN],
  [40, EMSGSIZE],
  [51, ENETUNREACH],
  [54, ECONNRESET],
  [55, ENOBUFS],
  [60, ETIMEDOUT],
  [61, ECONNREFUSED],
  [65, EHOSTUNREACH],
]);

const NAMES: ReadonlyMap<number, string> = new Map([
  [51, 'ENETUNREACH'],
  [60, 'ETIMEDOUT'],
  [61, 'ECONNREFUSED'],
  [65, 'EHOSTUNREACH'],
]);

/** A call's result with an error number of os/io.ts. */
export function portable(result: number): number {
  return result >= 0 ? result : -(NUMBERS.get(-result) ?? -result);
}

/** @param result a negated errno */
export function systemError(result: number, what: string): SallyportError {
  const errno = -result;
  switch (errno) {
    case EPERM:
    case EACCES:
      return new SallyportError('environment', 'RAW_NOT_PERMITTED', `${what}: not permitted`, {
        hint: 'run as root, or let your user read and write /dev/bpf*',
      });
    case EADDRINUSE:
      return new SallyportError('environment', 'ADDRESS_IN_USE', `${what}: the address is in use`);
    case EADDRNOTAVAIL:
      return new SallyportError(
        'environment',
        'ADDRESS_NOT_AVAILABLE',
        `${what}: this host does not have that address`,
      );
    default: {
      const name = NAMES.get(errno);
      return new SallyportError('environment', name ?? 'SOCKET_FAILED', `${what}: ${name ?? `errno ${errno}`}`);
    }
  }
}

/** The result of a call that must not fail. @throws as `systemError` */
export function must(result: number, what: string): number {
  if (result < 0) throw systemError(result, what);
  return result;
}
