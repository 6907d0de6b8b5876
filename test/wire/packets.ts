/**
 * Packets for the tests of this folder: built byte by byte and checked by a slow checksum that shares no code with src/wire.
 */

/** RFC 1071 as its definition reads: 16-bit words, end-around carry after every addition. */
export function slowSum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < length; i++) {
    sum += i % 2 === 0 ? bytes[offset + i]! * 256 : bytes[offset + i]!;
    while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  }
  return sum;
}

export interface TcpShape {
  readonly family: 4 | 6;
  readonly payload: Uint8Array;
  readonly sequence?: number;
  readonly acknowledgment?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly options?: Uint8Array;
  readonly identification?: number;
  readonly dontFragment?: boolean;
  readonly trafficClass?: number;
  readonly hopLimit?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly host?: number;
  /** UDP instead of TCP. */
  readonly udp?: boolean;
}

/** One complete packet with right checksums. */
export function packet(shape: TcpShape): Uint8Array {
  const options = shape.options ?? new Uint8Array(0);
  const transportHeader = shape.udp === true ? 8 : 20 + options.length;
  const ipHeader = shape.family === 4 ? 20 : 40;
  const transportLength = transportHeader + shape.payload.length;
  const bytes = new Uint8Array(ipHeader + transportLength);
  const view = new DataView(bytes.buffer);
  const protocol = shape.udp === true ? 17 : 6;
  const host = shape.host ?? 1;
  if (shape.family === 4) {
    bytes[0] = 0x45;
    bytes[1] = shape.trafficClass ?? 0;
    view.setUint16(2, bytes.length);
    view.setUint16(4, shape.identification ?? 0x1234);
    view.setUint16(6, (shape.dontFragment ?? true) ? 0x4000 : 0);
    bytes[8] = shape.hopLimit ?? 64;
    bytes[9] = protocol;
    bytes.set([10, 9, 8, host, 192, 0, 2, 200], 12);
  } else {
    view.setUint32(0, 0x60000000 | ((shape.trafficClass ?? 0) << 20) | 0x4321);
    view.setUint16(4, transportLength);
    bytes[6] = protocol;
    bytes[7] = shape.hopLimit ?? 64;
    bytes.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host], 8);
    bytes.set([0xfd, 0, 0xff, 0xfe, 9, 9, 9, 9, 8, 8, 8, 8, 7, 7, 7, 250], 24);
  }
  const at = ipHeader;
  view.setUint16(at, shape.sourcePort ?? 40000);
  view.setUint16(at + 2, shape.destinationPort ?? 443);
  if (shape.udp === true) view.setUint16(at + 4, transportLength);
  else {
    view.setUint32(at + 4, shape.sequence ?? 1000);
    view.setUint32(at + 8, shape.acknowledgment ?? 77);
    bytes[at + 12] = (transportHeader / 4) << 4;
    bytes[at + 13] = shape.flags ?? 0x10;
    view.setUint16(at + 14, shape.window ?? 502);
    bytes.set(options, at + 20);
  }
  bytes.set(shape.payload, at + transportHeader);
  fixChecksums(bytes);
  return bytes;
}

/** Where a packet's transport header begins and which protocol it is (no extension headers). */
function transportOf(bytes: Uint8Array): { readonly at: number; readonly protocol: number; readonly field: number } {
  const isV4 = bytes[0]! >>> 4 === 4;
  const protocol = isV4 ? bytes[9]! : bytes[6]!;
  const at = isV4 ? (bytes[0]! & 15) * 4 : 40;
  return { at, protocol, field: at + (protocol === 17 ? 6 : 16) };
}

/** The slow sum of the pseudo-header. */
export function slowPseudo(bytes: Uint8Array, protocol: number, length: number): number {
  const isV4 = bytes[0]! >>> 4 === 4;
  return slowSum(bytes, isV4 ? 12 : 8, isV4 ? 8 : 32, protocol + length);
}

/** Writes all checksums of a TCP or UDP packet. */
export function fixChecksums(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (bytes[0]! >>> 4 === 4) {
    view.setUint16(10, 0);
    view.setUint16(10, ~slowSum(bytes, 0, (bytes[0]! & 15) * 4) & 0xffff);
  }
  const { at, protocol, field } = transportOf(bytes);
  view.setUint16(field, 0);
  const sum = slowSum(bytes, at, bytes.length - at, slowPseudo(bytes, protocol, bytes.length - at));
  const checksum = ~sum & 0xffff;
  view.setUint16(field, protocol === 17 && checksum === 0 ? 0xffff : checksum);
}

/** Whether the IP and transport checksums of a packet are right. */
export function isValid(bytes: Uint8Array): boolean {
  if (bytes[0]! >>> 4 === 4 && slowSum(bytes, 0, (bytes[0]! & 15) * 4) !== 0xffff) return false;
  const { at, protocol } = transportOf(bytes);
  const length = bytes.length - at;
  return slowSum(bytes, at, length, slowPseudo(bytes, protocol, length)) === 0xffff;
}

/** Makes a packet what the kernel hands over for segmentation: the pseudo-header's sum in the transport checksum field. */
export function makePartial(bytes: Uint8Array): Uint8Array {
  const { at, protocol, field } = transportOf(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(field, slowPseudo(bytes, protocol, bytes.length - at));
  return bytes;
}

/** Bytes that differ at every place. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
