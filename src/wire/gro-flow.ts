/**
 * One run of packets that the coalescer is putting together: a super-segment under construction in its slot of the arena.
 *
 *   slot: │ room for a virtio-net header │ IP │ TCP or UDP │ payload 1 │ payload 2 │ …  ≤ 65,535 bytes of packet
 *
 * Long payloads after the first stay where they came from when that memory keeps until the run goes out; the run then names these pieces.
 *
 * TCP joins when addresses, ports, acknowledgment, window, flags, options, TTL, DSCP/ECN and DF are equal and the sequence
 * goes on; every payload is as long as the first, the last may be shorter. FIN, PSH and a shorter payload end a run. UDP joins when
 * all is equal but the payload. IPv4 identification counts up unless DF makes it meaningless (RFC 6864). RFC 9293 §3.1, RFC 3168 §6.1.
 */
import { type Arena, align, copyBytes } from './arena.js';
import { readU16, readU32, writeU16 } from './bytes.js';
import { copyAndSum, fold, ipv4HeaderIntact, isIntact, pseudoSum, sumRange, writeIpv4Checksum } from './checksum.js';
import type { ParsedPacket } from './inner.js';
import { IP_LENGTH_MAX, IPV4_HEADER, IPV6_HEADER, PROTO_TCP, PROTO_UDP } from './ip.js';
import { TCP_CHECKSUM } from './open-checksum.js';
import { GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VNET_HEADER } from './vnet.js';

/** Before each packet: a virtio-net header, rounded up so that the packet stays aligned. */
const ROOM = align(VNET_HEADER);
/** Bytes of arena that one slot takes. */
export const SLOT_SIZE = align(ROOM + IP_LENGTH_MAX);
/**
 * Payloads of at least this length stay where they are. The first one is copied in any case, so that an ICMP error of at most 1280 bytes
 * (RFC 4443 §3.1), which quotes at most 1232, finds nothing there but the packet's own; and short ones are cheaper to copy.
 */
const GATHERED_FROM = 1232;
/** Pieces of a run at most: all of them but the last are that long. */
export const MOST_PIECES = Math.ceil(IP_LENGTH_MAX / GATHERED_FROM);
/** Linux refuses more datagrams in one UDP super-segment (UDP_MAX_SEGMENTS was 64 until 6.2). */
const UDP_SEGMENTS_MAX = 64;

const FIN = 0x01;
const PSH = 0x08;
const ACK = 0x10;
const ECE = 0x40;
const CWR = 0x80;
const AE = 0x100;
/** Flags that a packet of a run may carry at all. */
const MERGEABLE = ACK | PSH | FIN | ECE | CWR | AE;

/** What `append` and `start` report. */
export const REFUSED = 0;
export const JOINED = 1;
/** Joined, and nothing may follow. */
export const ENDED = 2;

/** Whether a packet can be part of a run, before its checksums are looked at. */
export function isMergeable(bytes: Uint8Array, packet: ParsedPacket): boolean {
  if (packet.isFragment || packet.hasOptions || packet.fragmentHeaderOffset !== 0 || packet.payloadLength === 0) {
    return false;
  }
  const at = packet.transportOffset;
  if (packet.protocol === PROTO_TCP) {
    const flags = packet.tcpFlags;
    // The bits before AE are reserved: a segment that has them stays as it is.
    return (flags & ACK) !== 0 && (flags & ~MERGEABLE) === 0 && (bytes[at + 12]! & 14) === 0;
  }
  // Without a checksum there is nothing to complete, and a surplus after the datagram would be lost.
  return (
    packet.protocol === PROTO_UDP && readU16(bytes, at + 6) !== 0 && readU16(bytes, at + 4) === packet.transportLength
  );
}

