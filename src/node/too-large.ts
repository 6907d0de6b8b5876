/**
 * Packets of a stack of ours that did not fit their link. The stack is told as a router would tell it (RFC 1191, RFC 8201), but
 * only when it has done sending: a sink never calls back into its stack.
 */
import { Drop } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import { Arena, align } from '../wire/arena.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { IcmpReplies } from './icmp-replies.js';

/** Packets told of in one turn: one per flow would do, and a flow sends again what is still too large. */
const MOST = 16;

export class TooLarge {
  readonly #waiting: { readonly packet: Arena; readonly length: number; readonly mtu: number }[] = [];
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

  /** Copies a packet that was dropped; `mtu` would have fitted. */
  add(arena: Arena, offset: number, length: number, mtu: number): void {
    if (this.#waiting.length === MOST) return;
    const packet = new Arena(align(length));
    packet.bytes.set(arena.bytes.subarray(offset, offset + length));
    this.#waiting.push({ packet, length, mtu });
  }

  /** Tells the stack, which sends anew at its next flush. */
  report(now: Instant): void {
    this.#now = now;
    for (const { packet, length, mtu } of this.#waiting.splice(0)) {
      if (parsePacket(packet.bytes, 0, length, this.#parsed) !== Drop.none) continue;
      this.#replies.report(now, packet, this.#parsed, 'too_big', mtu);
    }
  }
}
