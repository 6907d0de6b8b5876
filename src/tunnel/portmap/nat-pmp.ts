/**
 * NAT-PMP (RFC 6886): asks the gateway, on its UDP port 5351, for its public address and for a public UDP port.
 *
 *   address   request   00 · 00
 *             response  00 · 80 · result u16 · epoch u32 · IPv4[4]
 *   map UDP   request   00 · 01 · 0000 · inside port u16 · wanted public port u16 · lifetime u32 (seconds; 0 = remove)
 *             response  00 · 81 · result u16 · epoch u32 · inside port u16 · public port u16 · lifetime u32
 */
import { IpAddress } from '../../base/address.js';
import { putWord, wordAt } from '../frames.js';

/** UDP port of the gateway, for NAT-PMP and PCP (RFC 6886 §3.1, RFC 6887 §19.1). */
export const PORT_MAPPING_PORT = 5351;
/** RFC 6886 §3.5. */
const SUCCESS = 0;
const VERSION = 0;
const RESPONSE = 0x80;
const Opcode = { address: 0, mapUdp: 1 } as const;
const ADDRESS_LENGTH = 12;
const MAP_LENGTH = 16;

export function encodePmpAddressRequest(): Uint8Array {
  return Uint8Array.of(VERSION, Opcode.address);
}

/** @param lifetime seconds; 0 removes the mapping. */
export function encodePmpMapRequest(insidePort: number, wantedPort: number, lifetime: number): Uint8Array {
  const out = new Uint8Array(12);
  out[1] = Opcode.mapUdp;
  putPort(out, 4, insidePort);
  putPort(out, 6, lifetime === 0 ? 0 : wantedPort);
  putWord(out, 8, lifetime);
  return out;
}

export type PmpReply =
  | { readonly kind: 'address'; readonly address: IpAddress }
  | { readonly kind: 'mapped'; readonly insidePort: number; readonly publicPort: number; readonly lifetime: number }
  /** Result codes of RFC 6886 §3.5. */
  | { readonly kind: 'refused'; readonly result: number };

/** Undefined when it is no NAT-PMP response. */
export function decodePmpReply(bytes: Uint8Array): PmpReply | undefined {
  if (bytes.length < 4 || bytes[0] !== VERSION || (bytes[1]! & RESPONSE) === 0) return undefined;
  const opcode = bytes[1]! & ~RESPONSE;
  const result = portAt(bytes, 2);
  if (opcode !== Opcode.address && opcode !== Opcode.mapUdp) return undefined;
  // Gateways cut refusals short, whatever the RFC says.
  if (result !== SUCCESS) return { kind: 'refused', result };
  if (opcode === Opcode.address) {
    return bytes.length === ADDRESS_LENGTH ? { kind: 'address', address: IpAddress.fromBytes(bytes, 8, 4) } : undefined;
  }
  if (bytes.length !== MAP_LENGTH) return undefined;
  return { kind: 'mapped', insidePort: portAt(bytes, 8), publicPort: portAt(bytes, 10), lifetime: wordAt(bytes, 12) };
}

function portAt(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

function putPort(bytes: Uint8Array, offset: number, port: number): void {
  bytes[offset] = port >>> 8;
  bytes[offset + 1] = port;
}
