/**
 * The receiving half of a UDP socket: recvmmsg into one block of memory, and its control messages (segment size of a
 * coalesced buffer, local address that was asked).
 *
 *   memory:  entry 0 · entry 1 · …   each `entryBytes`; an entry is one datagram, or several of one size (UDP_GRO)
 */
import { ADDRESS_WORDS, type SocketAddress } from '../../base/address.js';
import type { IoResult, UdpBatch, UdpCounters } from '../io.js';
import { EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ETIMEDOUT } from '../io.js';
import {
  EACCES,
  EHOSTDOWN,
  EINTR,
  ENETDOWN,
  ENOPROTOOPT,
  EPERM,
  EPROTO,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_PKTINFO,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  UDP_GRO,
} from './constants.js';
import { errno, recvmmsg } from './libc.js';
import { NativeMemory } from './memory.js';
import {
  CMSG_HEADER,
  CONTROL_LENGTH,
  CONTROL_WORDS,
  FLAGS,
  HEADER_WORDS,
  MessageTable,
  TRANSFERRED,
} from './msghdr.js';
import { getWord, putV4, putV6, SOCKADDR_STRIDE, takeSockaddr } from './sockaddr.js';

/** Queued errors swallowed by one `receive`: each stands for one earlier datagram of ours, so they are few. */
const ERRORS_PER_RECEIVE = 16;

/** Errors that report what became of an earlier datagram; the socket itself is well (icmp(7), udp(7)). */
const QUEUED_ERRORS: ReadonlySet<number> = new Set([
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  EHOSTDOWN,
  ENETUNREACH,
  ENETDOWN,
  EMSGSIZE,
  ETIMEDOUT,
  EPROTO,
  ENOPROTOOPT,
  EACCES,
  EPERM,
]);

export class UdpReceiver implements UdpBatch {
  readonly memory: Uint8Array;
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly segments: Uint32Array;
  readonly sources: Uint32Array;
  readonly locals: Uint32Array;
  readonly #table: MessageTable;
  readonly #payload: NativeMemory;
  readonly #entryBytes: number;
  readonly #local: SocketAddress;
  readonly #counters: UdpCounters;
  /** Headers the kernel wrote to last time: their lengths must be set again. */
  #dirty: number;

  /** @param local where a datagram was sent to, unless the kernel says so itself */
  constructor(local: SocketAddress, counters: UdpCounters, entries: number, entryBytes: number) {
    this.#local = local;
    this.#counters = counters;
    this.#entryBytes = entryBytes;
    this.#payload = NativeMemory.allocate(entries * entryBytes);
    this.#table = new MessageTable(entries);
    this.#dirty = entries;
    this.memory = this.#payload.bytes;
    this.offsets = new Uint32Array(entries);
    this.lengths = new Uint32Array(entries);
    this.segments = new Uint32Array(entries);
    this.sources = new Uint32Array(entries * ADDRESS_WORDS);
    this.locals = new Uint32Array(entries * ADDRESS_WORDS);
    for (let i = 0; i < entries; i++) this.#table.setVector(i, this.#payload.address + i * entryBytes, entryBytes);
  }

  /** Fills the entries from the socket; returns how many, or a negated errno of the socket itself. */
  receive(fd: number): IoResult {
    for (let attempt = 0; attempt < ERRORS_PER_RECEIVE; attempt++) {
      const count = this.receiveOnce(fd, this.#table.count);
      if (count >= 0 || !QUEUED_ERRORS.has(-count)) return count;
    }
    return 0;
  }

  /** One call for at most `most` messages; returns how many entries there are, or a negated errno, which may be a queued one. */
  receiveOnce(fd: number, most: number): IoResult {
    this.#table.rearm(this.#dirty);
    this.#dirty = 0;
    for (;;) {
      const count = recvmmsg(fd, this.#table.address, Math.min(most, this.#table.count), MSG_DONTWAIT, 0);
      if (count >= 0) {
        this.#dirty = count;
        return this.#collect(count);
      }
      const code = errno();
      if (code === EAGAIN) return 0;
      if (code === EINTR) continue;
      this.#counters.receiveErrors++;
      return -code;
    }
  }

  /** Describes the entries that arrived whole; returns how many. */
  #collect(count: number): number {
    const words = this.#table.words;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const header = i * HEADER_WORDS;
      const name = this.#table.nameStart + i * SOCKADDR_STRIDE;
      const whole = (words[header + FLAGS]! & (MSG_TRUNC | MSG_CTRUNC)) === 0;
      if (!whole || !takeSockaddr(this.#table.bytes, name, this.sources, kept)) {
        this.#counters.receiveErrors++;
        continue;
      }
      const length = words[header + TRANSFERRED]!;
      this.offsets[kept] = i * this.#entryBytes;
      this.lengths[kept] = length;
      this.segments[kept] = length;
      this.#local.write(this.locals, kept);
      this.#readControl(i, words[header + CONTROL_LENGTH]!, kept);
      const segment = this.segments[kept]!;
      this.#counters.bytesIn += length;
      this.#counters.datagramsIn += segment < length ? Math.ceil(length / segment) : 1;
      kept++;
    }
    return kept;
  }

  #readControl(entry: number, length: number, index: number): void {
    const words = this.#table.words;
    const start = this.#table.controlStart + entry * CONTROL_WORDS;
    for (let at = 0; at + CMSG_HEADER <= length; ) {
      const word = start + (at >>> 2);
      const size = words[word]!;
      if (size < CMSG_HEADER) return;
      const level = words[word + 2]!;
      const type = words[word + 3]!;
      const local = index * ADDRESS_WORDS;
      if (level === IPPROTO_UDP && type === UDP_GRO) {
        const segment = words[word + 4]!;
        if (segment > 0 && segment < this.lengths[index]!) this.segments[index] = segment;
      } else if (level === IPPROTO_IP && type === IP_PKTINFO) {
        // struct in_pktinfo: interface i32 · local address · destination of the header
        putV4(this.locals, local, getWord(this.#table.bytes, (word + 6) * 4));
      } else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) {
        // struct in6_pktinfo: destination[16] · interface i32
        putV6(this.locals, local, this.#table.bytes, (word + 4) * 4);
      }
      at += (size + 7) & ~7;
    }
  }
}
