/**
 * Errors of opening sockets that need privileges, in words a reader can use.
 */
import { SallyportError } from '../../base/error.js';
import { EACCES, EPERM } from './constants.js';
import { socketError } from './socket.js';

/** RAW_NOT_PERMITTED where privileges are missing, else what any socket's errors become. */
export function rawError(code: number, what: string): SallyportError {
  if (code !== EPERM && code !== EACCES) return socketError(code, what);
  return new SallyportError('environment', 'RAW_NOT_PERMITTED', `${what}: not permitted`, {
    hint: 'run as root or give the program CAP_NET_RAW',
  });
}
