/**
 * What tells apart the services that share a destination: protocol and port of a packet, and for the later fragments of a datagram,
 * which have no port, where the first one went.
 */
import { readU16, readU32 } from '../wire/bytes.js';
import { IPV6_HEADER } from '../wire/ip.js';

/** IANA protocol number of IPv6's fragment header (RFC 8200 §4.5), and its length. */
const FRAGMENT = 44;
const FRAGMENT_BYTES = 8;
/** Datagrams that are remembered at once. */
const REMEMBERED = 16;

/** The head of one packet after the other, read in place. A packet has been parsed before, or is of our own stack: nothing is checked. */
export class FlowHead {
  /** IANA number. */
  protocol = 0;
  /** Destination port; of no meaning without one. */
  port = 0;
  isFragment = false;
  /** Whether it is a fragment that is not the first. */
  isLater = false;
  /** Of a fragment: family, identification and protocol of its datagram, and the last bits of its destination. */
  datagram = 0;

  read(bytes: Uint8Array, offset: number): void {
    if (bytes[offset]! >>> 4 === 4) this.#readV4(bytes, offset);
    else this.#readV6(bytes, offset);
  }

  /** RFC 791 §3.1. */
  #readV4(bytes: Uint8Array, offset: number): void {
    const fragment = readU16(bytes, offset + 6) & 0x3fff;
    this.protocol = bytes[offset + 9]!;
    this.port = readU16(bytes, offset + (bytes[offset]! & 15) * 4 + 2);
    this.isFragment = fragment !== 0;
    this.isLater = (fragment & 0x1fff) !== 0;
    this.datagram = datagramOf(0, readU16(bytes, offset + 4), this.protocol, bytes[offset + 19]!);
  }

  /** RFC 8200 §3, §4.5. */
  #readV6(bytes: Uint8Array, offset: number): void {
    const next = bytes[offset + 6]!;
    const header = offset + IPV6_HEADER;
    this.isFragment = next === FRAGMENT;
    this.protocol = this.isFragment ? bytes[header]! : next;
    this.port = readU16(bytes, header + (this.isFragment ? FRAGMENT_BYTES : 0) + 2);
    this.isLater = this.isFragment && readU16(bytes, header + 2) >>> 3 !== 0;
    this.datagram = this.isFragment ? datagramOf(1, readU32(bytes, header + 4), this.protocol, bytes[offset + 39]!) : 0;
  }
}

/** A whole number below 2⁴⁹. */
const datagramOf = (family: number, identification: number, protocol: number, to: number): number =>
  ((identification * 2 + family) * 256 + protocol) * 256 + to;

/** Where the first fragments of the last datagrams went. */
export class FragmentTrail<T> {
  readonly #datagrams = new Float64Array(REMEMBERED).fill(-1);
  readonly #values: (T | undefined)[] = new Array<T | undefined>(REMEMBERED).fill(undefined);
  #next = 0;

  note(datagram: number, value: T): void {
    this.#datagrams[this.#next] = datagram;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  /** Of the newest datagram that was noted under this; undefined for none. */
  find(datagram: number): T | undefined {
    for (let age = 1; age <= REMEMBERED; age++) {
      const slot = (this.#next - age + REMEMBERED) % REMEMBERED;
      if (this.#datagrams[slot] === datagram) return this.#values[slot];
    }
    return undefined;
  }
}