export class GroFlow {
  readonly arena: Arena;
  /** Where the packet begins in the arena. */
  readonly offset: number;
  /** Bytes of the packet so far; 0 = the slot is free. */
  length = 0;
  segments = 0;
  /** Payload bytes of the first packet. */
  gsoSize = 0;
  headerLength = 0;
  /** IP header bytes. */
  start = 0;
  /** The first packet's checksum was left open. */
  isOpen = false;
  /** Where later payloads lie, when they were not copied. */
  source: Arena | undefined;
  /** Offset and length of each of these in `source`. */
  readonly pieces = new Uint32Array(MOST_PIECES * 2);
  pieceCount = 0;
  /** Bytes of the packet in the slot. */
  head = 0;
  /** When the run began, for eviction. */
  order = 0;
  #protocol = 0;
  #source0 = 0;
  #source1 = 0;
  #source2 = 0;
  #source3 = 0;
  #destination0 = 0;
  #destination1 = 0;
  #destination2 = 0;
  #destination3 = 0;
  #ports = 0;
  #firstWord = 0;
  #hopLimit = 0;
  #dontFragment = false;
  #identification = 0;
  #nextSequence = 0;
  #acknowledgment = 0;
  #window = 0;
  #flags = 0;

  constructor(arena: Arena, slot: number) {
    this.arena = arena;
    this.offset = slot * SLOT_SIZE + ROOM;
  }

  /** Whether the packet belongs to this run's 5-tuple. */
  matches(packet: ParsedPacket): boolean {
    return (
      this.#ports === ((packet.sourcePort << 16) | packet.destinationPort) &&
      this.#source3 === packet.source3 &&
      this.#destination3 === packet.destination3 &&
      this.#protocol === packet.protocol &&
      this.#source2 === packet.source2 &&
      this.#destination2 === packet.destination2 &&
      this.#source1 === packet.source1 &&
      this.#destination1 === packet.destination1 &&
      this.#source0 === packet.source0 &&
      this.#destination0 === packet.destination0
    );
  }

