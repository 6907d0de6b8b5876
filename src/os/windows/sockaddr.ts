/**
 * Socket addresses as Windows lays them out.
 *
 *   SOCKADDR_IN   (16 bytes)  family u16 · port be16 · address[4] · zero[8]
 *   SOCKADDR_IN6  (28 bytes)  family u16 · port be16 · flow u32 · address[16] · scope u32
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { AF_INET, AF_INET6 } from './constants.js';

const V4_BYTES = 16;
export const SOCKADDR_ROOM = 28;

export function sockaddr({ ip, port }: SocketAddress): Uint8Array {
  const out = new Uint8Array(ip.isV4 ? V4_BYTES : SOCKADDR_ROOM);
  out[0] = ip.isV4 ? AF_INET : AF_INET6;
  out[2] = port >>> 8;
  out[3] = port;
  out.set(ip.toBytes(), ip.isV4 ? 4 : 8);
  return out;
}

/** Undefined for another family, or what is too short for its own. */
export function parseSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  const port = (bytes[2]! << 8) | bytes[3]!;
  const family = bytes[0]! | (bytes[1]! << 8);
  const [at, size] = family === AF_INET ? [4, 4] : family === AF_INET6 ? [8, 16] : [0, 0];
  if (size === 0 || bytes.length < at + size) return undefined;
  return new SocketAddress(IpAddress.fromBytes(bytes.slice(at, at + size)), port);
}

/** An int or BOOL, as options take it. */
export function integer(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setInt32(0, value, true);
  return out;
}
