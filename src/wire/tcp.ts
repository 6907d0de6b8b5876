/**
 * TCP: flags, options, and writing headers. (`parsePacket` reads the fixed part.)
 *
 *   ┌───────────────────────────┬───────────────────────────┐   kind  length
 *   │ source port               │ destination port          │   0     –       end of list
 *   │ sequence number                                       │   1     –       no operation
 *   │ acknowledgment number                                 │   2     4       maximum segment size
 *   ├──────┬─────┬──────────────┼───────────────────────────┤   3     3       window scale
 *   │offset│rsrvd│CEUAPRSF      │ window                    │   4     2       SACK permitted
 *   │ checksum                  │ urgent pointer            │   5     8n + 2  SACK, n = 1 … 4
 *   └───────────────────────────┴───────────────────────────┘   8     10      timestamps
 *   rsrvd: the last bit is AE, above CWR and ECE               28    4       user timeout
 *                                                              172   2+3n    AccECN, order 0: ECT(0), CE, ECT(1)
 *                                                              174   2+3n    AccECN, order 1: ECT(1), CE, ECT(0)
 *
 * RFC 9293 §3.1–3.2, RFC 7323 §2–3, RFC 2018 §2–3, RFC 5482 §2, RFC 9768 §3.2 (n = 0 … 3 counters of 24 bits).
 */
import { readU16, readU32, writeU16, writeU32 } from './bytes.js';
import { TCP_HEADER } from './ip.js';

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;
/** Stands in the byte before the other flags (RFC 9768 §3.1). */
export const TCP_AE = 0x100;

const END = 0;
const NOP = 1;
export const OPTION_MSS = 2;
const SCALE = 3;
const SACK_PERMITTED = 4;
const SACK = 5;
const TIMESTAMPS = 8;
const USER_TIMEOUT = 28;
const ACCECN0 = 172;
const ACCECN1 = 174;
/** Bytes of one counter. */
const COUNTER = 3;

/** Blocks that fit the 40 bytes of options; three next to timestamps. */
export const SACK_BLOCKS_MAX = 4;
/** RFC 7323 §2.3: a larger shift counts as this. */
export const WINDOW_SCALE_MAX = 14;
const OPTIONS_MAX = 40;

/** Options of one segment; reuse one object. */
export class TcpOptions {
  /** Maximum segment size, 1 … 65,535; 0 = absent. */
  mss = 0;
  /** Shift count 0 … 14; −1 = absent. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  timestampValue = 0;
  timestampEcho = 0;
  /** The field as it stands: 15 bits, the highest of 16 says minutes instead of seconds; −1 = absent. */
  userTimeout = -1;
  /** Counters that the AccECN option carries, 0 … 3 in its order; −1 = absent. */
  ecnCount = -1;
  /** Its order: 0 or 1. */
  ecnOrder = 0;
  /** Bytes received, modulo 2²⁴: those of ECT(0), CE and ECT(1) in order 0, of ECT(1), CE and ECT(0) in order 1. */
  readonly ecnBytes = new Uint32Array(3);
  sackCount = 0;
  /** Left and right edge of each block, unsigned. */
  readonly sackEdges = new Uint32Array(2 * SACK_BLOCKS_MAX);

  clear(): void {
    this.mss = 0;
    this.windowScale = -1;
    this.sackPermitted = false;
    this.hasTimestamps = false;
    this.timestampValue = 0;
    this.timestampEcho = 0;
    this.userTimeout = -1;
    this.ecnCount = -1;
    this.sackCount = 0;
  }
}

/**
 * Reads the options between `start` and `end`. Unknown ones are skipped, known ones of a wrong length ignored. False when an
 * option's length is below 2 or reaches beyond the header: what came before it stands.
 */
export function readTcpOptions(bytes: Uint8Array, start: number, end: number, out: TcpOptions): boolean {
  out.clear();
  let at = start;
  while (at < end) {
    const kind = bytes[at]!;
    if (kind === END) return true;
    if (kind === NOP) {
      at++;
      continue;
    }
    const length = at + 1 < end ? bytes[at + 1]! : 0;
    if (length < 2 || at + length > end) return false;
    if (kind === OPTION_MSS && length === 4) out.mss = readU16(bytes, at + 2);
    else if (kind === SCALE && length === 3) out.windowScale = Math.min(bytes[at + 2]!, WINDOW_SCALE_MAX);
    else if (kind === SACK_PERMITTED && length === 2) out.sackPermitted = true;
    else if (kind === TIMESTAMPS && length === 10) {
      out.hasTimestamps = true;
      out.timestampValue = readU32(bytes, at + 2);
      out.timestampEcho = readU32(bytes, at + 6);
    } else if (kind === SACK && length >= 10 && length % 8 === 2) {
      out.sackCount = Math.min((length - 2) / 8, SACK_BLOCKS_MAX);
      for (let i = 0; i < out.sackCount * 2; i++) out.sackEdges[i] = readU32(bytes, at + 2 + i * 4);
    } else if (kind === USER_TIMEOUT && length === 4) out.userTimeout = readU16(bytes, at + 2);
    else if (kind === ACCECN0 || kind === ACCECN1) {
      // What a later version may add is not looked at.
      out.ecnCount = Math.min(Math.floor((length - 2) / COUNTER), out.ecnBytes.length);
      out.ecnOrder = kind === ACCECN0 ? 0 : 1;
      for (let i = 0; i < out.ecnCount; i++) {
        const c = at + 2 + i * COUNTER;
        out.ecnBytes[i] = (bytes[c]! << 16) | readU16(bytes, c + 1);
      }
    }
    at += length;
  }
  return true;
}

