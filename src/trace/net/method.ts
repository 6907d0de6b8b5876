/**
 * What a protocol contributes to a trace over raw sockets: the bytes of a probe, and which captured packet answers which.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Arena } from '../../wire/arena.js';
import type { ReplyKind } from '../types.js';
import type { Answer, Probe } from './probe.js';
import type { Reply } from './reply.js';

export interface RawMethod {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** Writes the probe's packet at 0, remembers how to know it again, and returns the packet's length. */
  write(probe: Probe, arena: Arena): number;
  /** Undefined: not an answer to a probe of ours. */
  match(reply: Reply): Answer | undefined;
}

/** What stays the same in all packets of a run. */
export interface MethodOptions {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly tos: number;
  readonly paris: boolean;
}

/** The answer that a captured packet is. */
export function answerOf(reply: Reply, probe: Probe, kind: ReplyKind, isDestination: boolean, nat: boolean): Answer {
  const { packet, error, extensions } = reply;
  const answer = { probe, from: reply.from, kind, at: reply.at, isDestination, nat, replyTtl: packet.hopLimit };
  if (error === undefined) return kind === 'echo_reply' ? { ...answer, icmp: icmpOf(reply) } : answer;
  return {
    ...answer,
    icmp: icmpOf(reply),
    quotedTtl: reply.quotedTtl,
    mtu: error === 'packet_too_big' ? reply.mtu : 0,
    ...(extensions === undefined ? {} : { extensions }),
  };
}

const icmpOf = ({ packet }: Reply): { type: number; code: number } => ({
  type: packet.icmpType,
  code: packet.icmpCode,
});

/** Bytes of transport payload in a packet of `size` bytes, at least `least`. */
export const payloadLength = (size: number, headers: number, least: number): number =>
  Math.max(least, size === 0 ? 0 : size - headers);
