/**
 * Writes the IP and TCP headers of one stack's segments into a scratch buffer and hands them to the sink.
 *
 *   IPv4 (20) or IPv6 (40) │ TCP (20) │ options        wire/tcp.ts lays the options out
 *
 * RFC 9293 §3.1, RFC 7323 §3.2 (every segment but a RST carries timestamps once agreed), RFC 2018 §3.
 */
import { Arena } from '../../wire/arena.js';
import { IPV6_HEADER, PROTO_TCP, TCP_HEADER, TCP_HEADER_MAX } from '../../wire/ip.js';
import { TcpOptions, writeTcp, writeTcpOptions } from '../../wire/tcp.js';
import { Count } from '../counters.js';
import { completeTcp, ipHeaderLength, writeIpHeader } from '../ip-header.js';
import type { StackSink } from '../types.js';
import { ACK, RST } from './segment.js';

const TIMESTAMP_SPACE = 12;
/** Longest IP + TCP header with options. */
const MAX_HEADER = IPV6_HEADER + TCP_HEADER_MAX;

export class TcpEmitter {
  /**
   * Options of the next segment. Whoever emits sets timestamps (`prepare` in output.ts) and, in a SYN, the rest; `syn` and
   * `control` clear what belongs to one segment only.
   */
  readonly options = new TcpOptions();
  readonly #arena = new Arena(MAX_HEADER);
  readonly #header = this.#arena.bytes;
  #identification = 0;
  /** ECN flags of every segment but SYN and RST; set by whoever emits, like the options. */
  flags = 0;

  constructor(
    readonly sink: StackSink,
    readonly counts: Float64Array,
  ) {}

  /** A SYN or SYN-ACK with everything in `options`. */
  syn(words: Uint32Array, flags: number, seq: number, ack: number, window: number): void {
    this.#complete(words, flags, seq, ack, window);
    this.options.clear();
  }

  /** A segment without payload; SACK blocks are those in `options`. */
  control(words: Uint32Array, flags: number, seq: number, ack: number, window: number): void {
    this.#complete(words, flags | this.flags, seq, ack, window);
    this.options.sackCount = 0;
    this.options.ecnCount = -1;
  }

  /** A RST, with or without ACK, for a flow that need not exist. No options. */
  reset(words: Uint32Array, seq: number, ack: number, withAck: boolean): void {
    this.counts[Count.tcp_rst_out]++;
    this.options.clear();
    this.#complete(words, withAck ? RST | ACK : RST, seq, ack, 0);
  }

  /** `length` bytes of the ring (contiguous, > 0) as segments of `mss` payload bytes; `ecn`: the ECN field of their packets. */
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
    ecn: number,
  ): void {
    const end = this.#write(words, flags | this.flags, seq, ack, window, length, ecn);
    const segments = length <= mss ? 1 : Math.ceil(length / mss);
    this.#identification = (this.#identification + segments - 1) & 0xffff;
    this.counts[Count.tcp_segments_out] += segments;
    this.counts[Count.packets_out] += segments;
    this.counts[Count.bytes_out] += length + segments * end;
    this.sink.emitTcp(this.#arena, 0, end, ring, offset, length, mss);
  }

  #complete(words: Uint32Array, flags: number, seq: number, ack: number, window: number): void {
    const end = this.#write(words, flags, seq, ack, window, 0, 0);
    completeTcp(this.#header, ipHeaderLength(words), end);
    this.counts[Count.tcp_segments_out]++;
    this.counts[Count.packets_out]++;
    this.counts[Count.bytes_out] += end;
    this.sink.emit(this.#arena, 0, end);
  }

  /** Returns the length of all headers. */
  #write(
    words: Uint32Array,
    flags: number,
    seq: number,
    ack: number,
    window: number,
    payload: number,
    ecn: number,
  ): number {
    const h = this.#header;
    const ip = ipHeaderLength(words);
    const options = writeTcpOptions(h, ip + TCP_HEADER, this.options);
    const end = ip + TCP_HEADER + options;
    writeIpHeader(h, words, PROTO_TCP, end + payload, this.#identification, ecn);
    this.#identification = (this.#identification + 1) & 0xffff;
    writeTcp(h, ip, words[4], words[9], seq, ack, flags, window, options);
    return end;
  }
}

/** Bytes of options in every segment with payload. */
export const dataOptionSpace = (timestamps: boolean): number => (timestamps ? TIMESTAMP_SPACE : 0);
