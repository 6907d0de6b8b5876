/**
 * What the extension headers of an IPv6 packet ask of its destination: options it does not know, and routing headers.
 *
 *   options (Hop-by-Hop, Destination)      00xxxxxx skip │ 01 drop │ 10 drop, tell │ 11 drop, tell unless sent to a multicast address
 *   routing, segments left > 0             drop, tell: no type is followed here; with none left it is skipped
 *
 * In a fragment only what stands before the Fragment header counts: the rest is judged when the packet is whole.
 * RFC 8200 §4.2, §4.4; RFC 5095 (type 0).
 */
import { Drop, type DropReason } from '../base/drop.js';
import type { IcmpErrorKind } from './icmp-error.js';
import type { ParsedPacket } from './inner.js';
import {
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  PROTO_AH,
  PROTO_DESTINATION_OPTIONS,
  PROTO_FRAGMENT,
  PROTO_HOP_BY_HOP,
  PROTO_ROUTING,
} from './ip.js';

const PAD1 = 0;
const PADN = 1;
const DISCARD = 1;
const TELL_UNLESS_MULTICAST = 3;
const SEGMENTS_LEFT = 3;
const ROUTING_TYPE = 2;

/** Why a packet is not taken, and what its sender is told. */
export class ExtensionVerdict {
  /** Undefined: nothing is told. */
  kind: IcmpErrorKind | undefined;
  /** Of the field that is not understood, from the packet's beginning, bytes. */
  pointer = 0;
}

/**
 * Judges the extension headers of a packet that `parsePacket` has taken, with `hasOptions`.
 * @returns `bad_option` (and `out` says what to tell), `malformed` (an option longer than its header) or `none`.
 */
export function judgeExtensions(bytes: Uint8Array, packet: ParsedPacket, out: ExtensionVerdict): DropReason {
  out.kind = undefined;
  const { offset } = packet;
  let at = offset + IPV6_HEADER;
  let kind = bytes[offset + 6]!;
  while (at < packet.transportOffset) {
    const next = bytes[at]!;
    if (kind === PROTO_FRAGMENT) {
      if (packet.isFragment) return Drop.none;
      at += IPV6_FRAGMENT_HEADER;
    } else {
      const end = at + (kind === PROTO_AH ? (bytes[at + 1]! + 2) * 4 : (bytes[at + 1]! + 1) * 8);
      if (kind === PROTO_HOP_BY_HOP || kind === PROTO_DESTINATION_OPTIONS) {
        const drop = judgeOptions(bytes, packet, at + 2, end, out);
        if (drop !== Drop.none) return drop;
      } else if (kind === PROTO_ROUTING && bytes[at + SEGMENTS_LEFT]! > 0) {
        out.kind = 'bad_header_field';
        out.pointer = at + ROUTING_TYPE - offset;
        return Drop.bad_option;
      }
      at = end;
    }
    kind = next;
  }
  return Drop.none;
}

function judgeOptions(
  bytes: Uint8Array,
  { offset, destination0 }: ParsedPacket,
  start: number,
  end: number,
  out: ExtensionVerdict,
): DropReason {
  for (let at = start; at < end; ) {
    const type = bytes[at]!;
    if (type === PAD1) {
      at++;
      continue;
    }
    if (at + 1 >= end || at + 2 + bytes[at + 1]! > end) return Drop.malformed;
    const action = type === PADN ? 0 : type >>> 6;
    if (action >= DISCARD) {
      const isMulticast = destination0 >>> 24 === 0xff;
      if (action !== DISCARD && !(action === TELL_UNLESS_MULTICAST && isMulticast)) out.kind = 'unknown_option';
      out.pointer = at - offset;
      return Drop.bad_option;
    }
    at += 2 + bytes[at + 1]!;
  }
  return Drop.none;
}
