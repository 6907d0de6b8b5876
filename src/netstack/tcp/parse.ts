/**
 * From a parsed packet to a `Segment`: fields and options.
 *
 * RFC 9293 §3.1–3.2, RFC 7323 appendix A (the usual layout is read without the general walk).
 */
import { readU32 } from '../../wire/bytes.js';
import type { ParsedPacket } from '../../wire/inner.js';
import { TCP_HEADER } from '../../wire/ip.js';
import { readTcpOptions } from '../../wire/tcp.js';
import type { Segment } from './segment.js';

/** NOP NOP kind length: a segment with nothing but a timestamp. */
const TIMESTAMP_ONLY = 0x0101080a;
const TIMESTAMP_ONLY_HEADER = TCP_HEADER + 12;

export function parseSegment(bytes: Uint8Array, packet: ParsedPacket, parts: number, seg: Segment): void {
  const at = packet.transportOffset + TCP_HEADER;
  seg.bytes = bytes;
  seg.offset = packet.payloadOffset;
  seg.length = packet.payloadLength;
  seg.parts = parts;
  seg.seq = packet.sequence | 0;
  seg.ack = packet.acknowledgment | 0;
  seg.flags = packet.tcpFlags;
  seg.ecn = packet.trafficClass & 3;
  seg.window = packet.window;
  const header = packet.tcpHeaderLength;
  const { options } = seg;
  if (header === TIMESTAMP_ONLY_HEADER && readU32(bytes, at) === TIMESTAMP_ONLY) {
    options.clear();
    options.hasTimestamps = true;
    options.timestampValue = readU32(bytes, at + 4);
    options.timestampEcho = readU32(bytes, at + 8);
  } else if (header === TCP_HEADER) options.clear();
  else readTcpOptions(bytes, at, packet.transportOffset + header, options);
}
