/**
 * Settings of a stack.
 */
import type { IpAddress } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, Seconds } from '../base/time.js';
import { type BufferStore, RETAINED_BYTES } from './buffer-store.js';
import type { StackCounters } from './counters.js';
import type { TcpOptions } from './tcp/options.js';
import type { StackHandlers, StackSink } from './types.js';

export interface StackOptions {
  /** Largest IP packet sent or wanted, bytes; 1280 … 65535. */
  readonly mtu: number;
  readonly sink: StackSink;
  readonly handlers: StackHandlers;
  readonly entropy: Entropy;
  readonly crypto: Pick<Crypto, 'hmacSha256'>;
  readonly tcp?: Partial<TcpOptions>;
  /** Addresses that `connect` uses when it is not told one. */
  readonly localV4?: IpAddress;
  readonly localV6?: IpAddress;
  /** Counters to add to; own ones when absent. */
  readonly counters?: StackCounters;
  readonly limits?: Partial<StackLimits>;
  /** Where ring memory waits to be used again; one of its own, of `retainedBytes`, when absent. */
  readonly buffers?: BufferStore;
}

export interface StackLimits {
  /** SYNs waiting for the application's word; the one that comes on top is dropped (its sender asks again). */
  readonly pendingRequests: number;
  /** Longest such wait. */
  readonly pendingTime: Duration;
  /** Connections in all states; a SYN on top is dropped (its sender asks again). */
  readonly connections: number;
  /** ICMP errors and RSTs to unknown flows per second, and at once. */
  readonly errorRate: number;
  readonly errorBurst: number;
  /** Challenge ACKs per second and at once, over all connections. */
  readonly challengeRate: number;
  /** Packets and bytes under reassembly, and for how long. */
  readonly reassemblyPackets: number;
  readonly reassemblyBytes: number;
  readonly reassemblyTime: Duration;
  /** Ring memory kept for reuse, bytes. */
  readonly retainedBytes: number;
  /**
   * Bytes by which send buffers and receive windows together may exceed what they begin with (`sendInitial`, `receiveInitial`). So all ring memory in use
   * is at most this and `connections` times those two; what is kept for reuse comes on top.
   */
  readonly bufferBytes: number;
}

export const DEFAULT_LIMITS: StackLimits = {
  pendingRequests: 128,
  pendingTime: Seconds(60),
  connections: 1024,
  errorRate: 1000,
  errorBurst: 50,
  challengeRate: 1000,
  reassemblyPackets: 64,
  reassemblyBytes: 256 * 1024,
  reassemblyTime: Seconds(15),
  retainedBytes: RETAINED_BYTES,
  bufferBytes: Number.POSITIVE_INFINITY,
};
