/**
 * Sends whole IP packets, header included (raw(7), IP_HDRINCL; IPV6_HDRINCL): the kernel routes them and changes nothing but
 * IPv4's total length and checksum.
 */
import { ADDRESS_WORDS, type IpAddress, SocketAddress } from '../../base/address.js';
import type { Instant } from '../../base/time.js';
import { SystemClock } from '../clock.js';
import { EMSGSIZE, type IoResult } from '../io.js';
import type { RawSink, SendPath } from '../packet-io.js';
import {
  AF_INET,
  AF_INET6,
  IP_HDRINCL,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_PROBE,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPV6_HDRINCL,
  IPV6_MTU_DISCOVER,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
} from './constants.js';
import { close, errno, result, sendto, socket } from './libc.js';
import { rawError } from './raw-error.js';
import { copy, SCRATCH_BYTES, type Scratch } from './scratch.js';
import { applyPath } from './send-path.js';
import { putSockaddr, SockaddrBuffer } from './sockaddr.js';
import { requireOption, tryOption } from './socket.js';

/** @throws SallyportError RAW_NOT_PERMITTED, DEVICE_NOT_FOUND, FAMILY_NOT_SUPPORTED … (environment) */
export function openRawSink(family: 4 | 6, path: SendPath, scratch: Scratch): RawSink {
  const fd = socket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
  if (fd < 0) throw rawError(errno(), 'opening a raw socket');
  try {
    if (family === 4) requireOption(fd, IPPROTO_IP, IP_HDRINCL, 1);
    else requireOption(fd, IPPROTO_IPV6, IPV6_HDRINCL, 1);
    // What the kernel has learnt of the path must not keep back the probes that measure it.
    if (family === 4) tryOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    else tryOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    applyPath(fd, path);
    // The first call of a C function takes a millisecond longer than all others; no probe should pay for it.
    sendto(-1, scratch.memory.address, 0, MSG_NOSIGNAL, scratch.memory.address, 0);
    return new LinuxRawSink(fd, scratch);
  } catch (error) {
    close(fd);
    throw error;
  }
}

class LinuxRawSink implements RawSink {
  readonly #fd: number;
  readonly #scratch: Scratch;
  readonly #name = new SockaddrBuffer();
  readonly #target = new Uint32Array(ADDRESS_WORDS);
  readonly #clock = new SystemClock();
  sentAt: Instant;
  #open = true;

  constructor(fd: number, scratch: Scratch) {
    this.#fd = fd;
    this.#scratch = scratch;
    this.sentAt = this.#clock.now();
  }

  send(bytes: Uint8Array, offset: number, length: number, to: IpAddress): IoResult {
    if (length > SCRATCH_BYTES) return -EMSGSIZE;
    new SocketAddress(to, 0).write(this.#target, 0);
    const { memory } = this.#scratch;
    copy(bytes, offset, memory.bytes, 0, length);
    const nameLength = putSockaddr(this.#name.memory.bytes, 0, this.#target, 0);
    this.sentAt = this.#clock.now();
    return result(sendto(this.#fd, memory.address, length, MSG_NOSIGNAL, this.#name.address, nameLength));
  }

  close(): void {
    if (this.#open) close(this.#fd);
    this.#open = false;
  }
}
