/**
 * Explicit congestion notification of one connection: how it is agreed, what CE marks are told to the peer, and what the peer
 * tells of ours.
 *
 *   AE CWR ECE     SYN        SYN-ACK                                    later segments
 *   accurate       1 1 1      what the SYN's ECN field was: 010 not ECT  ACE: packets with CE received, modulo 8, from 5 on;
 *                             011 ECT(1) · 100 ECT(0) · 110 CE           the AccECN option: bytes received, per code point
 *   classic        0 1 1      0 0 1                                      ECE until a CWR comes; CWR once per reduction
 *   neither        0 0 0      0 0 0 (or 111: it only echoes)             nothing
 *
 * The first acknowledgement of an accurate client repeats the SYN-ACK's ECN field in the encoding of a SYN-ACK. What rides on
 * the option: only bare acknowledgements carry it, so that data segments keep their size. Sent as ECT(0): data sent for the
 * first time (RFC 3168 §6.1.4–6.1.6). RFC 3168 §6.1, RFC 8311, RFC 9768 §3.
 */
import { ECN_CE, ECN_ECT0, ECN_ECT1, ECN_NOT_ECT } from '../../wire/ecn.js';
import { TCP_AE, TCP_CWR, TCP_ECE, type TcpOptions } from '../../wire/tcp.js';
import type { Segment } from './segment.js';

/** What is offered and answered at most. */
export type EcnChoice = 'off' | 'classic' | 'accurate';

export const EcnMode = { off: 0, classic: 1, accurate: 2 } as const;

/** The three flags as one number, AE first. */
const aceOf = (flags: number): number => ((flags & TCP_AE) >>> 6) | ((flags & (TCP_CWR | TCP_ECE)) >>> 6);
const flagsOf = (ace: number): number => ((ace & 4) << 6) | ((ace & 3) << 6);
/** The encoding of an ECN field in a handshake (RFC 9768 §3.1.1 table 2). */
const reflection = (code: number): number => (code === ECN_CE ? 6 : code + 2);

/** SYNs that ask before it is taken that the asking is what gets them lost: RFC 9768 §3.1.4.1, RFC 3168 §6.1.1.1. */
const ASKING_SYNS = 2;
/** The counter of packets begins here (RFC 9768 §3.2.1), one higher when the packet of the handshake was marked. */
const FIRST = 5;
const COUNTER_MASK = 0xffffff;
const CLASSIC_ASK = 3;
const ACCURATE_ASK = 7;

export class Ecn {
  mode: number = EcnMode.off;
  /** Data of ours may be marked ECT(0). */
  marks = false;
  /** Classic: CWR goes on the next new data. */
  reductionDue = false;
  /** Classic: ECE goes on every acknowledgement. */
  #echoing = false;
  #asked = 0;
  /** What a SYN-ACK of ours says. */
  #answer = 0;
  /** What the first acknowledgement of the handshake says, −1 = nothing. */
  #first = -1;
  // Received: packets with CE, and bytes by code point (RFC 9768 §3.2.1: the two ECT counters begin at 1).
  #cePackets = FIRST;
  readonly #bytes = Uint32Array.of(0, 1, 1, 0);
  // What the peer has told.
  #toldPackets = FIRST;
  #toldBytes = 0;
  #optionSeen = false;

  // ---- the handshake

