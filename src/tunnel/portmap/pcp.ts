/**
 * PCP (RFC 6887), as far as a mapping of one UDP port needs it: ANNOUNCE to see whether the gateway speaks it, MAP for the mapping.
 *
 *   request   02 · opcode · 0000 · lifetime u32 · own address[16]                                     ANNOUNCE ends here (24)
 *   response  02 · 80+opcode · 00 · result u8 · lifetime u32 · epoch u32 · 0[12]                      likewise (24)
 *   MAP adds  nonce[12] · protocol u8 (17) · 000000 · inside port u16 · public port u16 · public address[16]      (60)
 *
 * IPv4 addresses travel as ::ffff:a.b.c.d (§5). Options may follow a response; none are asked for, all are ignored.
 */
import { IpAddress } from '../../base/address.js';
import { putWord, wordAt } from '../frames.js';

const VERSION = 2;
const RESPONSE = 0x80;
const Opcode = { announce: 0, map: 1 } as const;
const UDP = 17;
const HEADER_LENGTH = 24;
const MAP_LENGTH = 60;
/** RFC 6887 §7. */
const LONGEST_MESSAGE = 1100;
export const PCP_NONCE_LENGTH = 12;

export interface PcpMapping {
  /** Ties renewals and the removal to the mapping (§11.2). */
  readonly nonce: Uint8Array;
  readonly insidePort: number;
  readonly publicPort: number;
  readonly publicAddress: IpAddress;
}

export function encodePcpAnnounce(own: IpAddress): Uint8Array {
  return header(HEADER_LENGTH, Opcode.announce, 0, own);
}

/** @param lifetime seconds; 0 removes the mapping. */
export function encodePcpMap(own: IpAddress, wanted: PcpMapping, lifetime: number): Uint8Array {
  const out = header(MAP_LENGTH, Opcode.map, lifetime, own);
  out.set(wanted.nonce, 24);
  out[36] = UDP;
  out[40] = wanted.insidePort >>> 8;
  out[41] = wanted.insidePort;
  out[42] = wanted.publicPort >>> 8;
  out[43] = wanted.publicPort;
  putAddress(out, 44, wanted.publicAddress);
  return out;
}

export type PcpReply =
  | { readonly kind: 'announced' }
  | { readonly kind: 'mapped'; readonly mapping: PcpMapping; readonly lifetime: number }
  /** Result codes of RFC 6887 §7.4. */
  | { readonly kind: 'refused'; readonly result: number };

/** Undefined when it is no response of PCP, or of another opcode or protocol. */
export function decodePcpReply(bytes: Uint8Array): PcpReply | undefined {
  const { length } = bytes;
  if (length < HEADER_LENGTH || length > LONGEST_MESSAGE || length % 4 !== 0) return undefined;
  if (bytes[0] !== VERSION || (bytes[1]! & RESPONSE) === 0) return undefined;
  const opcode = bytes[1]! & ~RESPONSE;
  if (opcode !== Opcode.announce && opcode !== Opcode.map) return undefined;
  if (bytes[3] !== 0) return { kind: 'refused', result: bytes[3]! };
  if (opcode === Opcode.announce) return { kind: 'announced' };
  if (length < MAP_LENGTH || bytes[36] !== UDP) return undefined;
  const mapping = {
    nonce: bytes.slice(24, 24 + PCP_NONCE_LENGTH),
    insidePort: (bytes[40]! << 8) | bytes[41]!,
    publicPort: (bytes[42]! << 8) | bytes[43]!,
    publicAddress: IpAddress.fromBytes(bytes, 44, 16),
  };
  return { kind: 'mapped', mapping, lifetime: wordAt(bytes, 4) };
}

function header(length: number, opcode: number, lifetime: number, own: IpAddress): Uint8Array {
  const out = new Uint8Array(length);
  out[0] = VERSION;
  out[1] = opcode;
  putWord(out, 4, lifetime);
  putAddress(out, 8, own);
  return out;
}

function putAddress(bytes: Uint8Array, offset: number, ip: IpAddress): void {
  for (const [index, word] of [ip.w0, ip.w1, ip.w2, ip.w3].entries()) putWord(bytes, offset + index * 4, word);
}
