/**
 * Packets as a trace sees them, written by hand for its tests.
 */
import { IpAddress } from '../../../src/base/address.js';
import { instantAt } from '../../../src/base/time.js';
import { completeTransport, writeHead } from '../../../src/trace/net/ip-packet.js';
import { Reply } from '../../../src/trace/net/reply.js';
import { Arena } from '../../../src/wire/arena.js';
import { writeIcmp } from '../../../src/wire/icmp.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from '../../../src/wire/ip.js';
import { TcpOptions, writeTcp, writeTcpOptions } from '../../../src/wire/tcp.js';
import { writeUdp } from '../../../src/wire/udp.js';

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const ip = (address: string): IpAddress => IpAddress.parse(address)!;

export interface Ends {
  readonly from: IpAddress;
  readonly to: IpAddress;
  readonly ttl?: number;
}

function packet(ends: Ends, protocol: number, length: number, write: (arena: Arena, at: number) => void): Uint8Array {
  const arena = new Arena(4096);
  const head = { source: ends.from, destination: ends.to, protocol, ttl: ends.ttl ?? 60, tos: 0 };
  const at = writeHead(arena, { ...head, identification: 7, dontFragment: false }, length);
  write(arena, at);
  completeTransport(arena, at, length, protocol);
  return arena.bytes.slice(0, at + length);
}

const icmpOf = ({ from }: Ends): number => (from.isV4 ? PROTO_ICMP : PROTO_ICMPV6);

/** An ICMP message with anything behind its header. @param rest the second word of the header */
export function icmp(ends: Ends, type: number, code: number, rest: number, body: Uint8Array): Uint8Array {
  return packet(ends, icmpOf(ends), 8 + body.length, (arena, at) => {
    writeIcmp(arena.bytes, at, type, code, rest);
    arena.bytes.set(body, at + 8);
  });
}

/** The error a router sends about `probe`, which arrived there with TTL 1. */
export function timeExceeded(ends: Ends, probe: Uint8Array, quoted = probe.length): Uint8Array {
  return icmp(ends, ends.from.isV4 ? 11 : 3, 0, 0, probe.subarray(0, quoted));
}

export function unreachable(ends: Ends, probe: Uint8Array, code: number): Uint8Array {
  return icmp(ends, ends.from.isV4 ? 3 : 1, code, 0, probe);
}

export function tooBig(ends: Ends, probe: Uint8Array, mtu: number): Uint8Array {
  const body = probe.subarray(0, 548);
  return ends.from.isV4 ? icmp(ends, 3, 4, mtu, body) : icmp(ends, 2, 0, mtu, body);
}

export interface TcpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly options?: TcpOptions;
}

export function tcp(ends: Ends, fields: TcpFields): Uint8Array {
  const options = new Uint8Array(40);
  const length = writeTcpOptions(options, 0, fields.options ?? new TcpOptions());
  return packet(ends, PROTO_TCP, 20 + length, (arena, at) => {
    const { sourcePort, destinationPort, sequence, acknowledgment, flags } = fields;
    writeTcp(arena.bytes, at, sourcePort, destinationPort, sequence, acknowledgment, flags, 1000, length);
    arena.bytes.set(options.subarray(0, length), at + 20);
  });
}

export function udp(ends: Ends, sourcePort: number, destinationPort: number, body: Uint8Array): Uint8Array {
  return packet(ends, PROTO_UDP, 8 + body.length, (arena, at) => {
    writeUdp(arena.bytes, at, sourcePort, destinationPort, body.length);
    arena.bytes.set(body, at + 8);
  });
}

/** A captured packet as methods get it; undefined for noise. */
export function captured(bytes: Uint8Array, at = 0): Reply | undefined {
  const reply = new Reply();
  return reply.read(bytes, 0, bytes.length, instantAt(at)) ? reply : undefined;
}
