/**
 * From a parsed packet to a `Segment`: fields and options. An option that does not fit its own length ends the list.
 *
 * RFC 9293 §3.1–3.2, RFC 7323, RFC 2018.
 */
import { readU16, readU32 } from '../../wire/bytes.js';
import type { ParsedPacket } from '../../wire/inner.js';
import { TCP_HEADER } from '../../wire/ip.js';
import { MAX_SACK_BLOCKS, type Segment } from './segment.js';

const END = 0;
const NOP = 1;
const MSS = 2;
const SCALE = 3;
const SACK_PERMITTED = 4;
const SACK = 5;
const TIMESTAMPS = 8;
/** NOP NOP kind length: the usual layout of a segment with nothing but a timestamp. */
const TIMESTAMP_ONLY = 0x0101080a;

export function parseSegment(bytes: Uint8Array, packet: ParsedPacket, parts: number, seg: Segment): void {
  const at = packet.transportOffset;
  seg.bytes = bytes;
  seg.offset = packet.payloadOffset;
  seg.length = packet.payloadLength;
  seg.parts = parts;
  seg.seq = packet.sequence | 0;
  seg.ack = packet.acknowledgment | 0;
  seg.flags = packet.tcpFlags;
  seg.window = packet.window;
  seg.clearOptions();
  const header = packet.tcpHeaderLength;
  if (header === TCP_HEADER) return;
  if (header === TCP_HEADER + 12 && readU32(bytes, at + TCP_HEADER) === TIMESTAMP_ONLY) {
    seg.hasTimestamp = true;
    seg.timestamp = readU32(bytes, at + TCP_HEADER + 4) | 0;
    seg.echo = readU32(bytes, at + TCP_HEADER + 8) | 0;
    return;
  }
  parseOptions(bytes, at + TCP_HEADER, at + header, seg);
}

function parseOptions(bytes: Uint8Array, start: number, end: number, seg: Segment): void {
  let o = start;
  while (o < end) {
    const kind = bytes[o];
    if (kind === END) return;
    if (kind === NOP) {
      o++;
      continue;
    }
    const length = o + 1 < end ? bytes[o + 1] : 0;
    if (length < 2 || o + length > end) return;
    if (kind === MSS && length === 4) seg.mss = readU16(bytes, o + 2);
    else if (kind === SCALE && length === 3) seg.scale = bytes[o + 2];
    else if (kind === SACK_PERMITTED && length === 2) seg.sackPermitted = true;
    else if (kind === TIMESTAMPS && length === 10) {
      seg.hasTimestamp = true;
      seg.timestamp = readU32(bytes, o + 2) | 0;
      seg.echo = readU32(bytes, o + 6) | 0;
    } else if (kind === SACK && length >= 10 && (length - 2) % 8 === 0) {
      const blocks = Math.min((length - 2) / 8, MAX_SACK_BLOCKS);
      for (let i = 0; i < 2 * blocks; i++) seg.sack[i] = readU32(bytes, o + 2 + 4 * i) | 0;
      seg.sackCount = blocks;
    }
    o += length;
  }
}
