/**
 * A probe, the answer to one, and what sends and recognizes them: the seam between engines (when to send which TTL) and methods
 * (what the bytes are).
 *
 *   engine ── Probe(ttl, index, flow, size) ─► ProbeTransport.send ─► network
 *   engine ◄─ Answer(probe, from, kind, at) ── ProbeTransport ◄────── network
 */
import type { IpAddress, SocketAddress } from '../../base/address.js';
import type { SallyportError } from '../../base/error.js';
import { type Instant, instantAt } from '../../base/time.js';
import type { IoResult } from '../../os/io.js';
import type { IcmpExtensionObjects } from '../../wire/icmp-extensions.js';
import type { ReplyKind } from '../types.js';

export class Probe {
  /** Which of the probes with this TTL, from 0. */
  readonly index: number;
  readonly ttl: number;
  /** Packets of one flow take one path; from 0. */
  readonly flow: number;
  /** Bytes of the IP packet; 0: the method's smallest. */
  readonly size: number;
  /** Just before it left. */
  sentAt: Instant = instantAt(0);
  answered = false;

  constructor(ttl: number, index: number, flow: number, size: number) {
    this.ttl = ttl;
    this.index = index;
    this.flow = flow;
    this.size = size;
  }
}

export interface Answer {
  readonly probe: Probe;
  readonly from: IpAddress;
  readonly kind: ReplyKind;
  readonly at: Instant;
  /** The destination's own answer for certain. */
  readonly isDestination: boolean;
  readonly nat: boolean;
  readonly replyTtl?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly quotedTtl?: number;
  readonly extensions?: IcmpExtensionObjects;
  /** The MTU that a "packet too big" announces; 0: none told. */
  readonly mtu?: number;
}

export interface TransportEvents {
  answer(answer: Answer): void;
  /** The run cannot go on. */
  fail(error: SallyportError): void;
}

/** One run's way to send and to be answered. */
export interface ProbeTransport {
  /** Port 0 where the protocol has none. */
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** Sends and stamps the probe; a length, 0 or a negated errno. */
  send(probe: Probe): IoResult;
  /** Hands over what waits, so that a deadline is judged with everything known. */
  drain(): void;
  close(): void;
}
