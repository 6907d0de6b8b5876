/** Errors of Winsock in the words and numbers of the rest of the program. */
import { SallyportError } from '../../base/error.js';
import { EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS, ETIMEDOUT } from '../io.js';
import {
  WSAEACCES,
  WSAEADDRINUSE,
  WSAEADDRNOTAVAIL,
  WSAECONNREFUSED,
  WSAEHOSTUNREACH,
  WSAEMSGSIZE,
  WSAEWOULDBLOCK,
} from './constants.js';

const WSAENETUNREACH = 10051;
const NUMBERS: ReadonlyMap<number, number> = new Map([
  [WSAEWOULDBLOCK, EAGAIN],
  [WSAEMSGSIZE, EMSGSIZE],
  [WSAENETUNREACH, ENETUNREACH],
  [10054, ECONNRESET],
  [10055, ENOBUFS],
  [10060, ETIMEDOUT],
  [WSAECONNREFUSED, ECONNREFUSED],
  [WSAEHOSTUNREACH, EHOSTUNREACH],
  // The firewall or the system itself: EACCES.
  [WSAEACCES, 13],
]);
const NAMES: ReadonlyMap<number, string> = new Map([
  [WSAENETUNREACH, 'ENETUNREACH'],
  [WSAEHOSTUNREACH, 'EHOSTUNREACH'],
]);

/** A call's result with an error number of os/io.ts. */
export function portable(result: number): number {
  return result >= 0 ? result : -(NUMBERS.get(-result) ?? -result);
}

/** @param result a negated Winsock error */
export function systemError(result: number, what: string): SallyportError {
  const code = -result;
  switch (code) {
    case WSAEACCES:
      return new SallyportError('environment', 'RAW_NOT_PERMITTED', `${what}: not permitted`, {
        hint: 'run as administrator',
      });
    case WSAEADDRINUSE:
      return new SallyportError('environment', 'ADDRESS_IN_USE', `${what}: the address is in use`);
    case WSAEADDRNOTAVAIL:
      return new SallyportError(
        'environment',
        'ADDRESS_NOT_AVAILABLE',
        `${what}: this host does not have that address`,
      );
    default: {
      const name = NAMES.get(code);
      return new SallyportError('environment', name ?? 'SOCKET_FAILED', `${what}: ${name ?? `error ${code}`}`);
    }
  }
}

/** The result of a call that must not fail. @throws as `systemError` */
export function must(result: number, what: string): number {
  if (result < 0) throw systemError(result, what);
  return result;
}
