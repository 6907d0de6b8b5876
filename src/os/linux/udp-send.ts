/**
 * The sending half of a UDP socket: a queue of messages that one sendmmsg hands to the kernel. A message is a run of
 * equal datagrams that the kernel (or the network device) cuts apart (UDP_SEGMENT).
 *
 *   control of a message:  [UDP_SEGMENT: 24 bytes]  [IP_PKTINFO: 32 | IPV6_PKTINFO: 40 bytes]   either, both or none
 *
 * What becomes of a message: sent; refused by itself (counted, the others go on); or not taken because buffers are full:
 * then the flush waits in small steps, at most `STEPS` × `STEP`, and after that
 *
 *   open ──full──► blocked (what is left stays, with its memory) ──flush, room──► open        `keepsUnsent`
 *     │               └──giveUp──► stuck (full: dropped at once) ──flush, room──► open
 *     └──full──► what is left is dropped                                                      otherwise
 */
import type { SocketAddress } from '../../base/address.js';
import { ADDRESS_WORDS } from '../../base/address.js';
import { EAGAIN, ENOBUFS, type UdpCounters } from '../io.js';
import {
  EINTR,
  EIO,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_PKTINFO,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLOUT,
  UDP_SEGMENT,
} from './constants.js';
import { errno, ppoll, sendmmsg } from './libc.js';
import { NativeMemory, putPointer } from './memory.js';
import {
  CONTROL,
  CONTROL_LENGTH,
  CONTROL_STRIDE,
  CONTROL_WORDS,
  HEADER_WORDS,
  IOV_WORDS,
  MessageTable,
  NAME_LENGTH,
} from './msghdr.js';
import { isV4At, putSockaddr, putWord, SOCKADDR_STRIDE } from './sockaddr.js';

/** Messages queued before an early flush: at 64 segments each far more than one turn makes. */
const QUEUE_LENGTH = 64;
/** A full send buffer is waited for in this many steps of this length: 1 ms in all. */
const STEPS = 4;
const STEP_NANOSECONDS = 250_000;

/** CMSG_SPACE and CMSG_LEN of a 16-bit segment size, and of the two kinds of packet information. */
const SEGMENT_SPACE = 24;
const SEGMENT_LENGTH = 18;
const PKTINFO4_SPACE = 32;
const PKTINFO4_LENGTH = 28;
const PKTINFO6_SPACE = 40;
const PKTINFO6_LENGTH = 36;

const FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;

export class UdpSender {
  readonly #fd: number;
  readonly #v4: boolean;
  readonly #counters: UdpCounters;
  readonly #table = new MessageTable(QUEUE_LENGTH + 1);
  readonly #held: (NativeMemory | undefined)[] = new Array<undefined>(QUEUE_LENGTH).fill(undefined);
  /** Payload bytes and segment size of every queued message. */
  readonly #lengths = new Uint32Array(QUEUE_LENGTH);
  readonly #segments = new Uint32Array(QUEUE_LENGTH);
  readonly #wait = NativeMemory.allocate(24);
  readonly #keepsUnsent: boolean;
  /** See `UdpSocket`. */
  isBlocked = false;
  waits = 0;
  #isStuck = false;
  /** The first message that is not sent yet; not 0 only while blocked. */
  #start = 0;
  #queued = 0;
  #segmentation: boolean;

  constructor(fd: number, local: SocketAddress, counters: UdpCounters, segmentation: boolean, keepsUnsent: boolean) {
    this.#keepsUnsent = keepsUnsent;
    this.#fd = fd;
    this.#v4 = local.ip.isV4;
    this.#counters = counters;
    this.#segmentation = segmentation;
    const wait = this.#wait.words();
    // struct pollfd at 0: descriptor · events; struct timespec at 8
    wait[0] = fd;
    wait[1] = POLLOUT;
    wait[4] = STEP_NANOSECONDS;
  }

  /** Whether the kernel cuts runs of datagrams apart; false once it has refused to (EIO). */
  get segmentation(): boolean {
    return this.#segmentation;
  }

