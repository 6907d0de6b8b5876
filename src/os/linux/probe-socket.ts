/**
 * Probes without privileges: an ordinary socket whose error queue (IP_RECVERR, ip(7)) tells which router answered. UDP and ICMP
 * echo (`net.ipv4.ping_group_range`) send any number of datagrams, each with its own TTL; a TCP socket is one connection attempt.
 *
 *   recvmsg(MSG_ERRQUEUE):  data = what the error quoted of our payload (ICMP: of our message)
 *     control:  sock_extended_err (16)  errno u32 · origin u8 · type u8 · code u8 · pad u8 · info u32 · data u32
 *               ─ followed by the offender's sockaddr ─ and the time stamp
 *
 * Errors come before replies: a socket with an error pending would hand that to the next ordinary call.
 */
import { ADDRESS_WORDS, SocketAddress } from '../../base/address.js';
import { instantAt } from '../../base/time.js';
import { EAGAIN, EMSGSIZE, ENOBUFS, type IoResult, READABLE, type Watch, WRITABLE } from '../io.js';
import type { ProbeError, ProbeHandlers, ProbeSocket, ProbeSocketOptions } from '../packet-io.js';
import {
  EINPROGRESS,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_PROBE,
  IP_RECVERR,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_HOPLIMIT,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  IPV6_RECVHOPLIMIT,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_NOSIGNAL,
  SO_EE_ORIGIN_ICMP,
  SO_EE_ORIGIN_ICMP6,
  SO_ERROR,
  SO_REUSEADDR,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from './constants.js';
import { openIcmpSocket } from './echo.js';
import { close, connect, errno, recvmmsg, result, sendto } from './libc.js';
import type { MainLoop } from './main-loop.js';
import { NativeMemory } from './memory.js';
import { MessageTable, TRANSFERRED } from './msghdr.js';
import { reserveUdp } from './reservation.js';
import { copy, SCRATCH_BYTES } from './scratch.js';
import { applyPath, bindPath } from './send-path.js';
import { localAddress, SockaddrBuffer, takeSockaddr } from './sockaddr.js';
import { openSocket, readOption, requireOption, tryOption } from './socket.js';
import { StampReader } from './stamps.js';

/** Room for one reply, or for what an error quotes. */
const ENTRY_BYTES = 2048;
/** Messages handed over before other work gets its turn. */
const MESSAGES_PER_DRAIN = 256;
/** Errors of earlier probes that one call may have to get past. */
const SEND_ATTEMPTS = 4;
/** `struct sock_extended_err`; the offender's address follows it. */
const EXTENDED_ERROR_BYTES = 16;

/** @throws SallyportError ICMP_NOT_PERMITTED, RAW_NOT_PERMITTED, ADDRESS_IN_USE … (environment) */
export function openProbeSocket(options: ProbeSocketOptions, handlers: ProbeHandlers, loop: MainLoop): ProbeSocket {
  const { protocol, to } = options;
  const isTcp = protocol === 'tcp';
  const fd =
    protocol === 'icmp'
      ? openIcmpSocket(to.ip.family)
      : openSocket(to.ip.isV4, isTcp ? SOCK_STREAM : SOCK_DGRAM, isTcp ? IPPROTO_TCP : IPPROTO_UDP);
  try {
    return new LinuxProbeSocket(fd, options, handlers, loop);
  } catch (error) {
    close(fd);
    throw error;
  }
}

class LinuxProbeSocket implements ProbeSocket {
  readonly local: SocketAddress;
  readonly #fd: number;
  readonly #to: SocketAddress;
  readonly #isTcp: boolean;
  readonly #handlers: ProbeHandlers;
  readonly #name = new SockaddrBuffer();
  readonly #table = new MessageTable(1);
  readonly #payload = NativeMemory.allocate(ENTRY_BYTES);
  readonly #out = NativeMemory.allocate(SCRATCH_BYTES);
  readonly #stamps = new StampReader();
  readonly #from = new Uint32Array(ADDRESS_WORDS);
  readonly #error: ProbeError;
  readonly #watch: Watch;
  #connecting = false;
  /** The error queue held something. */
  #reported = false;
  #open = true;

  constructor(fd: number, options: ProbeSocketOptions, handlers: ProbeHandlers, loop: MainLoop) {
    const { to } = options;
    this.#fd = fd;
    this.#to = to;
    this.#isTcp = options.protocol === 'tcp';
    this.#handlers = handlers;
    this.#error = {
      from: to.ip,
      icmpType: 0,
      icmpCode: 0,
      mtu: 0,
      at: instantAt(0),
      quote: this.#payload.bytes,
      quoted: 0,
    };
    this.#table.setVector(0, this.#payload.address, ENTRY_BYTES);
    setOptions(fd, to.ip.family, options.tos);
    applyPath(fd, options);
    let source = options.source;
    if (source === undefined) {
      const route = reserveUdp(to, 0, options);
      source = route.local.ip;
      route.close();
    }
    // One port after the other for the same target: the former attempt has only just ended.
    if (this.#isTcp) requireOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    bindPath(fd, to.ip.family, { source }, options.localPort);
    this.local = localAddress(fd);
    this.#watch = loop.watch(fd, this.#isTcp ? 0 : READABLE, () => this.#ready());
  }

  send(ttl: number, bytes: Uint8Array, length: number): IoResult {
    const [level, option] = this.#to.ip.isV4 ? [IPPROTO_IP, IP_TTL] : [IPPROTO_IPV6, IPV6_UNICAST_HOPS];
    requireOption(this.#fd, level, option, ttl);
    const nameLength = this.#name.set(this.#to);
    if (!this.#isTcp) {
      if (length > SCRATCH_BYTES) return -EMSGSIZE;
      copy(bytes, 0, this.#out.bytes, 0, length);
      return this.#sendTo(length, nameLength);
    }
    const failed = connect(this.#fd, this.#name.address, nameLength) < 0 ? errno() : 0;
    if (failed !== 0 && failed !== EINPROGRESS) return -failed;
    this.#connecting = true;
    this.#watch.interest(WRITABLE);
    return 0;
  }

  /** An error that an earlier probe met is reported by the next call, whatever that is, and has nothing to do with it. */
  #sendTo(length: number, nameLength: number): IoResult {
    for (let attempt = 1; ; attempt++) {
      const sent = result(sendto(this.#fd, this.#out.address, length, MSG_NOSIGNAL, this.#name.address, nameLength));
      if (sent >= 0 || attempt === SEND_ATTEMPTS || sent === -EAGAIN || sent === -ENOBUFS) return sent;
    }
  }

  drain(): void {
    this.#drainErrors();
    if (!this.#isTcp) this.#drainReplies();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch.close();
    close(this.#fd);
  }

  #ready(): void {
    this.drain();
    if (this.#open && this.#connecting) this.#endConnect();
  }

  #drainErrors(): void {
    for (let i = 0; i < MESSAGES_PER_DRAIN; i++) {
      if (!this.#receive(MSG_ERRQUEUE)) return;
      const { words, bytes } = this.#table;
      const v4 = this.#table.findControl(0, IPPROTO_IP, IP_RECVERR);
      const word = v4 >= 0 ? v4 : this.#table.findControl(0, IPPROTO_IPV6, IPV6_RECVERR);
      if (word < 0) continue;
      const at = word * 4;
      const origin = bytes[at + 4];
      if (origin !== SO_EE_ORIGIN_ICMP && origin !== SO_EE_ORIGIN_ICMP6) continue;
      if (!takeSockaddr(bytes, at + EXTENDED_ERROR_BYTES, this.#from, 0)) continue;
      const error = this.#error;
      error.from = SocketAddress.read(this.#from, 0).ip;
      error.icmpType = bytes[at + 5]!;
      error.icmpCode = bytes[at + 6]!;
      error.mtu = words[word + 2]!;
      error.at = this.#stamps.read(this.#table, 0);
      error.quoted = words[TRANSFERRED]!;
      this.#reported = true;
      this.#handlers.onError(error);
    }
  }

  #drainReplies(): void {
    for (let i = 0; i < MESSAGES_PER_DRAIN && this.#receive(0); i++) {
      const { words, bytes, nameStart } = this.#table;
      if (!takeSockaddr(bytes, nameStart, this.#from, 0)) continue;
      const v4 = this.#table.findControl(0, IPPROTO_IP, IP_TTL);
      const word = v4 >= 0 ? v4 : this.#table.findControl(0, IPPROTO_IPV6, IPV6_HOPLIMIT);
      const from = SocketAddress.read(this.#from, 0).ip;
      const hopLimit = word < 0 ? -1 : words[word]!;
      const at = this.#stamps.read(this.#table, 0);
      this.#handlers.onReply(this.#payload.bytes, words[TRANSFERRED]!, from, at, hopLimit);
    }
  }

  /** Writable or broken: the attempt is over. What the error queue told of it is not told again. */
  #endConnect(): void {
    const code = readOption(this.#fd, SOL_SOCKET, SO_ERROR);
    this.#connecting = false;
    this.#watch.interest(0);
    this.#stamps.refresh();
    if (!this.#reported) this.#handlers.onConnect(-code || 0, this.#stamps.now);
  }

  /** One message into the table; false when none waits. An error that was pending on the socket is no message. */
  #receive(flags: number): boolean {
    for (let attempt = 0; this.#open && attempt < 2; attempt++) {
      this.#table.rearm(1);
      if (recvmmsg(this.#fd, this.#table.address, 1, flags | MSG_DONTWAIT, 0) > 0) {
        this.#stamps.refresh();
        return true;
      }
      if (errno() === EAGAIN || flags !== 0) return false;
    }
    return false;
  }
}

function setOptions(fd: number, family: 4 | 6, tos: number): void {
  requireOption(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  if (family === 4) {
    requireOption(fd, IPPROTO_IP, IP_RECVERR, 1);
    tryOption(fd, IPPROTO_IP, IP_RECVTTL, 1);
    tryOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    requireOption(fd, IPPROTO_IP, IP_TOS, tos);
  } else {
    requireOption(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    tryOption(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    tryOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    requireOption(fd, IPPROTO_IPV6, IPV6_TCLASS, tos);
  }
}
