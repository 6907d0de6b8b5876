/**
 * What the kernel holds of a TCP connection that it has not sent yet: the kernel's part of a queue that this program fills. What is
 * on its way and not acknowledged does not count. ioctl SIOCOUTQNSD (linux/sockios.h).
 */
import { SIOCOUTQNSD } from './constants.js';
import { ioctl } from './libc.js';
import { NativeMemory } from './memory.js';

const ANSWER = NativeMemory.allocate(8);

/** Bytes; 0 where `fd` is no TCP socket any more. */
export function unsentBytes(fd: number): number {
  return ioctl(fd, SIOCOUTQNSD, ANSWER.address) === 0 ? ANSWER.ints()[0]! : 0;
}
