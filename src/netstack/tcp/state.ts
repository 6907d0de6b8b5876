/**
 * The states of a TCP connection and the transitions between them.
 *
 *   CLOSED ─► SYN-SENT ─► ESTABLISHED ─► FIN-WAIT-1 ─► FIN-WAIT-2 ─► TIME-WAIT ─► CLOSED
 *      │          │        ▲        │        └─► CLOSING ────────────►▲
 *      └─► SYN-RECEIVED ───┘        └─► CLOSE-WAIT ─► LAST-ACK ─► CLOSED      (any state ─► CLOSED by reset or timeout)
 *
 * LISTEN belongs to the stack (a request that waits for the application is not yet a connection). RFC 9293 §3.3.2.
 */

export const State = {
  closed: 0,
  listen: 1,
  synSent: 2,
  synReceived: 3,
  established: 4,
  finWait1: 5,
  finWait2: 6,
  closeWait: 7,
  closing: 8,
  lastAck: 9,
  timeWait: 10,
} as const;

export type TcpState = (typeof State)[keyof typeof State];

const bits = (...states: TcpState[]): number => states.reduce<number>((mask, state) => mask | (1 << state), 0);

/** Successors of each state, as a bit mask. CLOSED follows every state. */
const NEXT: readonly number[] = [
  bits(State.synSent, State.synReceived),
  bits(State.synReceived),
  bits(State.established, State.synReceived),
  bits(State.established, State.finWait1, State.closeWait),
  bits(State.finWait1, State.closeWait),
  bits(State.finWait2, State.closing, State.timeWait),
  bits(State.timeWait),
  bits(State.lastAck),
  bits(State.timeWait),
  0,
  0,
];

export const isTransition = (from: TcpState, to: TcpState): boolean =>
  to === State.closed || ((NEXT[from] >>> to) & 1) === 1;

/** States in which the peer's data is still awaited. */
export const RECEIVING = bits(State.established, State.finWait1, State.finWait2);
/** States in which this end may still have data or a FIN to send or resend. */
export const SENDING = bits(State.established, State.closeWait, State.finWait1, State.closing, State.lastAck);
/** States after the handshake. */
export const SYNCHRONIZED = SENDING | bits(State.finWait2, State.timeWait);

export const isIn = (state: TcpState, mask: number): boolean => ((mask >>> state) & 1) === 1;

/** A deadline that does not come. */
export const NEVER = Number.POSITIVE_INFINITY;
