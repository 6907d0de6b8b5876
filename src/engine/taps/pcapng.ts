/**
 * Packets as a pcapng capture:
 *
 *   section header · interface description · enhanced packet block … ; each block: type u32 · length u32 · body · options · length u32
 *   options: code u16 · length u16 · value, padded to 4 … · 0 u16 · 0 u16
 *
 * Link type RAW (an IP packet, its version in its first four bits), times in microseconds since 1970, the direction as a flag, the flow's name
 * as a comment. Little-endian. draft-ietf-opsawg-pcapng; LINKTYPE_RAW of the tcpdump registry.
 */
import type { WallTime } from '../../base/time.js';
import { encodeUtf8 } from '../../base/utf8.js';

const SECTION = 0x0a0d0d0a;
const BYTE_ORDER = 0x1a2b3c4d;
const INTERFACE = 1;
const ENHANCED_PACKET = 6;
const LINKTYPE_RAW = 101;
const OPTION_COMMENT = 1;
const OPTION_NAME = 2;
const OPTION_FLAGS = 2;
const OPTION_APPLICATION = 4;
const OPTION_RESOLUTION = 9;
/** 10^−6 s. */
const MICROSECONDS = 6;
/** Direction, bits 0–1 of the packet flags. */
const INBOUND = 1;
const OUTBOUND = 2;
const TWO_32 = 0x1_0000_0000;
/** Comments are names of flows; what is longer is cut. */
const COMMENT_MAX = 512;

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

/** What a capture begins with. @param device name of the interface that packets were seen on */
export function captureHeader(device: string, snapLength: number): Uint8Array {
  const section = new Uint8Array(16);
  const view = viewOf(section);
  view.setUint32(0, BYTE_ORDER, true);
  view.setUint16(4, 1, true);
  // Length of the section: not known.
  view.setInt32(8, -1, true);
  view.setInt32(12, -1, true);
  const description = new Uint8Array(8);
  viewOf(description).setUint16(0, LINKTYPE_RAW, true);
  viewOf(description).setUint32(4, snapLength, true);
  const head = block(SECTION, section, [{ code: OPTION_APPLICATION, value: encodeUtf8('sallyport') }]);
  const named = block(INTERFACE, description, [
    { code: OPTION_NAME, value: encodeUtf8(device) },
    { code: OPTION_RESOLUTION, value: Uint8Array.of(MICROSECONDS) },
  ]);
  const out = new Uint8Array(head.length + named.length);
  out.set(head);
  out.set(named, head.length);
  return out;
}

/** One packet of `length` bytes, of which at most `snapLength` are kept. @param inbound from the device towards the engine */
export function packetBlock(
  at: WallTime,
  bytes: Uint8Array,
  offset: number,
  length: number,
  snapLength: number,
  inbound: boolean,
  comment: string,
): Uint8Array {
  const kept = Math.min(length, snapLength);
  const body = new Uint8Array(20 + pad(kept));
  const view = viewOf(body);
  const micros = Math.round(at * 1000);
  view.setUint32(4, Math.floor(micros / TWO_32), true);
  view.setUint32(8, micros >>> 0, true);
  view.setUint32(12, kept, true);
  view.setUint32(16, length, true);
  body.set(bytes.subarray(offset, offset + kept), 20);
  const flags = new Uint8Array(4);
  flags[0] = inbound ? INBOUND : OUTBOUND;
  const options: Option[] = [{ code: OPTION_FLAGS, value: flags }];
  if (comment !== '') options.push({ code: OPTION_COMMENT, value: encodeUtf8(comment.slice(0, COMMENT_MAX)) });
  return block(ENHANCED_PACKET, body, options);
}

function block(type: number, body: Uint8Array, options: readonly Option[]): Uint8Array {
  const optionBytes = options.reduce((sum, { value }) => sum + 4 + pad(value.length), 4);
  const length = 12 + body.length + optionBytes;
  const out = new Uint8Array(length);
  const view = viewOf(out);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  out.set(body, 8);
  let at = 8 + body.length;
  for (const { code, value } of options) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    out.set(value, at + 4);
    at += 4 + pad(value.length);
  }
  // The end of options is four zero bytes.
  view.setUint32(length - 4, length, true);
  return out;
}

const pad = (length: number): number => (length + 3) & ~3;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
