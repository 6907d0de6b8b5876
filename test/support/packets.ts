/** Inner IP packets for tests, built byte by byte; nothing here comes from src/wire. */
import { IpAddress } from '../../src/base/address.js';

export const PROTO = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;
const EMPTY = new Uint8Array(0);

/** The address words of an IPv6 header, or of a packet of either family as the parser describes it. */
export const addressWords = (from: IpAddress, to: IpAddress) => ({
  source0: from.w0,
  source1: from.w1,
  source2: from.w2,
  source3: from.w3,
  destination0: to.w0,
  destination1: to.w1,
  destination2: to.w2,
  destination3: to.w3,
});

export interface PacketShape {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  /** Transport header and payload; checksums are filled in for tcp, udp, icmp and icmp6. */
  readonly body: Uint8Array;
  readonly hopLimit?: number;
  /** IPv4 only: fragment offset in bytes, and whether more follow. */
  readonly fragment?: { readonly offset: number; readonly more: boolean; readonly id?: number };
  /** IPv4 only: option bytes, a multiple of 4. */
  readonly options?: Uint8Array;
  readonly dontFragment?: boolean;
  readonly keepChecksum?: boolean;
}

export function ipPacket(shape: PacketShape): Uint8Array {
  const from = IpAddress.parse(shape.from)!.toBytes();
  const to = IpAddress.parse(shape.to)!.toBytes();
  const options = shape.options ?? EMPTY;
  const isV4 = from.length === 4;
  const header = isV4 ? 20 + options.length : 40;
  const packet = new Uint8Array(header + shape.body.length);
  const view = new DataView(packet.buffer);
  packet.set(shape.body, header);
  if (isV4) {
    packet[0] = 0x40 | (header / 4);
    view.setUint16(2, packet.length);
    view.setUint16(4, shape.fragment?.id ?? 77);
    const { fragment } = shape;
    const flags = fragment === undefined ? (shape.dontFragment === false ? 0 : 0x4000) : fragment.more ? 0x2000 : 0;
    view.setUint16(6, flags | ((fragment?.offset ?? 0) >> 3));
    packet[8] = shape.hopLimit ?? 64;
    packet[9] = shape.protocol;
    packet.set(from, 12);
    packet.set(to, 16);
    packet.set(options, 20);
    view.setUint16(10, ~sum(packet.subarray(0, header), 0) & 0xffff);
  } else {
    packet[0] = 0x60;
    view.setUint16(4, shape.body.length);
    packet[6] = shape.protocol;
    packet[7] = shape.hopLimit ?? 64;
    packet.set(from, 8);
    packet.set(to, 24);
  }
  if (shape.fragment === undefined && shape.keepChecksum !== true)
    fixTransport(packet, header, shape.protocol, from, to);
  return packet;
}

function fixTransport(packet: Uint8Array, at: number, protocol: number, from: Uint8Array, to: Uint8Array): void {
  const field = { [PROTO.tcp]: 16, [PROTO.udp]: 6, [PROTO.icmp]: 2, [PROTO.icmp6]: 2 }[protocol];
  if (field === undefined || packet.length < at + field + 2) return;
  const length = packet.length - at;
  const pseudo = protocol === PROTO.icmp ? 0 : sum(from, sum(to, protocol + length));
  const view = new DataView(packet.buffer);
  view.setUint16(at + field, 0);
  view.setUint16(at + field, ~sum(packet.subarray(at), pseudo) & 0xffff);
}

function sum(bytes: Uint8Array, initial: number): number {
  let total = initial;
  for (let i = 0; i < bytes.length; i++) total += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

type Ends = { readonly from: string; readonly to: string } & Partial<PacketShape>;

export function udpPacket(ends: Ends, sourcePort: number, port: number, payload: Uint8Array | string): Uint8Array {
  const data = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
  const body = new Uint8Array(8 + data.length);
  const view = new DataView(body.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, port);
  view.setUint16(4, body.length);
  body.set(data, 8);
  return ipPacket({ protocol: PROTO.udp, body, ...ends });
}

export function tcpPacket(
  ends: Ends,
  sourcePort: number,
  port: number,
  flags = 2,
  options: Uint8Array = EMPTY,
): Uint8Array {
  const body = new Uint8Array(20 + options.length);
  const view = new DataView(body.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, port);
  view.setUint32(4, 1000);
  body[12] = (body.length / 4) << 4;
  body[13] = flags;
  view.setUint16(14, 65_535);
  body.set(options, 20);
  return ipPacket({ protocol: PROTO.tcp, body, ...ends });
}

/** An ICMP message of the addresses' family: type, code, four bytes, data. */
export function icmpPacket(ends: Ends, type: number, code: number, rest: number, data: Uint8Array = EMPTY): Uint8Array {
  const body = new Uint8Array(8 + data.length);
  body[0] = type;
  body[1] = code;
  new DataView(body.buffer).setUint32(4, rest);
  body.set(data, 8);
  return ipPacket({ protocol: ends.from.includes(':') ? PROTO.icmp6 : PROTO.icmp, body, ...ends });
}

export function echoRequest(ends: Ends, identifier: number, sequence: number, data?: Uint8Array): Uint8Array {
  return icmpPacket(ends, ends.from.includes(':') ? 128 : 8, 0, ((identifier << 16) | sequence) >>> 0, data);
}

/** What a packet is, read back as simply as it was built. */
export function readPacket(packet: Uint8Array) {
  const isV4 = packet[0]! >>> 4 === 4;
  const header = isV4 ? (packet[0]! & 15) * 4 : 40;
  const view = new DataView(packet.buffer, packet.byteOffset);
  const protocol = isV4 ? packet[9]! : packet[6]!;
  const size = isV4 ? 4 : 16;
  const start = isV4 ? 12 : 8;
  const ip = (at: number): string => IpAddress.fromBytes(packet, at, size).toString();
  const hasPorts = protocol === PROTO.tcp || protocol === PROTO.udp;
  return {
    protocol,
    from: ip(start),
    to: ip(start + size),
    sourcePort: hasPorts ? view.getUint16(header) : 0,
    port: hasPorts ? view.getUint16(header + 2) : 0,
    icmpType: packet[header]!,
    icmpCode: packet[header + 1]!,
    rest: view.getUint32(header + 4),
    flags: protocol === PROTO.tcp ? packet[header + 13]! : 0,
    /** Behind a UDP or ICMP header. */
    data: packet.slice(header + 8),
    transport: packet.slice(header),
  };
}
