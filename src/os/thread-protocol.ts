/**
 * What the main thread and a packet thread say to each other, and the memory they share.
 *
 *   main ──request id · name · input──► thread          main ◄──reply id · output | failure id · error── thread
 *                                                       main ◄──event name · payload── thread
 *   main ──ThreadStart, once──► thread: (setup) ─► ready | failed ─► … ─► stopped
 *
 * Messages are structured clones; what has to be fast goes through shared counters instead.
 */
import { type ErrorKind, SallyportError } from '../base/error.js';

/** The names and types one kind of thread understands: declared once and imported by both sides. */
export interface ThreadProtocol {
  readonly requests: { readonly [name: string]: { readonly input: unknown; readonly output: unknown } };
  readonly events: { readonly [name: string]: unknown };
}

export type RequestName<P extends ThreadProtocol> = keyof P['requests'] & string;
export type EventName<P extends ThreadProtocol> = keyof P['events'] & string;
export type Input<P extends ThreadProtocol, K extends RequestName<P>> = P['requests'][K]['input'];
export type Output<P extends ThreadProtocol, K extends RequestName<P>> = P['requests'][K]['output'];

/** The first message to a thread. `data` is the role's own, a structured clone. */
export interface ThreadStart {
  readonly data: unknown;
  readonly wakeFd: number;
  /** Int32Array over CONTROL_CELLS cells, see os/linux/reactor.ts. */
  readonly control: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
}

/** The first message to a thread that is not wanted: it ends. */
export const NOT_NEEDED = null;

/** An error as it crosses the threads: the stack and the cause stay behind. */
export interface WireError {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
}

export type ToThread = {
  readonly type: 'request';
  readonly id: number;
  readonly name: string;
  readonly input: unknown;
};

export type FromThread =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly error: WireError }
  | { readonly type: 'reply'; readonly id: number; readonly output: unknown }
  | { readonly type: 'failure'; readonly id: number; readonly error: WireError }
  | { readonly type: 'event'; readonly name: string; readonly payload: unknown }
  | { readonly type: 'bug'; readonly error: WireError; readonly suppressed: number }
  /** There is little to do, and garbage has been collected. */
  | { readonly type: 'rests' }
  | { readonly type: 'stopped' };

export function toWire(error: unknown): WireError {
  if (error instanceof SallyportError) {
    return { kind: error.kind, code: error.code, message: error.message, hint: error.hint };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { kind: 'bug', code: 'UNEXPECTED', message, hint: undefined };
}

export function fromWire(error: WireError): SallyportError {
  return new SallyportError(
    error.kind,
    error.code,
    error.message,
    error.hint === undefined ? {} : { hint: error.hint },
  );
}