  /** As `UdpSocket.send`. */
  send(
    memory: NativeMemory,
    offset: number,
    length: number,
    segment: number,
    addresses: Uint32Array,
    index: number,
    sources: Uint32Array | undefined,
    sourceIndex: number,
  ): void {
    if (length <= segment || this.#segmentation) {
      this.#queue(memory, offset, length, segment, addresses, index, sources, sourceIndex);
      return;
    }
    for (let at = 0; at < length; at += segment) {
      const size = Math.min(segment, length - at);
      this.#queue(memory, offset + at, size, size, addresses, index, sources, sourceIndex);
    }
  }

  flush(isPatient: boolean): void {
    let start = this.#start;
    let steps = isPatient && !this.isBlocked && !this.#isStuck ? 0 : STEPS;
    let hasSeenRoom = false;
    while (start < this.#queued) {
      if (!this.#segmentation && this.#lengths[start]! > this.#segments[start]!) {
        this.#sendApart(start++);
        continue;
      }
      const sent = sendmmsg(this.#fd, this.#table.headerAddress(start), this.#run(start), FLAGS);
      if (sent > 0) {
        for (let i = start; i < start + sent; i++) this.#countSent(this.#lengths[i]!, this.#segments[i]!);
        start += sent;
        this.#isStuck = false;
        continue;
      }
      const code = sent < 0 ? errno() : EAGAIN;
      if (code === EINTR) continue;
      if (code === EAGAIN || code === ENOBUFS) {
        if (steps < STEPS) {
          steps++;
          if (this.#pause(code === EAGAIN)) hasSeenRoom = true;
          continue;
        }
        // Only a full buffer says when it has room: a full device queue is no reason to wait any longer.
        if (code === EAGAIN && this.#keepsUnsent && !this.#isStuck) {
          this.isBlocked = true;
          this.#start = start;
          return;
        }
        break;
      }
      if (code === EIO && this.#segmentation && this.#lengths[start]! > this.#segments[start]!) {
        this.#segmentation = false;
      } else {
        this.#counters.sendFailed += datagrams(this.#lengths[start]!, this.#segments[start]!);
        start++;
      }
    }
    if (hasSeenRoom) this.waits++;
    this.#drop(start);
  }

  /** As `UdpSocket.giveUp`. */
  giveUp(): void {
    this.#isStuck = true;
    this.#drop(this.#start);
  }

  /** Empties the queue; what is left from `start` on is counted. */
  #drop(start: number): void {
    for (let i = start; i < this.#queued; i++) {
      this.#counters.sendBlocked += datagrams(this.#lengths[i]!, this.#segments[i]!);
    }
    for (let i = 0; i < this.#queued; i++) this.#held[i] = undefined;
    this.#queued = 0;
    this.#start = 0;
    this.isBlocked = false;
  }

  #queue(
    memory: NativeMemory,
    offset: number,
    length: number,
    segment: number,
    addresses: Uint32Array,
    index: number,
    sources: Uint32Array | undefined,
    sourceIndex: number,
  ): void {
    if (this.#queued === QUEUE_LENGTH && !this.isBlocked) this.flush(true);
    if (this.isBlocked) {
      this.#counters.sendBlocked += datagrams(length, segment);
      return;
    }
    const slot = this.#queued++;
    const words = this.#table.words;
    const header = slot * HEADER_WORDS;
    this.#held[slot] = memory;
    this.#lengths[slot] = length;
    this.#segments[slot] = segment;
    this.#table.setVector(slot, memory.address + offset, length);
    words[header + NAME_LENGTH] = putSockaddr(
      this.#table.bytes,
      this.#table.nameStart + slot * SOCKADDR_STRIDE,
      addresses,
      index,
    );
    let control = 0;
    if (segment < length) control = this.#putSegment(slot, segment);
    if (sources !== undefined) control += this.#putSource(slot, control, sources, sourceIndex);
    words[header + CONTROL_LENGTH] = control;
  }

  /** UDP_SEGMENT with a 16-bit size; returns the space it takes. */
  #putSegment(slot: number, segment: number): number {
    const words = this.#table.words;
    const at = this.#table.controlStart + slot * CONTROL_WORDS;
    words[at] = SEGMENT_LENGTH;
    words[at + 1] = 0;
    words[at + 2] = IPPROTO_UDP;
    words[at + 3] = UDP_SEGMENT;
    words[at + 4] = segment;
    return SEGMENT_SPACE;
  }

  /** The source address as packet information; nothing for another family or the unspecified address. */
  #putSource(slot: number, offset: number, sources: Uint32Array, index: number): number {
    const i = index * ADDRESS_WORDS;
    if (isV4At(sources, index) !== this.#v4) return 0;
    const words = this.#table.words;
    const bytes = this.#table.bytes;
    const at = this.#table.controlStart + slot * CONTROL_WORDS + offset / 4;
    words[at + 1] = 0;
    if (this.#v4) {
      if (sources[i + 3] === 0) return 0;
      words[at] = PKTINFO4_LENGTH;
      words[at + 2] = IPPROTO_IP;
      words[at + 3] = IP_PKTINFO;
      words[at + 4] = 0;
      putWord(bytes, (at + 5) * 4, sources[i + 3]!);
      words[at + 6] = 0;
      return PKTINFO4_SPACE;
    }
    if ((sources[i]! | sources[i + 1]! | sources[i + 2]! | sources[i + 3]!) === 0) return 0;
    words[at] = PKTINFO6_LENGTH;
    words[at + 2] = IPPROTO_IPV6;
    words[at + 3] = IPV6_PKTINFO;
    for (let k = 0; k < 4; k++) putWord(bytes, (at + 4 + k) * 4, sources[i + k]!);
    words[at + 8] = 0;
    return PKTINFO6_SPACE;
  }

  /** Messages from `start` that may go in one call: all, or those before the next one that has to be sent apart. */
  #run(start: number): number {
    if (this.#segmentation) return this.#queued - start;
    let end = start;
    while (end < this.#queued && this.#lengths[end]! <= this.#segments[end]!) end++;
    return end - start;
  }

  /** Sends the datagrams of a message one by one through the spare header, after segmentation was refused. */
  #sendApart(slot: number): void {
    const spare = QUEUE_LENGTH;
    const words = this.#table.words;
    const header = slot * HEADER_WORDS;
    const vector = this.#table.iovStart + slot * IOV_WORDS;
    const base = words[vector]! + words[vector + 1]! * 0x1_0000_0000;
    const name = this.#table.nameStart;
    this.#table.bytes.copyWithin(
      name + spare * SOCKADDR_STRIDE,
      name + slot * SOCKADDR_STRIDE,
      name + (slot + 1) * SOCKADDR_STRIDE,
    );
    const spareHeader = spare * HEADER_WORDS;
    // The segment size comes first in the control area: what follows it is the source, if any.
    const control = this.#table.controlAddress + slot * CONTROL_STRIDE + SEGMENT_SPACE;
    words[spareHeader + NAME_LENGTH] = words[header + NAME_LENGTH]!;
    putPointer(words, spareHeader + CONTROL, control);
    words[spareHeader + CONTROL_LENGTH] = words[header + CONTROL_LENGTH]! - SEGMENT_SPACE;
    const length = this.#lengths[slot]!;
    const segment = this.#segments[slot]!;
    for (let at = 0; at < length; at += segment) {
      const size = Math.min(segment, length - at);
      this.#table.setVector(spare, base + at, size);
      if (sendmmsg(this.#fd, this.#table.headerAddress(spare), 1, FLAGS) === 1) this.#countSent(size, size);
      else if (errno() === EAGAIN) this.#counters.sendBlocked++;
      else this.#counters.sendFailed++;
    }
  }

  #countSent(length: number, segment: number): void {
    this.#counters.datagramsOut += datagrams(length, segment);
    this.#counters.bytesOut += length;
  }

  /** Waits one step for room in the send buffer, or (a full device queue does not say when) just one step. True: there is room. */
  #pause(untilWritable: boolean): boolean {
    return ppoll(this.#wait.address, untilWritable ? 1 : 0, this.#wait.address + 8, 0) > 0;
  }
}

function datagrams(length: number, segment: number): number {
  return length <= segment ? 1 : Math.ceil(length / segment);
}
