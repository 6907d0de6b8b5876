/**
 * The addresses under which the QUIC endpoint of a node's links knows its relay channels: one IPv6 address per channel from a
 * range that never leaves the process. A number is never used twice, so a new channel is a new address and a new link.
 *
 *   fd53:616c:6c79:0:0:0:NNNN:NNNN, port 1        NNNNNNNN = channel number
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../base/address.js';

/** The range, as the first two words of an address; the native endpoint leaves room for the RELAYED header before it. */
const RANGE_WORD_0 = 0xfd53616c;
const RANGE_WORD_1 = 0x6c790000;
const PORT = 1;

export function virtualAddress(number: number): SocketAddress {
  return new SocketAddress(new IpAddress(RANGE_WORD_0, RANGE_WORD_1, 0, number), PORT);
}

/** Whether it is a relay channel's, and leads nowhere outside this process. */
export function isVirtual({ ip }: SocketAddress): boolean {
  return ip.w0 === RANGE_WORD_0 && ip.w1 === RANGE_WORD_1;
}

/** The channel number of the packed address at `index`, or −1 when it is not a virtual one. */
export function channelNumber(words: Uint32Array, index: number): number {
  const at = index * ADDRESS_WORDS;
  return words[at] === RANGE_WORD_0 && words[at + 1] === RANGE_WORD_1 ? words[at + 3]! : -1;
}
