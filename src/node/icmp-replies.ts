/**
 * ICMP errors that a node sends to its own side about packets that go no further, at a bounded rate (RFC 1812 §4.3.2.8,
 * RFC 4443 §2.4 f).
 */
import { TokenBucket } from '../base/bucket.js';
import type { Instant } from '../base/time.js';
import { Arena } from '../wire/arena.js';
import { ICMP_ERROR_MAX, type IcmpErrorKind, mayReport, writeIcmpError } from '../wire/icmp-error.js';
import type { ParsedPacket } from '../wire/inner.js';
import { VNET_HEADER } from '../wire/vnet.js';

/** Errors per second and at once, the values gVisor and tun2socks use. */
const RATE = 1000;
const BURST = 50;
/** Behind room for a virtio header, at a multiple of 4. */
const OFFSET = (VNET_HEADER + 3) & ~3;

export class IcmpReplies {
  readonly #arena = new Arena(OFFSET + ICMP_ERROR_MAX);
  readonly #bucket = new TokenBucket(RATE, BURST);
  readonly #send: (packet: Arena, offset: number, length: number) => void;

  /** @param send gets each message, with `VNET_HEADER` writable bytes before it; the memory is reused. */
  constructor(send: (packet: Arena, offset: number, length: number) => void) {
    this.#send = send;
  }

  /** Reports an error about `packet`, parsed from `arena`, if one may be reported. */
  report(now: Instant, arena: Arena, packet: ParsedPacket, kind: IcmpErrorKind, mtu = 0): void {
    if (!mayReport(packet) || !this.#bucket.take(now)) return;
    const length = writeIcmpError(this.#arena, OFFSET, arena.bytes, packet, kind, mtu);
    this.#send(this.#arena, OFFSET, length);
  }
}
