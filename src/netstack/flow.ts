/**
 * A TCP flow as the flow table knows it: a connection, or a request that waits for the application's word.
 *
 *   words: local ip[4] · local port · remote ip[4] · remote port      (two packed socket addresses of base/address.ts)
 */
import { ADDRESS_WORDS, SocketAddress } from '../base/address.js';
import type { Instant } from '../base/time.js';
import type { Segment } from './tcp/segment.js';

/** Words of a flow key. */
export const FLOW_WORDS = 2 * ADDRESS_WORDS;

export abstract class Flow {
  /** Slot in the flow table; −1 = not in it. Written by the table. */
  slot = -1;
  hash = 0;

  constructor(readonly words: Uint32Array) {}

  /** This stack's end. */
  get local(): SocketAddress {
    return SocketAddress.read(this.words, 0);
  }

  /** The other end. */
  get remote(): SocketAddress {
    return SocketAddress.read(this.words, 1);
  }

  get isV4(): boolean {
    return this.words[2] === 0xffff && this.words[0] === 0 && this.words[1] === 0;
  }

  /** A segment of this flow, parsed and its checksum good. */
  abstract segment(now: Instant, segment: Segment): void;
  /** An ICMP error quoting a segment of this flow whose sequence number was `seq`. `mtu` > 0: packets must not exceed it. */
  abstract unreachable(now: Instant, seq: number, hard: boolean, mtu: number): void;
}