  /** Flags of a SYN of ours, the `tries`-th. */
  ask(choice: EcnChoice, tries: number): number {
    if (choice === 'off' || tries > ASKING_SYNS) return 0;
    this.#asked = choice === 'accurate' ? ACCURATE_ASK : CLASSIC_ASK;
    return flagsOf(this.#asked);
  }

  /** The peer's SYN, whose ECN field was `seg.ecn`. */
  asked(choice: EcnChoice, seg: Segment): void {
    const ace = aceOf(seg.flags);
    this.mode = EcnMode.off;
    if (choice === 'off' || ace === 0) return;
    if (ace === CLASSIC_ASK || (choice === 'classic' && (ace & CLASSIC_ASK) === CLASSIC_ASK)) {
      this.mode = EcnMode.classic;
      this.#answer = 1;
      return;
    }
    // Any other combination stands for one that is yet to be defined (RFC 9768 §3.1.3).
    if (choice === 'classic') return;
    this.mode = EcnMode.accurate;
    this.#answer = reflection(seg.ecn);
    if (seg.ecn === ECN_CE) this.#cePackets = FIRST + 1;
  }

  /** Flags of a SYN-ACK of ours, the `tries`-th. One without them still gets through where the flags do not (RFC 9768 §3.2.3.2.2). */
  answer(tries: number): number {
    if (this.mode === EcnMode.off || (this.mode === EcnMode.accurate && tries > ASKING_SYNS)) return 0;
    return flagsOf(this.#answer);
  }

  /** The SYN-ACK to our SYN. */
  answered(seg: Segment): void {
    const ace = aceOf(seg.flags);
    this.mode = EcnMode.off;
    if (this.#asked === 0 || ace === 0 || ace === ACCURATE_ASK) return;
    if (ace === 1) {
      this.mode = EcnMode.classic;
      this.marks = true;
      return;
    }
    if (this.#asked !== ACCURATE_ASK) return;
    this.mode = EcnMode.accurate;
    // Our SYN was not ECT; if it did not arrive so, the field is not safe with this path (RFC 9768 §3.2.2.3). 101: see §3.1.3.
    this.marks = ace === reflection(ECN_NOT_ECT) || ace === 5;
    if (ace === reflection(ECN_CE)) this.#toldPackets = FIRST + 1;
    if (seg.ecn === ECN_CE) this.#cePackets = FIRST + 1;
    this.#first = reflection(seg.ecn);
  }

  /** The segment that ends the handshake of an accepted connection. */
  confirmed(seg: Segment): void {
    if (this.mode === EcnMode.classic) this.marks = true;
    if (this.mode !== EcnMode.accurate) return;
    const ace = aceOf(seg.flags);
    // Nothing: the flags are cleared on the way, or the peer had a SYN-ACK without them. ECT or CE: our SYN-ACK was not sent so.
    this.marks = ace !== 0 && ace !== reflection(ECN_ECT1) && ace !== reflection(ECN_ECT0);
    if (ace === reflection(ECN_CE)) this.#toldPackets = FIRST + 1;
  }

  // ---- received segments

  /** An acceptable segment came. True when its sender has to hear of it at once. */
  received(seg: Segment): boolean {
    if (this.mode === EcnMode.off) return false;
    const marked = seg.ecn === ECN_CE;
    if (this.mode === EcnMode.classic) {
      if ((seg.flags & TCP_CWR) !== 0) this.#echoing = false;
      if (marked) this.#echoing = true;
      return marked;
    }
    if (marked) this.#cePackets = (this.#cePackets + seg.parts) | 0;
    this.#bytes[seg.ecn] = (this.#bytes[seg.ecn] + seg.length) & COUNTER_MASK;
    return marked && seg.length > 0;
  }

  /**
   * How many packets of ours an acknowledgement newly reports as marked, 0 = none. `delivered`: bytes that it acknowledges or
   * reports as arrived for the first time; `segment`: bytes of a full segment.
   */
  reported(seg: Segment, delivered: number, segment: number): number {
    if (this.mode === EcnMode.classic) return delivered > 0 && (seg.flags & TCP_ECE) !== 0 ? 1 : 0;
    // An old acknowledgement tells old counters; what a newer one counts is not lost.
    if (this.mode !== EcnMode.accurate || delivered <= 0) return 0;
    let packets = (aceOf(seg.flags) - this.#toldPackets) & 7;
    const { options } = seg;
    const most = Math.ceil(delivered / segment);
    if (options.ecnCount >= 2) {
      this.#optionSeen = true;
      // Counters of 24 bits may step back only when acknowledgements overtook each other.
      const bytes = (options.ecnBytes[1] - this.#toldBytes) & COUNTER_MASK;
      if (bytes <= COUNTER_MASK >> 1) {
        this.#toldBytes = options.ecnBytes[1];
        // Three bits wrap where one acknowledgement covers many packets: the bytes tell how often.
        while (packets * segment < bytes && packets + 8 <= most) packets += 8;
      }
    } else if (!this.#optionSeen && most > 7) packets = most - ((most - packets) & 7); // RFC 9768 §3.2.2.5.2
    this.#toldPackets = (this.#toldPackets + packets) | 0;
    return packets;
  }

  // ---- sent segments

  /** Flags of any segment after the handshake but a RST; `isFirst`: it may be the one that ends it. */
  get flags(): number {
    if (this.mode === EcnMode.accurate) return flagsOf(this.#first >= 0 ? this.#first : this.#cePackets);
    return this.#echoing ? TCP_ECE : 0;
  }

  /** A segment has gone out: what the first one says is said. */
  sent(): void {
    this.#first = -1;
  }

  /** CWR is part of the counter now: a super-segment would lose it in all but its first packet. */
  get isIndivisible(): boolean {
    return this.mode === EcnMode.accurate && (this.flags & TCP_CWR) !== 0;
  }

  /** Fills in the AccECN option for a SYN-ACK or a bare acknowledgement. */
  writeOption(options: TcpOptions): void {
    if (this.mode !== EcnMode.accurate) return;
    const bytes = this.#bytes;
    // What changes comes first, for the end is cut where room is short: ECT(1) moves the order (RFC 9768 §3.2.3).
    const order = bytes[ECN_ECT1] > 1 ? 1 : 0;
    options.ecnOrder = order;
    options.ecnCount = 3;
    options.ecnBytes[0] = bytes[order === 0 ? ECN_ECT0 : ECN_ECT1];
    options.ecnBytes[1] = bytes[ECN_CE];
    options.ecnBytes[2] = bytes[order === 0 ? ECN_ECT1 : ECN_ECT0];
  }
}
