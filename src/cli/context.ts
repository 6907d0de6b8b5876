/**
 * What every command gets from the program that runs it, so that commands touch no global.
 */
import type { Crypto } from '../base/crypto.js';
import type { Entropy } from '../base/entropy.js';
import type { Clock } from '../base/time.js';

export interface CommandContext {
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly environment: NodeJS.ProcessEnv;
  /** Results: one call, one line (or a text of several) on standard output. */
  out(text: string): void;
  /** Text for people beside the result, on standard error. */
  note(text: string): void;
}
