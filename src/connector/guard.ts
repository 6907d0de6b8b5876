/**
 * The guard of a session: every packet an agent sends is judged here before the stack sees it.
 *
 *   source = the agent's overlay address     destination, protocol, port inside a service it may use     lengths consistent
 *
 * Later fragments carry no ports: they pass when their destination is allowed at all, and the whole datagram is judged
 * again when its flow is admitted.
 */
import type { IpAddress } from '../base/address.js';
import { Drop } from '../base/drop.js';
import type { AccessTable } from '../policy/access.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_ICMP, PROTO_ICMPV6 } from '../wire/ip.js';

const ECHO_REQUEST_V4 = 8;
const ECHO_REQUEST_V6 = 128;
/** Destination unreachable and time exceeded: what a path may tell us about our own packets (RFC 792). */
const V4_ERRORS: ReadonlySet<number> = new Set([3, 11]);
/** Destination unreachable, packet too big, time exceeded (RFC 4443). */
const V6_ERRORS: ReadonlySet<number> = new Set([1, 2, 3]);

/** Whether a packet is such an error, with the packet it is about. One family's ICMP in the other is none. */
export function isPathError(packet: ParsedPacket): boolean {
  if (packet.fragmentOffset > 0) return false;
  if (packet.family === 4) return packet.protocol === PROTO_ICMP && V4_ERRORS.has(packet.icmpType);
  return packet.protocol === PROTO_ICMPV6 && V6_ERRORS.has(packet.icmpType);
}

export class Guard {
  /** What the last packet was; for the report about a denied one. */
  readonly packet = new ParsedPacket();
  /** Index of the service that the last packet is for; negative where that does not show: ICMP errors, later fragments. */
  service = -1;
  readonly #overlay4: IpAddress | undefined;
  readonly #overlay6: IpAddress | undefined;

  constructor(overlay4: IpAddress | undefined, overlay6: IpAddress | undefined) {
    this.#overlay4 = overlay4;
    this.#overlay6 = overlay6;
  }

  /** `Drop.none`, or why the packet must not pass. */
  judge(access: AccessTable, bytes: Uint8Array, offset: number, length: number): number {
    const packet = this.packet;
    const drop = parsePacket(bytes, offset, length, packet);
    if (drop !== Drop.none) return drop;
    const own = packet.family === 4 ? this.#overlay4 : this.#overlay6;
    if (
      own === undefined ||
      packet.source3 !== own.w3 ||
      packet.source2 !== own.w2 ||
      packet.source1 !== own.w1 ||
      packet.source0 !== own.w0
    ) {
      return Drop.source_not_allowed;
    }
    if (packet.isSourceRouted) return Drop.bad_option;
    const result = access.check(
      packet.protocol,
      packet.destination0,
      packet.destination1,
      packet.destination2,
      packet.destination3,
      packet.destinationPort,
    );
    this.service = result;
    const isLaterFragment = packet.isFragment && packet.fragmentOffset > 0;
    if (packet.protocol === PROTO_ICMP || packet.protocol === PROTO_ICMPV6) {
      if (isLaterFragment) return result >= 0 ? Drop.none : -result;
      return this.#judgeIcmp(result);
    }
    if (result >= 0 || (isLaterFragment && result === -Drop.port_not_allowed)) return Drop.none;
    return -result;
  }

  /** Echo requests need a grant of their own; errors about our packets only a destination that is allowed in some way. */
  #judgeIcmp(result: number): number {
    const { icmpType, protocol } = this.packet;
    if (isPathError(this.packet)) {
      this.service = -1;
      return result === -Drop.destination_not_allowed ? Drop.destination_not_allowed : Drop.none;
    }
    if (icmpType !== (protocol === PROTO_ICMP ? ECHO_REQUEST_V4 : ECHO_REQUEST_V6)) return Drop.protocol_not_allowed;
    return result >= 0 ? Drop.none : -result;
  }
}
