/**
 * TCP segments as probes: the whole packet.
 *
 *   │ IP │ ports · sequence · acknowledgment · flags · window 1024 │ options │ first byte, zeros │
 *
 * RFC 9293 §3.1.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Arena } from '../../wire/arena.js';
import { PROTO_TCP, TCP_HEADER } from '../../wire/ip.js';
import { type TcpOptions, writeTcp, writeTcpOptions } from '../../wire/tcp.js';
import { completeTransport, headerLength, writeHead } from './ip-packet.js';

/** Identification of all probes that need none to be told apart. */
export const CONSTANT_ID = 41_821;
const WINDOW = 1024;

export interface Segment {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly ttl: number;
  readonly tos: number;
  readonly identification: number;
  readonly dontFragment: boolean;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly options: TcpOptions;
  readonly payload: number;
  /** What the first byte of the payload is; the others are 0. */
  readonly firstByte: number;
}

/** Writes the packet at 0; returns its length. */
export function writeSegment(arena: Arena, segment: Segment): number {
  const { source, destination, payload } = segment;
  const start = headerLength(source.ip) + TCP_HEADER;
  const optionsLength = writeTcpOptions(arena.bytes, start, segment.options);
  const length = TCP_HEADER + optionsLength + payload;
  const at = writeHead(
    arena,
    {
      source: source.ip,
      destination: destination.ip,
      protocol: PROTO_TCP,
      ttl: segment.ttl,
      tos: segment.tos,
      identification: segment.identification,
      dontFragment: segment.dontFragment,
    },
    length,
  );
  const { sequence, acknowledgment, flags } = segment;
  writeTcp(arena.bytes, at, source.port, destination.port, sequence, acknowledgment, flags, WINDOW, optionsLength);
  arena.bytes.fill(0, start + optionsLength, at + length);
  if (payload > 0) arena.bytes[start + optionsLength] = segment.firstByte;
  completeTransport(arena, at, length, PROTO_TCP);
  return at + length;
}
