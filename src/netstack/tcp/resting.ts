/**
 * What a connection in TIME-WAIT remembers. Its two halves are several kilobytes of state for a stream that is over; at thousands of connections
 * a second, a second of them is what the collector would mostly move about.
 *
 *   TIME-WAIT, nothing owed ──rest──► twelve numbers ──a segment──► halves anew, as far as an answer needs them ──answered──► rest
 *
 * RFC 9293 §3.10.7.4 (what is answered), RFC 6191 (what may take its place).
 */
import { BufferPool } from '../buffer-pool.js';
import { BufferStore } from '../buffer-store.js';
import { DEFAULT_TCP_OPTIONS, type TcpOptions } from './options.js';
import { Receiver } from './receiver.js';
import { Sender } from './sender.js';

/** Sequence numbers and windows of both halves, as in `Sender` and `Receiver`. */
export interface Resting {
  readonly una: number;
  readonly maxSent: number;
  readonly window: number;
  readonly maxWindow: number;
  readonly sendShift: number;
  readonly sack: boolean;
  readonly irs: number;
  readonly nxt: number;
  readonly advertised: number;
  readonly receiveShift: number;
  readonly limit: number;
  readonly segment: number;
}

/** Stand in for the halves of every resting connection: empty, closed both ways, never written. */
const NO_POOL = new BufferPool(new BufferStore(0), 0);
export const SPENT_SENDER = new Sender(NO_POOL, DEFAULT_TCP_OPTIONS);
SPENT_SENDER.finQueued = true;
SPENT_SENDER.finSent = true;
export const SPENT_RECEIVER = new Receiver(NO_POOL, 0, 0);
SPENT_RECEIVER.finReceived = true;

export function restingOf(s: Sender, r: Receiver): Resting {
  return {
    una: s.una,
    maxSent: s.maxSent,
    window: s.window,
    maxWindow: s.maxWindow,
    sendShift: s.shift,
    sack: s.sack,
    irs: r.irs,
    nxt: r.nxt,
    advertised: r.advertised,
    receiveShift: r.shift,
    limit: r.limit,
    segment: r.segment,
  };
}

/** A sender that has sent everything, and its FIN. */
export function wakeSender(resting: Resting, pool: BufferPool, options: TcpOptions): Sender {
  const s = new Sender(pool, options);
  s.start(resting.una);
  s.ringSeq = resting.una;
  s.maxSent = resting.maxSent;
  s.window = resting.window;
  s.maxWindow = resting.maxWindow;
  s.shift = resting.sendShift;
  s.sack = resting.sack;
  s.finQueued = true;
  s.finSent = true;
  return s;
}

/** A receiver that has everything, and the peer's FIN. */
export function wakeReceiver(resting: Resting, pool: BufferPool): Receiver {
  const r = new Receiver(pool, resting.limit, resting.limit);
  r.irs = resting.irs;
  r.nxt = resting.nxt;
  r.advertised = resting.advertised;
  r.shift = resting.receiveShift;
  r.segment = resting.segment;
  r.finReceived = true;
  return r;
}
