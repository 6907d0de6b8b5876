/**
 * The bell of a packet thread: an eventfd (eventfd(2)). Writing eight bytes holding a 1 wakes the reactor that watches it.
 */
import { EFD_CLOEXEC, EFD_NONBLOCK } from './constants.js';
import { check, eventfd } from './libc.js';

/** The caller closes it, after the reactor that uses it has ended. */
export function makeWakeFd(): number {
  return check(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd');
}
