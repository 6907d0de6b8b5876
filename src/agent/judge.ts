/**
 * What an agent takes from a session: packets whose source is a service of that very connector, and whose destination is the
 * agent's own overlay address. Nothing else, whatever the connector sends.
 */
import { type IpAddress, V4_MAPPED } from '../base/address.js';
import { Drop } from '../base/drop.js';
import { readU32 } from '../wire/bytes.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { IPV4_HEADER, IPV6_HEADER } from '../wire/ip.js';
import type { Routes } from './routes.js';

export interface OwnAddresses {
  readonly overlay4: IpAddress | undefined;
  readonly overlay6: IpAddress | undefined;
}

/** `Drop.none`, or why the packet of this connector is not taken. */
export function judgeInbound(routes: Routes, own: OwnAddresses, connector: string, packet: CoalescedPacket): number {
  const { bytes } = packet.arena;
  const at = packet.offset;
  const isV4 = bytes[at]! >>> 4 === 4;
  if (packet.length < (isV4 ? IPV4_HEADER : IPV6_HEADER)) return Drop.bad_length;
  const isServed = isV4
    ? routes.isServedBy(connector, 0, 0, V4_MAPPED, readU32(bytes, at + 12))
    : routes.isServedBy(
        connector,
        readU32(bytes, at + 8),
        readU32(bytes, at + 12),
        readU32(bytes, at + 16),
        readU32(bytes, at + 20),
      );
  if (!isServed) return Drop.source_not_allowed;
  const mine = isV4 ? own.overlay4 : own.overlay6;
  if (mine === undefined) return Drop.destination_not_allowed;
  const to = isV4 ? at + 16 : at + 24;
  const matches = isV4
    ? readU32(bytes, to) === mine.w3
    : readU32(bytes, to) === mine.w0 &&
      readU32(bytes, to + 4) === mine.w1 &&
      readU32(bytes, to + 8) === mine.w2 &&
      readU32(bytes, to + 12) === mine.w3;
  return matches ? Drop.none : Drop.destination_not_allowed;
}
