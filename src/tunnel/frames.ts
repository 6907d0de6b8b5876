/**
 * What may start a UDP payload, and the Sallyport frames that share a port with QUIC.
 *
 *   first byte    11xxxxxx  QUIC long header        01xxxxxx  QUIC short header (the QUIC bit is never greased)
 *                 00xxxxxx  Sallyport frame, the byte is its type        10xxxxxx  nothing of ours
 *
 *   RELAYED      10 · channel u64 · inner QUIC packet
 *   PUNCH        11 · see punch/punch-frame.ts
 *   PROBE        12 · flags u8 (bit 0: answer from the other port) · nonce u64 · delay u16 (seconds) · padding to 64
 *   PROBE REPLY  13 · nonce u64 · family u8 (4, 6) · address[4 or 16] · port u16 · port that answered u16 · other port u16 (0 = none)
 *   REVALIDATE   14 · nonce u64
 *
 * and the DATAGRAM payloads of a relay connection:
 *
 *   OBSERVED     01 · IPv4[4] · port u16         02 · IPv6[16] · port u16
 *   REVALIDATED  03 · nonce u64
 *
 * See RFC 9443 (which first bytes QUIC leaves free) and RFC 9000 §17.
 */
import { IpAddress, SocketAddress } from '../base/address.js';

/** Frame types of a UDP payload. */
export const Frame = { relayed: 0x10, punch: 0x11, probe: 0x12, probeReply: 0x13, revalidate: 0x14 } as const;

/** Payload types of a DATAGRAM on a relay connection. */
export const RelayDatagram = { observedV4: 0x01, observedV6: 0x02, revalidated: 0x03 } as const;

/** Bytes before the inner packet of a RELAYED frame: type and channel. */
export const RELAYED_HEADER = 9;
/** Shortest QUIC packet worth forwarding: a short header, a connection id's first bytes and an AEAD tag (RFC 9001 §5.4.2). */
export const SHORTEST_QUIC_PACKET = 21;
export const REVALIDATE_LENGTH = 9;
export const PROBE_LENGTH = 64;

/** Kinds of UDP payload by their first byte. */
export const Payload = { quicLong: 0, quicShort: 1, frame: 2, unknown: 3 } as const;
export type Payload = (typeof Payload)[keyof typeof Payload];

export function classify(firstByte: number): Payload {
  switch (firstByte >>> 6) {
    case 3:
      return Payload.quicLong;
    case 1:
      return Payload.quicShort;
    case 0:
      return Payload.frame;
    default:
      return Payload.unknown;
  }
}

/** The unsigned big-endian word at `offset`. */
export function wordAt(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>> 0;
}

