/**
 * What a stack asks of the program around it: where packets go, and who is told about requests, datagrams and echoes.
 */
import type { Arena } from '../wire/arena.js';
import type { TcpRequest } from './tcp/request.js';

/**
 * Where a stack's packets go. Both calls happen inside `flush`, `handlePacket` or `handleTimeout`; the memory is the
 * stack's and changes after the call, so the sink copies what it keeps. A sink never calls back into the stack.
 */
export interface StackSink {
  /** One complete IP packet, every checksum filled in. */
  emit(packet: Arena, offset: number, length: number): void;
  /**
   * A TCP segment with payload, cut into packets of `segmentSize` payload bytes by the sink (the last may be shorter; one
   * packet when `length <= segmentSize`). `header` holds IP and TCP header with options, `headerLength` bytes from
   * `headerOffset` (a multiple of 4), its lengths those of the whole; `payload` is the send buffer itself, so the copy
   * the sink makes is the only one. For each packet the sink sets: IP length (and IPv4 checksum, id counted up),
   * sequence number, FIN and PSH on the last only, TCP checksum. `Packetizer` does.
   */
  emitTcp(
    header: Arena,
    headerOffset: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    segmentSize: number,
  ): void;
}

/** Why a connection ended. */
export type CloseReason =
  /** Both sides closed and everything was acknowledged. */
  | 'finished'
  /** The peer reset it (or refused it, before it was established). */
  | 'reset'
  | 'refused'
  /** No answer: SYN, data or keepalive probes went unacknowledged for too long. */
  | 'timeout'
  /** No payload for the configured time. */
  | 'idle'
  /** ICMP said the peer cannot be reached (before the connection was established). */
  | 'unreachable'
  /** `abort` was called here. */
  | 'aborted';

/** The application's side of one connection. Every call comes from inside a call into the stack. */
export interface TcpHandlers {
  /** The handshake is complete; data may have been queued before. */
  onConnected?(): void;
  /**
   * The next bytes of the stream. Returns how many were taken; the rest is kept and the window shrinks. After taking
   * less than offered the application is not called again until it calls `pull`.
   */
  onData(bytes: Uint8Array, offset: number, length: number): number;
  /** Behind bytes that were not taken more have come, or the end of the stream; `pull` offers all of them again. */
  onMore?(): void;
  /** The peer's stream ended and all of it has been taken. */
  onPeerClosed?(): void;
  /** The send buffer was full and now has room again (at least half of it). */
  onWritable?(): void;
  /** The last call: no data is sent or received any more. */
  onClosed(reason: CloseReason): void;
}

/** How a request or datagram is refused: RST, an ICMP code, or silence. */
export type Rejection =
  | 'reset'
  | 'net-unreachable'
  | 'host-unreachable'
  | 'port-unreachable'
  | 'admin-prohibited'
  | 'ignore';

/** Addresses in these calls are packed socket addresses (base/address.ts): index 0 = source, 1 = destination; reused. */
export interface StackHandlers {
  /** A SYN for a flow not known: accept or reject it now or later. Without this handler every SYN is reset. */
  onSyn?(request: TcpRequest): void;
  /** A datagram. The answer says whether it was taken; anything but undefined is sent back as an ICMP error. */
  onUdp?(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): Rejection | undefined;
  /** An ICMP error about a datagram sent from index 0 to index 1; `mtu` > 0 when it was too big. */
  onUdpError?(addresses: Uint32Array, mtu: number): void;
  /**
   * An echo request. True: the stack answers at once. False: the application calls `sendEchoReply` later, or not. Else it is sent
   * back as an ICMP error.
   */
  onEcho?(
    addresses: Uint32Array,
    identifier: number,
    sequence: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean | Rejection;
}
