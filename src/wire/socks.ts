/**
 * What both ends of SOCKS version 5 write: addresses, reply codes, and the header of a datagram.
 *
 *   datagram: reserved(2) = 0 · fragment · atyp · address · port(2) · data        atyp: 01 IPv4 · 03 name (length, bytes) · 04 IPv6
 *
 * RFC 1928 §5–7.
 */
import type { SocketAddress } from '../base/address.js';
import { IpAddress } from '../base/address.js';

/** RFC 1928 §6. */
export const SocksReply = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;

export const ATYP_V4 = 1;
export const ATYP_NAME = 3;
export const ATYP_V6 = 4;

/** Reserved and fragment; the address follows. */
export const UDP_HEAD = 3;
const PORT_BYTES = 2;

/** Length of the address from its type to its port, or −1 when the bytes hold none. */
export function addressLength(bytes: Uint8Array, offset: number, length: number): number {
  if (length < 1 + PORT_BYTES) return -1;
  const type = bytes[offset];
  const n = type === ATYP_V4 ? 4 : type === ATYP_V6 ? 16 : type === ATYP_NAME ? 1 + bytes[offset + 1]! : -1;
  const total = 1 + n + PORT_BYTES;
  return n < 2 || total > length ? -1 : total;
}

/** The address of `length` bytes (as `addressLength` says) as a target; undefined for a name of other than printable ASCII. */
export function readAddress(
  bytes: Uint8Array,
  offset: number,
  length: number,
): { readonly host: string; readonly port: number } | undefined {
  const end = offset + length - PORT_BYTES;
  const type = bytes[offset];
  const host =
    type === ATYP_NAME
      ? printable(bytes, offset + 2, end)
      : IpAddress.fromBytes(bytes, offset + 1, type === ATYP_V4 ? 4 : 16).toString();
  return host === undefined ? undefined : { host, port: (bytes[end]! << 8) | bytes[end + 1]! };
}

/** Type, name and port; the name is ASCII, 1–255 bytes. */
export function encodeName(host: string, port: number): Uint8Array {
  const bytes = Uint8Array.from(host, (character) => character.charCodeAt(0));
  return Uint8Array.of(ATYP_NAME, bytes.length, ...bytes, port >>> 8, port & 0xff);
}

/** Type, address and port. */
export function encodeAddress({ ip, port }: SocketAddress): Uint8Array {
  return Uint8Array.of(ip.isV4 ? ATYP_V4 : ATYP_V6, ...ip.toBytes(), port >>> 8, port & 0xff);
}

/** A name in printable ASCII; undefined when it is empty or has other bytes. */
function printable(bytes: Uint8Array, from: number, end: number): string | undefined {
  if (from >= end) return undefined;
  let text = '';
  for (let i = from; i < end; i++) {
    const byte = bytes[i]!;
    if (byte <= 0x20 || byte >= 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}
