/**
 * The one base class of every error Sallyport throws. Packet paths never throw: they return a drop reason and count it.
 */

/** Whose fault it is: the machine's, the other end's, the caller's, or ours. */
export type ErrorKind = 'environment' | 'peer' | 'caller' | 'bug';

export interface SallyportErrorOptions {
  readonly cause?: unknown;
  /** What the reader can do about it, one sentence; printed after the message. */
  readonly hint?: string;
}

export class SallyportError extends Error {
  /** Stable, upper-case identifier such as `TUN_NOT_PERMITTED`: for programs; the message is for people. */
  readonly code: string;
  readonly kind: ErrorKind;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, code: string, message: string, options: SallyportErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SallyportError';
    this.kind = kind;
    this.code = code;
    this.hint = options.hint;
  }
}

/** One line for a person: what went wrong and, where known, what to do. */
export function describeError(error: unknown): string {
  if (error instanceof SallyportError) {
    return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  }
  if (!(error instanceof Error)) return String(error);
  // Modules that are loaded when they are needed are not there any more once another version is installed in this one's place.
  const isReplaced = (error as { code?: unknown }).code === 'ERR_MODULE_NOT_FOUND';
  return isReplaced ? `${error.message} (if the program was upgraded meanwhile: start it again)` : error.message;
}
