/**
 * Sends one UDP or ICMP message of any size as IP packets: whole when it fits the MTU, else in fragments.
 *
 *   scratch: │ room for the IP header │ transport header + data │        fragments are written to a second scratch, one by one
 *
 * RFC 791 §3.2, RFC 8200 §4.5 (Fragment header; only the source fragments), RFC 6864 (identifications of fragments differ).
 */
import type { Entropy } from '../base/entropy.js';
import { Arena, copyBytes } from '../wire/arena.js';
import { writeU16 } from '../wire/bytes.js';
import { writeIpv4Checksum } from '../wire/checksum.js';
import { IP_LENGTH_MAX, IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, PROTO_FRAGMENT } from '../wire/ip.js';
import { writeFragmentHeader } from '../wire/ipv6.js';
import { Count } from './counters.js';
import { ipHeaderLength, writeIpHeader } from './ip-header.js';
import type { StackSink } from './types.js';

/** Flag bit of the IPv4 fragment field. */
const MORE_FRAGMENTS = 0x2000;
/** Fragments end at multiples of this. */
const FRAGMENT_UNIT = 8;

export class IpOutput {
  /** `begin` writes the IP header here, the caller the transport message after it. */
  readonly scratch = new Arena(IPV6_HEADER + IP_LENGTH_MAX);
  readonly #piece: Arena;
  #identification: number;

  constructor(
    readonly sink: StackSink,
    readonly mtu: number,
    readonly counts: Float64Array,
    entropy: Entropy,
  ) {
    this.#piece = new Arena(mtu);
    this.#identification = entropy.uint32();
  }

  /** Longest transport message for these addresses, bytes. */
  longest(words: Uint32Array): number {
    return ipHeaderLength(words) === IPV4_HEADER ? IP_LENGTH_MAX - IPV4_HEADER : IP_LENGTH_MAX;
  }

  /** Writes the IP header for a message of `length` bytes and returns where in `scratch` the message goes. */
  begin(words: Uint32Array, protocol: number, length: number): number {
    this.#identification = (this.#identification + 1) >>> 0;
    const total = ipHeaderLength(words) + length;
    return writeIpHeader(this.scratch.bytes, words, protocol, total, this.#identification & 0xffff);
  }

  /** Sends the message of `length` bytes that was built in `scratch` after `begin`, its checksum included. */
  send(length: number): void {
    const bytes = this.scratch.bytes;
    const isV4 = bytes[0] >>> 4 === 4;
    const total = (isV4 ? IPV4_HEADER : IPV6_HEADER) + length;
    if (total <= this.mtu) this.#emit(this.scratch, total);
    else if (isV4) this.#fragmentV4(length);
    else this.#fragmentV6(bytes[6], length);
  }

  /** Sends a whole packet of `length` bytes that was written to `scratch`. */
  sendWhole(length: number): void {
    this.#emit(this.scratch, length);
  }

  #fragmentV4(length: number): void {
    const piece = this.#piece;
    const most = unit(this.mtu - IPV4_HEADER);
    for (let at = 0; at < length; at += most) {
      const n = Math.min(most, length - at);
      copyBytes(this.scratch, 0, piece, 0, IPV4_HEADER);
      copyBytes(this.scratch, IPV4_HEADER + at, piece, IPV4_HEADER, n);
      writeU16(piece.bytes, 2, IPV4_HEADER + n);
      writeU16(piece.bytes, 6, (at / FRAGMENT_UNIT) | (at + n < length ? MORE_FRAGMENTS : 0));
      writeIpv4Checksum(piece.bytes, 0);
      this.counts[Count.fragments_out]++;
      this.#emit(piece, IPV4_HEADER + n);
    }
  }

  #fragmentV6(protocol: number, length: number): void {
    const piece = this.#piece;
    const header = IPV6_HEADER + IPV6_FRAGMENT_HEADER;
    const most = unit(this.mtu - header);
    for (let at = 0; at < length; at += most) {
      const n = Math.min(most, length - at);
      copyBytes(this.scratch, 0, piece, 0, IPV6_HEADER);
      copyBytes(this.scratch, IPV6_HEADER + at, piece, header, n);
      writeU16(piece.bytes, 4, IPV6_FRAGMENT_HEADER + n);
      piece.bytes[6] = PROTO_FRAGMENT;
      writeFragmentHeader(piece.bytes, IPV6_HEADER, protocol, at, at + n < length, this.#identification);
      this.counts[Count.fragments_out]++;
      this.#emit(piece, header + n);
    }
  }

  #emit(arena: Arena, length: number): void {
    this.counts[Count.packets_out]++;
    this.counts[Count.bytes_out] += length;
    this.sink.emit(arena, 0, length);
  }
}

const unit = (n: number): number => n - (n % FRAGMENT_UNIT);