  /**
   * Begins a run with a mergeable packet, which is copied into the slot in any case. REFUSED: a checksum is wrong, so the copy
   * is to be passed on alone and unvouched for.
   * @param isOpen its checksum is left open (open-checksum.ts): whoever sent it vouches for it
   * @param isLasting what follows in `source` stays there until the run has gone out
   */
  begin(source: Arena, packet: ParsedPacket, isOpen: boolean, isLasting: boolean): number {
    const bytes = source.bytes;
    this.start = packet.headerLength;
    this.headerLength = packet.payloadOffset - packet.offset;
    this.length = packet.totalLength;
    this.head = packet.totalLength;
    this.source = isLasting && packet.payloadLength >= GATHERED_FROM ? source : undefined;
    this.pieceCount = 0;
    this.segments = 1;
    this.gsoSize = packet.payloadLength;
    this.#protocol = packet.protocol;
    this.#source0 = packet.source0;
    this.#source1 = packet.source1;
    this.#source2 = packet.source2;
    this.#source3 = packet.source3;
    this.#destination0 = packet.destination0;
    this.#destination1 = packet.destination1;
    this.#destination2 = packet.destination2;
    this.#destination3 = packet.destination3;
    this.#ports = (packet.sourcePort << 16) | packet.destinationPort;
    this.#firstWord = this.#compared(bytes, packet);
    this.#hopLimit = packet.hopLimit;
    this.#dontFragment = packet.dontFragment;
    this.#identification = packet.identification;
    this.#nextSequence = (packet.sequence + packet.payloadLength) >>> 0;
    this.#acknowledgment = packet.acknowledgment;
    this.#window = packet.window;
    this.#flags = packet.tcpFlags;
    this.isOpen = isOpen;
    copyBytes(source, packet.offset, this.arena, this.offset, this.headerLength);
    if (!this.#copyPayload(source, packet.offset, packet.payloadLength, this.headerLength, isOpen)) return REFUSED;
    return packet.protocol === PROTO_TCP && packet.tcpFlags & (PSH | FIN) ? ENDED : JOINED;
  }

  /**
   * `append` for the `length` bytes at `offset`, not parsed yet, where they show by themselves that they go on where the run is: TCP, and
   * every word of the headers is the run's own but for lengths, identification, sequence and checksums. REFUSED says nothing else.
   * @param isOpen as for `begin`
   */
  follow(source: Arena, offset: number, length: number, isOpen: boolean): number {
    const { start, headerLength } = this;
    const size = length - headerLength;
    if (size <= 0 || size > this.gsoSize || this.length + size > IP_LENGTH_MAX) return REFUSED;
    if (this.#protocol !== PROTO_TCP || (offset & 3) !== 0 || (this.#flags & (PSH | FIN | CWR)) !== 0) return REFUSED;
    const bytes = source.bytes;
    const theirs = source.words;
    const ours = this.arena.words;
    let i = offset >>> 2;
    let k = this.offset >>> 2;
    const end = k + (headerLength >>> 2);
    if (start === IPV4_HEADER) {
      if (!this.#dontFragment || readU16(bytes, offset + 2) !== length) return REFUSED;
      // Version and DSCP, DF, TTL and protocol: the halves of the words that are not compared are lengths, identification, checksum.
      const differs =
        ((theirs[i]! ^ ours[k]!) & 0xffff) |
        ((theirs[i + 1]! ^ ours[k + 1]!) >>> 16) |
        ((theirs[i + 2]! ^ ours[k + 2]!) & 0xffff);
      if (differs !== 0) return REFUSED;
      i += 3;
      k += 3;
    } else {
      if (readU16(bytes, offset + 4) !== length - IPV6_HEADER || theirs[i] !== ours[k]) return REFUSED;
      if ((theirs[i + 1]! ^ ours[k + 1]!) >>> 16 !== 0) return REFUSED;
      i += 2;
      k += 2;
    }
    const transport = offset + start;
    if (readU32(bytes, transport + 4) !== this.#nextSequence) return REFUSED;
    const sequence = transport >>> 2;
    for (; k < end; i++, k++) {
      if (theirs[i] === ours[k]) continue;
      // The sequence differs, and the checksum, which shares its word with the urgent pointer.
      const isSequence = i === sequence + 1;
      if (!isSequence && (i !== sequence + 4 || (theirs[i]! ^ ours[k]!) >>> 16 !== 0)) return REFUSED;
    }
    if (!this.#add(source, offset, size, isOpen)) return REFUSED;
    this.#nextSequence = (this.#nextSequence + size) >>> 0;
    return size < this.gsoSize ? ENDED : JOINED;
  }

  /** Adds a mergeable packet that `matches`; REFUSED when it does not go on where the run is. @param isOpen as for `begin`. */
  append(source: Arena, packet: ParsedPacket, isOpen: boolean): number {
    const bytes = source.bytes;
    const size = packet.payloadLength;
    if (
      size > this.gsoSize ||
      this.length + size > IP_LENGTH_MAX ||
      packet.payloadOffset - packet.offset !== this.headerLength ||
      packet.hopLimit !== this.#hopLimit ||
      packet.dontFragment !== this.#dontFragment ||
      this.#compared(bytes, packet) !== this.#firstWord
    ) {
      return REFUSED;
    }
    if (!this.#dontFragment && packet.identification !== ((this.#identification + this.segments) & 0xffff))
      return REFUSED;
    const isTcp = this.#protocol === PROTO_TCP;
    if (isTcp ? !this.#goesOn(bytes, packet) : this.segments === UDP_SEGMENTS_MAX) return REFUSED;
    if (!this.#add(source, packet.offset, size, isOpen)) return REFUSED;
    if (!isTcp) return size < this.gsoSize ? ENDED : JOINED;
    this.#nextSequence = (this.#nextSequence + size) >>> 0;
    const last = packet.tcpFlags & (PSH | FIN);
    this.arena.bytes[this.offset + this.start + 13]! |= last;
    return size < this.gsoSize || last !== 0 ? ENDED : JOINED;
  }

  /**
   * Writes the lengths and partial checksum of a run of several packets; returns its gso type. One packet stays as it came, but that
   * an open checksum becomes a partial one too.
   */
  finish(): number {
    const bytes = this.arena.bytes;
    const at = this.offset;
    const transport = at + this.start;
    const transportLength = this.length - this.start;
    if (this.segments === 1) {
      if (this.isOpen)
        writeU16(bytes, transport + TCP_CHECKSUM, fold(pseudoSum(bytes, at, PROTO_TCP, transportLength)));
      return GSO_NONE;
    }
    const isV4 = this.start === IPV4_HEADER;
    if (isV4) {
      writeU16(bytes, at + 2, this.length);
      writeIpv4Checksum(bytes, at);
    } else writeU16(bytes, at + 4, this.length - IPV6_HEADER);
    const partial = fold(pseudoSum(bytes, at, this.#protocol, transportLength));
    if (this.#protocol === PROTO_UDP) {
      writeU16(bytes, transport + 4, transportLength);
      writeU16(bytes, transport + 6, partial);
      return GSO_UDP_L4;
    }
    writeU16(bytes, transport + TCP_CHECKSUM, partial);
    return (isV4 ? GSO_TCPV4 : GSO_TCPV6) | (this.#flags & CWR ? GSO_ECN : 0);
  }

  /** Traffic class and, in IPv6, flow label: what must be equal in the first word. */
  #compared(bytes: Uint8Array, packet: ParsedPacket): number {
    return packet.family === 4 ? packet.trafficClass : readU32(bytes, packet.offset);
  }

  /** Sequence, acknowledgment, window, flags, urgent pointer and options. */
  #goesOn(bytes: Uint8Array, packet: ParsedPacket): boolean {
    if (
      packet.sequence !== this.#nextSequence ||
      packet.acknowledgment !== this.#acknowledgment ||
      packet.window !== this.#window ||
      (packet.tcpFlags & CWR) !== 0 ||
      // With AE the three are a counter (RFC 9768 §3.2.2), and CWR is part of its value.
      (this.#flags & (AE | CWR)) === (AE | CWR) ||
      ((packet.tcpFlags ^ this.#flags) & (AE | ECE)) !== 0
    ) {
      return false;
    }
    const own = this.arena.bytes;
    let at = packet.transportOffset + 18;
    for (let i = this.offset + this.start + 18; i < this.offset + this.headerLength; i++, at++) {
      if (own[i] !== bytes[at]) return false;
    }
    return true;
  }

  /** Adds the payload of the packet at `offset`. False when a checksum of the packet is wrong, or it lies in memory that does not last. */
  #add(source: Arena, offset: number, size: number, isOpen: boolean): boolean {
    if (this.source === undefined) {
      if (!this.#copyPayload(source, offset, size, this.length, isOpen)) return false;
      this.head += size;
    } else {
      if (source !== this.source || !this.#isIntact(source, offset, size, isOpen)) return false;
      const at = this.pieceCount++ * 2;
      this.pieces[at] = offset + this.headerLength;
      this.pieces[at + 1] = size;
    }
    this.length += size;
    this.segments++;
    return true;
  }

  #isIntact(source: Arena, offset: number, size: number, isOpen: boolean): boolean {
    const { start, headerLength } = this;
    const isV4 = start === IPV4_HEADER;
    if (isOpen || (isV4 && !ipv4HeaderIntact(source.bytes, offset))) return isOpen;
    const first = offset + (isV4 ? 12 : 8);
    const length = offset + headerLength + size - first;
    return isIntact(sumRange(source, first, length, this.#protocol + headerLength - start + size));
  }

  /** Copies the payload of the packet at `offset` behind what is there, or behind the header. False when a checksum of the packet is wrong. */
  #copyPayload(source: Arena, offset: number, size: number, at: number, isOpen: boolean): boolean {
    const { start, headerLength } = this;
    const from = offset + headerLength;
    const to = this.offset + at;
    const isV4 = start === IPV4_HEADER;
    if (isOpen || (isV4 && !ipv4HeaderIntact(source.bytes, offset))) {
      copyBytes(source, from, this.arena, to, size);
      return isOpen;
    }
    // Addresses and transport header follow each other: IPv4 from byte 12, IPv6 from byte 8.
    const first = offset + (isV4 ? 12 : 8);
    const sum = sumRange(source, first, from - first, this.#protocol + headerLength - start + size);
    return isIntact(sum + copyAndSum(source, from, this.arena, to, size));
  }
}
