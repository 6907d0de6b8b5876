/**
 * PUNCH: opens a NAT towards a peer and proves a pair of addresses before a link is made on it.
 *
 *    0        1        2            18        20         24         28         29       31            47
 *    ├ type ──┼ flags ─┼ token[16] ─┼ seq u16 ┼ sent u32 ┼ echo u32 ┼ family ──┼ port ──┼ address[16] ┤
 *
 * flags bit 0: an answer. token: the receiver's, told to its peer through the session. sent: the sender's clock in µs, modulo
 * 2^32. An answer carries seq and sent of its request in seq and echo, and where that request came from in family (4 or 6),
 * port and address (IPv4 in the last four bytes of ::ffff:0:0/96); a request has zeros there. Both have the same size, so that
 * nobody's question is answered by more than it was.
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../base/address.js';
import { Frame, putWord, wordAt } from '../frames.js';

export const PUNCH_LENGTH = 47;
export const TOKEN_LENGTH = 16;
/** Where the token stands. */
export const PUNCH_TOKEN = 2;

const FLAGS = 1;
const SEQ = 18;
const SENT = 20;
const ECHO = 24;
const FAMILY = 28;
const PORT = 29;
const ADDRESS = 31;
const ANSWER = 1;

/** Whether the `length` bytes at `offset` have the form of a PUNCH. */
export function isPunch(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length !== PUNCH_LENGTH || bytes[offset] !== Frame.punch || bytes[offset + FLAGS]! > ANSWER) return false;
  const family = bytes[offset + FAMILY]!;
  return isAnswer(bytes, offset) ? family === 4 || family === 6 : family === 0;
}

export function isAnswer(bytes: Uint8Array, offset: number): boolean {
  return bytes[offset + FLAGS] === ANSWER;
}

export function punchSeq(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + SEQ]! << 8) | bytes[offset + SEQ + 1]!;
}

/** The sender's clock in a request. */
export function punchSent(bytes: Uint8Array, offset: number): number {
  return wordAt(bytes, offset + SENT);
}

/** The requester's clock in an answer. */
export function punchEcho(bytes: Uint8Array, offset: number): number {
  return wordAt(bytes, offset + ECHO);
}

/** Where the request of an answer came from: our own address as the peer sees it. */
export function punchObserved(bytes: Uint8Array, offset: number): SocketAddress {
  const port = (bytes[offset + PORT]! << 8) | bytes[offset + PORT + 1]!;
  return new SocketAddress(IpAddress.fromBytes(bytes, offset + ADDRESS, 16), port);
}

/** Writes a request into `out`, all of its 47 bytes. */
export function putPunchRequest(out: Uint8Array, token: Uint8Array, seq: number, sent: number): void {
  out.fill(0);
  putHead(out, 0, token, seq);
  putWord(out, SENT, sent);
}

/** Writes into `out` the answer to the request at `offset` of `request`, which came from the packed address at `index`. */
export function putPunchAnswer(
  out: Uint8Array,
  token: Uint8Array,
  request: Uint8Array,
  offset: number,
  sources: Uint32Array,
  index: number,
): void {
  const at = index * ADDRESS_WORDS;
  putHead(out, ANSWER, token, punchSeq(request, offset));
  putWord(out, SENT, 0);
  putWord(out, ECHO, punchSent(request, offset));
  const isV4 = sources[at] === 0 && sources[at + 1] === 0 && sources[at + 2] === 0xffff;
  out[FAMILY] = isV4 ? 4 : 6;
  out[PORT] = sources[at + 4]! >>> 8;
  out[PORT + 1] = sources[at + 4]!;
  for (let word = 0; word < 4; word++) putWord(out, ADDRESS + word * 4, sources[at + word]!);
}

function putHead(out: Uint8Array, flags: number, token: Uint8Array, seq: number): void {
  out[0] = Frame.punch;
  out[FLAGS] = flags;
  out.set(token, PUNCH_TOKEN);
  out[SEQ] = seq >>> 8;
  out[SEQ + 1] = seq;
}

/** Whether the token of the frame at `offset` is `token`; the time it takes says nothing about where they differ. */
export function hasToken(bytes: Uint8Array, offset: number, token: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < TOKEN_LENGTH; i++) difference |= bytes[offset + PUNCH_TOKEN + i]! ^ token[i]!;
  return difference === 0;
}