export function putWord(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/** Writes the RELAYED header at `offset`. */
export function putRelayed(bytes: Uint8Array, offset: number, channelHigh: number, channelLow: number): void {
  bytes[offset] = Frame.relayed;
  putWord(bytes, offset + 1, channelHigh);
  putWord(bytes, offset + 5, channelLow);
}

/** A 64-bit identifier as its two words. */
export interface Word64 {
  readonly high: number;
  readonly low: number;
}

/** REVALIDATE as a UDP payload. */
export function encodeRevalidate(nonce: Word64): Uint8Array {
  return encodeNonce(Frame.revalidate, nonce);
}

/** The answer to REVALIDATE, a DATAGRAM on the relay connection. */
export function encodeRevalidated(nonce: Word64): Uint8Array {
  return encodeNonce(RelayDatagram.revalidated, nonce);
}

function encodeNonce(type: number, nonce: Word64): Uint8Array {
  const out = new Uint8Array(REVALIDATE_LENGTH);
  out[0] = type;
  putWord(out, 1, nonce.high);
  putWord(out, 5, nonce.low);
  return out;
}

/** The nonce of a REVALIDATE frame or of its answer; undefined when the length is wrong. */
export function decodeNonce(bytes: Uint8Array, offset: number, length: number): Word64 | undefined {
  if (length !== REVALIDATE_LENGTH) return undefined;
  return { high: wordAt(bytes, offset + 1), low: wordAt(bytes, offset + 5) };
}

/** OBSERVED for `address`, a DATAGRAM payload. */
export function encodeObserved(address: SocketAddress): Uint8Array {
  const ip = address.ip.toBytes();
  const out = new Uint8Array(1 + ip.length + 2);
  out[0] = ip.length === 4 ? RelayDatagram.observedV4 : RelayDatagram.observedV6;
  out.set(ip, 1);
  out[ip.length + 1] = address.port >>> 8;
  out[ip.length + 2] = address.port;
  return out;
}

/** The address in an OBSERVED payload; undefined when type and length disagree. */
export function decodeObserved(bytes: Uint8Array, offset: number, length: number): SocketAddress | undefined {
  const type = length > 0 ? bytes[offset] : 0;
  const size = type === RelayDatagram.observedV4 ? 4 : type === RelayDatagram.observedV6 ? 16 : 0;
  if (size === 0 || length !== size + 3) return undefined;
  const ip = IpAddress.fromBytes(bytes, offset + 1, size as 4 | 16);
  if (size === 16 && ip.isV4) return undefined;
  return new SocketAddress(ip, (bytes[offset + size + 1]! << 8) | bytes[offset + size + 2]!);
}

/** What a PROBE asks for. */
export interface Probe {
  readonly nonce: Word64;
  /** The relay's other port is to answer. */
  readonly fromOtherPort: boolean;
  /** The answer is to come this many seconds later; 0 = at once. */
  readonly delaySeconds: number;
}

/** Flag of a PROBE: the other port is to answer. */
const FROM_OTHER_PORT = 1;

/** Undefined when it is not a PROBE. A probe is exactly as long as its answer may get at most. */
export function decodeProbe(bytes: Uint8Array, offset: number, length: number): Probe | undefined {
  if (length !== PROBE_LENGTH) return undefined;
  return {
    nonce: { high: wordAt(bytes, offset + 2), low: wordAt(bytes, offset + 6) },
    fromOtherPort: (bytes[offset + 1]! & FROM_OTHER_PORT) !== 0,
    delaySeconds: (bytes[offset + 10]! << 8) | bytes[offset + 11]!,
  };
}

export function encodeProbe(nonce: Word64, fromOtherPort = false, delaySeconds = 0): Uint8Array {
  const out = new Uint8Array(PROBE_LENGTH);
  out[0] = Frame.probe;
  out[1] = fromOtherPort ? FROM_OTHER_PORT : 0;
  putWord(out, 2, nonce.high);
  putWord(out, 6, nonce.low);
  out[10] = delaySeconds >>> 8;
  out[11] = delaySeconds;
  return out;
}

/** PROBE REPLY telling where the request came from, which port answers and which other one there is (0 = none). */
export function encodeProbeReply(
  nonce: Word64,
  observed: SocketAddress,
  answeringPort: number,
  otherPort: number,
): Uint8Array {
  const ip = observed.ip.toBytes();
  const out = new Uint8Array(9 + 1 + ip.length + 6);
  out[0] = Frame.probeReply;
  putWord(out, 1, nonce.high);
  putWord(out, 5, nonce.low);
  out[9] = observed.ip.family;
  out.set(ip, 10);
  [observed.port, answeringPort, otherPort].forEach((port, index) => {
    out[10 + ip.length + index * 2] = port >>> 8;
    out[11 + ip.length + index * 2] = port;
  });
  return out;
}

export interface ProbeReply {
  readonly nonce: Word64;
  readonly observed: SocketAddress;
  readonly answeringPort: number;
  /** Of the relay, for classification; 0 = it has none. */
  readonly otherPort: number;
}

export function decodeProbeReply(bytes: Uint8Array, offset: number, length: number): ProbeReply | undefined {
  if (length < 20) return undefined;
  const size = bytes[offset + 9] === 4 ? 4 : bytes[offset + 9] === 6 ? 16 : 0;
  if (size === 0 || length !== 16 + size) return undefined;
  const end = offset + 10 + size;
  const port = (index: number): number => (bytes[end + index * 2]! << 8) | bytes[end + index * 2 + 1]!;
  return {
    nonce: { high: wordAt(bytes, offset + 1), low: wordAt(bytes, offset + 5) },
    observed: new SocketAddress(IpAddress.fromBytes(bytes, offset + 10, size as 4 | 16), port(0)),
    answeringPort: port(1),
    otherPort: port(2),
  };
}
