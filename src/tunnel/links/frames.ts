/**
 * DATAGRAM payloads of a link that speak about links.
 *
 *   COPY       10 · seq u32 · IP packet or fragment        the sender suspects its link: the same bytes go out on two
 *   ALARM      10 · 0 u32                                  nothing to copy here, but the peer had better make copies
 *   COPY       11 · seq u32 · IP packet or fragment        only because the peer sends copies; never a reason for more of them
 *   HEARTBEAT  20 · seq u32 · echo u32 · sent u32 · echoed u32 · received u32
 *
 * `seq` of heartbeats counts from 1 per link and direction. `echo` is the newest `seq` that has come from the peer (0: none),
 * `sent` the sender's clock in microseconds (0: no answer is wanted), `echoed` what the peer's `sent` was, grown by the time
 * it lay here (0: the peer wanted no answer), and `received` how many of the peer's heartbeats have come. So the peer's clock
 * less `echoed` is a round trip, and what `echo` grows by more than `received` was lost on the way here.
 */
import { putWord, wordAt } from '../frames.js';

/** First bytes. The upper nibble tells the kinds apart, as it does for IP packets and fragments. */
export const LinkFrame = { copy: 0x10, mirroredCopy: 0x11, heartbeat: 0x20 } as const;

/** Bytes before the packet or fragment of a copy. */
export const COPY_HEADER = 5;
export const HEARTBEAT_LENGTH = 21;

/** Fields of a heartbeat, each an unsigned 32-bit number. One object is filled again and again. */
export interface Heartbeat {
  seq: number;
  echo: number;
  sent: number;
  echoed: number;
  received: number;
}

export const emptyHeartbeat = (): Heartbeat => ({ seq: 0, echo: 0, sent: 0, echoed: 0, received: 0 });

/** Writes `beat` to `target` at `offset`. */
export function putHeartbeat(target: Uint8Array, offset: number, beat: Heartbeat): void {
  target[offset] = LinkFrame.heartbeat;
  putWord(target, offset + 1, beat.seq);
  putWord(target, offset + 5, beat.echo);
  putWord(target, offset + 9, beat.sent);
  putWord(target, offset + 13, beat.echoed);
  putWord(target, offset + 17, beat.received);
}

/** Reads a heartbeat of `length` bytes into `into`. False: it is not one. */
export function readHeartbeat(bytes: Uint8Array, offset: number, length: number, into: Heartbeat): boolean {
  if (length !== HEARTBEAT_LENGTH || bytes[offset] !== LinkFrame.heartbeat) return false;
  into.seq = wordAt(bytes, offset + 1);
  into.echo = wordAt(bytes, offset + 5);
  into.sent = wordAt(bytes, offset + 9);
  into.echoed = wordAt(bytes, offset + 13);
  into.received = wordAt(bytes, offset + 17);
  return into.seq !== 0;
}

/** Writes the header of a copy at `offset`; the packet or fragment follows. */
export function putCopy(target: Uint8Array, offset: number, seq: number, isMirrored: boolean): void {
  target[offset] = isMirrored ? LinkFrame.mirroredCopy : LinkFrame.copy;
  putWord(target, offset + 1, seq);
}
