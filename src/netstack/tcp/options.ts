/**
 * Settings of the TCP part of a stack, with the values and where they come from.
 */
import { type Duration, Micros, Millis, Minutes, Seconds } from '../../base/time.js';
import type { CongestionAlgorithm } from './congestion.js';
import type { EcnChoice } from './ecn.js';

export interface TcpOptions {
  readonly congestion: CongestionAlgorithm;
  /** First and largest receive window of a connection, bytes; the window grows with what is read per round trip. */
  readonly receiveInitial: number;
  readonly receiveMax: number;
  /** First and largest send buffer, bytes; powers of two. */
  readonly sendInitial: number;
  readonly sendMax: number;
  /** Window scaling, timestamps and selective acknowledgements are offered (and taken when the peer offers them). */
  readonly windowScaling: boolean;
  readonly timestamps: boolean;
  readonly sack: boolean;
  /** Explicit congestion notification that is offered and taken: with counters (RFC 9768) or flags (RFC 3168), or none. */
  readonly ecn: EcnChoice;
  /** Segments that vanish because of their size are made smaller, and larger ones are tried again (RFC 4821, RFC 8899). */
  readonly pathMtuProbing: boolean;
  /** Longest time an acknowledgement waits for a second segment (RFC 9293 §3.8.6.3 allows 500 ms). */
  readonly delayedAck: Duration;
  /** How long a 4-tuple rests after an active close. Short: the links below drop what is older than this. */
  readonly timeWait: Duration;
  /** SYN or SYN-ACK transmissions before giving up (RFC 9293 §3.8.3 wants ≥ 3 min for SYN; interactive use wants less). */
  readonly synRetries: number;
  /** Unacknowledged data older than this ends the connection (RFC 9293 §3.8.3, RFC 5482). A session may sleep 30 min. */
  readonly userTimeout: Duration;
  /** The user timeout is told to the peer, and what it tells is taken (RFC 5482 §3.1 wants both off unless asked for). */
  readonly userTimeoutOption: boolean;
  /** Silence before the first probe, between probes, and probes without an answer before giving up; idle 0 = never. */
  readonly keepaliveIdle: Duration;
  readonly keepaliveInterval: Duration;
  readonly keepaliveProbes: number;
  /** No payload either way for this long ends the connection; 0 = never. */
  readonly idleTimeout: Duration;
  /** The same for a connection one side of which is closed; 0 = never. */
  readonly halfClosedTimeout: Duration;
  /** Longest super-segment payload handed to the sink, bytes (the IP length field caps it anyway). */
  readonly superSegment: number;
}

export const DEFAULT_TCP_OPTIONS: TcpOptions = {
  congestion: 'bbr',
  receiveInitial: 256 * 1024,
  receiveMax: 4 * 1024 * 1024,
  sendInitial: 64 * 1024,
  sendMax: 4 * 1024 * 1024,
  windowScaling: true,
  timestamps: true,
  sack: true,
  ecn: 'accurate',
  pathMtuProbing: true,
  delayedAck: Millis(40),
  timeWait: Seconds(1),
  synRetries: 6,
  userTimeout: Minutes(30),
  userTimeoutOption: false,
  keepaliveIdle: Seconds(60),
  keepaliveInterval: Seconds(30),
  keepaliveProbes: 9,
  idleTimeout: Micros(0),
  halfClosedTimeout: Seconds(60),
  superSegment: 65_535,
};
