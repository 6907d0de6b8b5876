/**
 * Writes the IP and TCP headers of one stack's segments into a scratch buffer and hands them to the sink.
 *
 *   IPv4 (20) or IPv6 (40) │ TCP (20) │ options: NOP NOP timestamp (12) · NOP NOP SACK (4 + 8n)      or, in a SYN,
 *                                      │          MSS (4) · SACK-permitted + timestamp (12) · NOP scale (4)
 *
 * RFC 9293 §3.1, RFC 7323 §2–3 and appendix A (layout), RFC 2018 §2–3.
 */
import { Arena } from '../../wire/arena.js';
import { writeU16, writeU32 } from '../../wire/bytes.js';
import { IPV6_HEADER, PROTO_TCP, TCP_HEADER, TCP_HEADER_MAX } from '../../wire/ip.js';
import { Count } from '../counters.js';
import { completeTcp, ipHeaderLength, writeIpHeader } from '../ip-header.js';
import type { StackSink } from '../types.js';
import { ACK, RST } from './segment.js';

const TIMESTAMP_SPACE = 12;
/** Longest IP + TCP header with options. */
const MAX_HEADER = IPV6_HEADER + TCP_HEADER_MAX;

/** The SYN's options; absent ones are 0, −1 or false. */
export interface SynOptions {
  mss: number;
  scale: number;
  sack: boolean;
}

export class TcpEmitter {
  readonly #arena = new Arena(MAX_HEADER);
  readonly #header = this.#arena.bytes;
  #identification = 0;
  /** Timestamps of the next segment; read only when `withTimestamp`. */
  withTimestamp = false;
  timestamp = 0;
  echo = 0;

  constructor(
    readonly sink: StackSink,
    readonly counts: Float64Array,
  ) {}

  /** A SYN or SYN-ACK. */
  syn(words: Uint32Array, flags: number, seq: number, ack: number, window: number, options: SynOptions): void {
    const ip = ipHeaderLength(words);
    let o = ip + TCP_HEADER;
    const h = this.#header;
    h[o] = 2;
    h[o + 1] = 4;
    writeU16(h, o + 2, options.mss);
    o += 4;
    if (this.withTimestamp) {
      h[o] = options.sack ? 4 : 1;
      h[o + 1] = options.sack ? 2 : 1;
      o = this.#putTimestamp(o + 2);
    } else if (options.sack) {
      h[o] = 1;
      h[o + 1] = 1;
      h[o + 2] = 4;
      h[o + 3] = 2;
      o += 4;
    }
    if (options.scale >= 0) {
      h[o] = 1;
      h[o + 1] = 3;
      h[o + 2] = 3;
      h[o + 3] = options.scale;
      o += 4;
    }
    this.#complete(words, ip, o, flags, seq, ack, window);
  }

  /** A segment without payload; `sack` holds `sackCount` pairs of edges. */
  control(
    words: Uint32Array,
    flags: number,
    seq: number,
    ack: number,
    window: number,
    sack: Int32Array,
    sackCount: number,
  ): void {
    const ip = ipHeaderLength(words);
    let o = ip + TCP_HEADER;
    const h = this.#header;
    if (this.withTimestamp) {
      h[o] = 1;
      h[o + 1] = 1;
      o = this.#putTimestamp(o + 2);
    }
    if (sackCount > 0) {
      h[o] = 1;
      h[o + 1] = 1;
      h[o + 2] = 5;
      h[o + 3] = 2 + 8 * sackCount;
      o += 4;
      for (let i = 0; i < 2 * sackCount; i++, o += 4) writeU32(h, o, sack[i]);
    }
    this.#complete(words, ip, o, flags, seq, ack, window);
  }

  /** A RST, with or without ACK, for a flow that need not exist. No options. */
  reset(words: Uint32Array, seq: number, ack: number, withAck: boolean): void {
    const ip = ipHeaderLength(words);
    this.counts[Count.tcp_rst_out]++;
    this.#complete(words, ip, ip + TCP_HEADER, withAck ? RST | ACK : RST, seq, ack, 0);
  }

  /** `length` bytes of the ring (contiguous, > 0) as segments of `mss` payload bytes. */
  data(
    words: Uint32Array,
    flags: number,
    seq: number,
    ack: number,
    window: number,
    ring: Arena,
    offset: number,
    length: number,
    mss: number,
  ): void {
    const ip = ipHeaderLength(words);
    let o = ip + TCP_HEADER;
    const h = this.#header;
    if (this.withTimestamp) {
      h[o] = 1;
      h[o + 1] = 1;
      o = this.#putTimestamp(o + 2);
    }
    const segments = length <= mss ? 1 : Math.ceil(length / mss);
    writeIpHeader(h, words, PROTO_TCP, o + length, this.#identification);
    this.#identification = (this.#identification + segments) & 0xffff;
    this.#putTcp(ip, o, words, flags, seq, ack, window);
    this.counts[Count.tcp_segments_out] += segments;
    this.counts[Count.packets_out] += segments;
    this.counts[Count.bytes_out] += length + segments * o;
    this.sink.emitTcp(this.#arena, 0, o, ring, offset, length, mss);
  }

  #complete(
    words: Uint32Array,
    ip: number,
    end: number,
    flags: number,
    seq: number,
    ack: number,
    window: number,
  ): void {
    const h = this.#header;
    writeIpHeader(h, words, PROTO_TCP, end, this.#identification);
    this.#identification = (this.#identification + 1) & 0xffff;
    this.#putTcp(ip, end, words, flags, seq, ack, window);
    completeTcp(h, 0, ip, end);
    this.counts[Count.tcp_segments_out]++;
    this.counts[Count.packets_out]++;
    this.counts[Count.bytes_out] += end;
    this.sink.emit(this.#arena, 0, end);
  }

  #putTcp(ip: number, end: number, words: Uint32Array, flags: number, seq: number, ack: number, window: number): void {
    const h = this.#header;
    writeU16(h, ip, words[4]);
    writeU16(h, ip + 2, words[9]);
    writeU32(h, ip + 4, seq);
    writeU32(h, ip + 8, ack);
    h[ip + 12] = ((end - ip) >> 2) << 4;
    h[ip + 13] = flags;
    writeU16(h, ip + 14, window);
    writeU32(h, ip + 16, 0);
  }

  #putTimestamp(o: number): number {
    const h = this.#header;
    h[o] = 8;
    h[o + 1] = 10;
    writeU32(h, o + 2, this.timestamp);
    writeU32(h, o + 6, this.echo);
    return o + 10;
  }
}

/** Bytes of options in every segment with payload. */
export const dataOptionSpace = (timestamps: boolean): number => (timestamps ? TIMESTAMP_SPACE : 0);
