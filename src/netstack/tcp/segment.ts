/**
 * One received TCP segment, or a run of equal ones coalesced into one, as numbers: filled by the parser and reused.
 */

/** TCP flag bits, RFC 9293 §3.1. */
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

/** Most SACK blocks that fit into the option space. */
export const MAX_SACK_BLOCKS = 4;

export class Segment {
  bytes: Uint8Array = new Uint8Array(0);
  /** Where the payload starts in `bytes`, and its length. */
  offset = 0;
  length = 0;
  /** How many segments were coalesced into this one (≥ 1). */
  parts = 1;
  seq = 0;
  ack = 0;
  flags = 0;
  /** The window field as it stands, not scaled. */
  window = 0;
  /** MSS option, 0 = absent. */
  mss = 0;
  /** Window scale option, −1 = absent. */
  scale = -1;
  sackPermitted = false;
  hasTimestamp = false;
  timestamp = 0;
  echo = 0;
  sackCount = 0;
  /** Left and right edges of the SACK blocks. */
  readonly sack = new Int32Array(2 * MAX_SACK_BLOCKS);

  /** Sequence space the segment takes: payload plus SYN and FIN. */
  get space(): number {
    return this.length + ((this.flags & SYN) !== 0 ? 1 : 0) + ((this.flags & FIN) !== 0 ? 1 : 0);
  }

  clearOptions(): void {
    this.mss = 0;
    this.scale = -1;
    this.sackPermitted = false;
    this.hasTimestamp = false;
    this.timestamp = 0;
    this.echo = 0;
    this.sackCount = 0;
  }
}
