/**
 * Packets of a stack of ours that went no further: too large for their link, or for a service that nobody serves. The stack is
 * told as a router would tell it (RFC 1191, RFC 8201, RFC 1812 §5.2.7.1), but only when it has done sending: a sink never calls
 * back into its stack.
 */
import { Drop } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import { Arena, align } from '../wire/arena.js';
import type { IcmpErrorKind } from '../wire/icmp-error.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { IcmpReplies } from './icmp-replies.js';

/** Packets told of in one turn: one per flow would do, and a flow sends again what still goes no further. */
const MOST = 64;

interface Bounce {
  readonly packet: Arena;
  readonly length: number;
  readonly kind: IcmpErrorKind;
  readonly mtu: number;
}

export class Bounces {
  readonly #waiting: Bounce[] = [];
  readonly #parsed = new ParsedPacket();
  readonly #replies: IcmpReplies;
  readonly #stack: Stack;
  #now: Instant = 0 as Instant;

  constructor(stack: Stack) {
    this.#stack = stack;
    this.#replies = new IcmpReplies((message, offset, length) => {
      this.#stack.handlePacket(this.#now, message, offset, length);
    });
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Copies a packet that was dropped; for `too_big`, `mtu` would have fitted. */
  add(bytes: Uint8Array, offset: number, length: number, kind: IcmpErrorKind, mtu = 0): void {
    if (this.#waiting.length === MOST) return;
    const packet = new Arena(align(length));
    packet.bytes.set(bytes.subarray(offset, offset + length));
    this.#waiting.push({ packet, length, kind, mtu });
  }

  /** Tells the stack, which sends anew at its next flush. */
  report(now: Instant): void {
    this.#now = now;
    for (const { packet, length, kind, mtu } of this.#waiting.splice(0)) {
      if (parsePacket(packet.bytes, 0, length, this.#parsed) !== Drop.none) continue;
      this.#replies.report(now, packet, this.#parsed, kind, mtu);
    }
  }
}
