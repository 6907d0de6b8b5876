/**
 * Socket addresses as BSD lays them out.
 *
 *   sockaddr_in   (16 bytes)  length u8 · family u8 · port be16 · address[4] · zero[8]
 *   sockaddr_in6  (28 bytes)  length u8 · family u8 · port be16 · flow u32 · address[16] · scope u32
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { AF_INET, AF_INET6 } from './constants.js';

const V4_BYTES = 16;
const V6_BYTES = 28;

export function sockaddr({ ip, port }: SocketAddress): Uint8Array {
  const out = new Uint8Array(ip.isV4 ? V4_BYTES : V6_BYTES);
  out[0] = out.length;
  out[1] = ip.isV4 ? AF_INET : AF_INET6;
  out[2] = port >>> 8;
  out[3] = port;
  out.set(ip.toBytes(), ip.isV4 ? 4 : 8);
  return out;
}

/** Undefined for another family, or what is too short for its own. */
export function parseSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  const port = (bytes[2]! << 8) | bytes[3]!;
  const [at, size] = bytes[1] === AF_INET ? [4, 4] : bytes[1] === AF_INET6 ? [8, 16] : [0, 0];
  if (size === 0 || bytes.length < at + size) return undefined;
  return new SocketAddress(IpAddress.fromBytes(bytes.subarray(at, at + size)), port);
}

/** Room for either. */
export const SOCKADDR_ROOM = V6_BYTES;
