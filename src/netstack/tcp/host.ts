/**
 * What a connection needs from the stack it belongs to.
 */

import type { Instant } from '../../base/time.js';
import type { Timer } from '../../base/timers.js';
import type { BufferPool } from '../buffer-pool.js';
import type { TcpConnection } from './connection.js';
import type { TcpEmitter } from './emit.js';
import type { TcpOptions } from './options.js';

export interface TcpHost {
  readonly options: TcpOptions;
  readonly pool: BufferPool;
  readonly emitter: TcpEmitter;
  /** Counter values, indexed by `Count`. */
  readonly counts: Float64Array;
  /** Largest IP packet this stack sends or wants, bytes. */
  readonly mtu: number;
  /** Asks for `output` at the next flush. */
  schedule(connection: TcpConnection): void;
  /** Arms the connection's timer for `at` unless it fires earlier anyway. */
  armNoLater(timer: Timer, at: Instant): void;
  /** The connection is closed: forget it. */
  forget(connection: TcpConnection): void;
  /** Whether one more challenge ACK may be sent now (RFC 5961 §7, over all connections). */
  mayChallenge(now: Instant): boolean;
  /** The instant of the call into the stack that is running. */
  readonly now: Instant;
}
