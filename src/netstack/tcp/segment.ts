/**
 * One received TCP segment, or a run of equal ones coalesced into one, as numbers: filled by the parser and reused.
 */
import { TCP_ACK, TCP_AE, TCP_CWR, TCP_ECE, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TcpOptions } from '../../wire/tcp.js';

/** TCP flag bits, RFC 9293 §3.1. */
export const FIN = TCP_FIN;
export const SYN = TCP_SYN;
export const RST = TCP_RST;
export const PSH = TCP_PSH;
export const ACK = TCP_ACK;
/** Flags that ECN negotiates with. */
export const ECN_FLAGS = TCP_AE | TCP_CWR | TCP_ECE;

export class Segment {
  bytes: Uint8Array = new Uint8Array(0);
  /** Where the payload starts in `bytes`, and its length. */
  offset = 0;
  length = 0;
  /** How many segments were coalesced into this one (≥ 1). */
  parts = 1;
  /** Sequence numbers are signed here, see sequence.ts. */
  seq = 0;
  ack = 0;
  flags = 0;
  /** ECN field of the IP header. */
  ecn = 0;
  /** The window field as it stands, not scaled. */
  window = 0;
  readonly options = new TcpOptions();

  /** Sequence space the segment takes: payload plus SYN and FIN. */
  get space(): number {
    return this.length + ((this.flags & SYN) !== 0 ? 1 : 0) + ((this.flags & FIN) !== 0 ? 1 : 0);
  }

  /** The options' timestamps, signed as sequence numbers are. */
  get timestamp(): number {
    return this.options.timestampValue | 0;
  }

  get echo(): number {
    return this.options.timestampEcho | 0;
  }
}
