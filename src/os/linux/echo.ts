/**
 * Unprivileged ICMP echo sockets (SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6): the kernel fills in identifier and
 * checksum, and delivers only the replies to this socket's identifier.
 *
 *   echo request and reply (RFC 792, RFC 4443 §4):  type u8 · code u8 · checksum u16 · identifier u16 · sequence u16 · data
 */
import { ADDRESS_WORDS, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { type EchoSocket, EMSGSIZE, type IoResult } from '../io.js';
import type { SendPath } from '../packet-io.js';
import {
  AF_INET,
  AF_INET6,
  EACCES,
  EPERM,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from './constants.js';
import { close, errno, recvfrom, result, sendto, socket } from './libc.js';
import { copy, SCRATCH_BYTES, type Scratch } from './scratch.js';
import { leaveBy } from './send-path.js';
import { putSockaddr, SockaddrBuffer, takeSockaddr } from './sockaddr.js';
import { socketError } from './socket.js';

const HEADER = 8;
const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
const ECHO_REPLY = { 4: 0, 6: 129 } as const;

/** @throws as `openIcmpSocket` */
export function openEcho(family: 4 | 6, scratch: Scratch, path: SendPath): EchoSocket {
  const fd = openIcmpSocket(family);
  leaveBy(fd, path);
  return new LinuxEcho(fd, family, scratch);
}

/** @throws SallyportError ICMP_NOT_PERMITTED (environment) when net.ipv4.ping_group_range excludes this process. */
export function openIcmpSocket(family: 4 | 6): number {
  const domain = family === 4 ? AF_INET : AF_INET6;
  const fd = socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
  if (fd >= 0) return fd;
  const code = errno();
  if (code !== EACCES && code !== EPERM) throw socketError(code, 'opening an ICMP socket');
  throw new SallyportError('environment', 'ICMP_NOT_PERMITTED', 'this user may not send ICMP echo requests', {
    hint: 'allow it with: sysctl -w net.ipv4.ping_group_range="0 2147483647"',
  });
}

class LinuxEcho implements EchoSocket {
  readonly fd: number;
  readonly family: 4 | 6;
  readonly #scratch: Scratch;
  readonly #name = new SockaddrBuffer();
  readonly #target = new Uint32Array(ADDRESS_WORDS);
  readonly #source = new Uint32Array(ADDRESS_WORDS);
  #sequence = 0;
  #open = true;

  constructor(fd: number, family: 4 | 6, scratch: Scratch) {
    this.fd = fd;
    this.family = family;
    this.#scratch = scratch;
  }

  get lastSequence(): number {
    return this.#sequence;
  }

  get lastSource(): SocketAddress {
    return new SocketAddress(SocketAddress.read(this.#source, 0).ip, 0);
  }

  send(to: SocketAddress, sequence: number, data: Uint8Array, offset: number, length: number): IoResult {
    if (length > SCRATCH_BYTES - HEADER) return -EMSGSIZE;
    const { bytes, address } = this.#scratch.memory;
    bytes.fill(0, 0, HEADER);
    bytes[0] = ECHO_REQUEST[this.family];
    bytes[6] = sequence >>> 8;
    bytes[7] = sequence;
    copy(data, offset, bytes, HEADER, length);
    to.write(this.#target, 0);
    const nameLength = putSockaddr(this.#name.memory.bytes, 0, this.#target, 0);
    const sent = result(sendto(this.fd, address, HEADER + length, MSG_NOSIGNAL, this.#name.address, nameLength));
    return sent < 0 ? sent : sent - HEADER;
  }

  read(target: Uint8Array, offset: number, length: number): IoResult {
    const { bytes, address } = this.#scratch.memory;
    for (;;) {
      this.#name.reset();
      const got = result(recvfrom(this.fd, address, SCRATCH_BYTES, 0, this.#name.address, this.#name.lengthAddress));
      if (got < 0) return got;
      if (got < HEADER || bytes[0] !== ECHO_REPLY[this.family]) continue;
      takeSockaddr(this.#name.memory.bytes, 0, this.#source, 0);
      this.#sequence = (bytes[6]! << 8) | bytes[7]!;
      const size = Math.min(got - HEADER, length);
      copy(bytes, HEADER, target, offset, size);
      return size;
    }
  }

  close(): void {
    if (this.#open) close(this.fd);
    this.#open = false;
  }
}