/**
 * Writes `options` and returns their length, a multiple of 4 up to 40. SACK blocks that no longer fit are left out, the last
 * first. The layout is the one of RFC 7323 appendix A, which receivers are quickest with; the AccECN option takes what room is left.
 */
export function writeTcpOptions(bytes: Uint8Array, offset: number, options: TcpOptions): number {
  let at = offset;
  if (options.mss > 0) {
    bytes[at] = OPTION_MSS;
    bytes[at + 1] = 4;
    writeU16(bytes, at + 2, options.mss);
    at += 4;
  }
  if (options.sackPermitted || options.hasTimestamps) {
    bytes[at] = options.sackPermitted ? SACK_PERMITTED : NOP;
    bytes[at + 1] = options.sackPermitted ? 2 : NOP;
    if (options.hasTimestamps) {
      bytes[at + 2] = TIMESTAMPS;
      bytes[at + 3] = 10;
      writeU32(bytes, at + 4, options.timestampValue);
      writeU32(bytes, at + 8, options.timestampEcho);
      at += 12;
    } else {
      bytes[at + 2] = NOP;
      bytes[at + 3] = NOP;
      at += 4;
    }
  }
  if (options.windowScale >= 0) {
    bytes[at] = NOP;
    bytes[at + 1] = SCALE;
    bytes[at + 2] = 3;
    bytes[at + 3] = Math.min(options.windowScale, WINDOW_SCALE_MAX);
    at += 4;
  }
  if (options.userTimeout >= 0) {
    bytes[at] = USER_TIMEOUT;
    bytes[at + 1] = 4;
    writeU16(bytes, at + 2, options.userTimeout);
    at += 4;
  }
  const room = OPTIONS_MAX - (at - offset) - 4;
  const blocks = Math.min(options.sackCount, Math.floor(room / 8));
  if (blocks > 0) {
    bytes[at] = NOP;
    bytes[at + 1] = NOP;
    bytes[at + 2] = SACK;
    bytes[at + 3] = 2 + blocks * 8;
    at += 4;
    for (let i = 0; i < blocks * 2; i++, at += 4) writeU32(bytes, at, options.sackEdges[i]!);
  }
  if (options.ecnCount >= 0) at = writeCounters(bytes, at, OPTIONS_MAX - (at - offset), options);
  return at - offset;
}

/** The AccECN option with as many of its counters as `room` has place for, and padding before it. Returns where it ends. */
function writeCounters(bytes: Uint8Array, at: number, room: number, options: TcpOptions): number {
  const count = Math.min(options.ecnCount, Math.floor((room - 2) / COUNTER));
  if (count < 0) return at;
  const length = 2 + count * COUNTER;
  let to = at;
  while (((to - at + length) & 3) !== 0) bytes[to++] = NOP;
  bytes[to] = options.ecnOrder === 0 ? ACCECN0 : ACCECN1;
  bytes[to + 1] = length;
  to += 2;
  for (let i = 0; i < count; i++, to += COUNTER) {
    const value = options.ecnBytes[i]!;
    bytes[to] = value >>> 16;
    writeU16(bytes, to + 1, value & 0xffff);
  }
  return to;
}

/** Writes the 20 fixed bytes; checksum and urgent pointer 0. `optionsLength` is a multiple of 4. */
export function writeTcp(
  bytes: Uint8Array,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgment: number,
  flags: number,
  window: number,
  optionsLength: number,
): void {
  writeU16(bytes, offset, sourcePort);
  writeU16(bytes, offset + 2, destinationPort);
  writeU32(bytes, offset + 4, sequence);
  writeU32(bytes, offset + 8, acknowledgment);
  bytes[offset + 12] = (((TCP_HEADER + optionsLength) >>> 2) << 4) | ((flags >>> 8) & 1);
  bytes[offset + 13] = flags;
  writeU16(bytes, offset + 14, window);
  writeU32(bytes, offset + 16, 0);
}
