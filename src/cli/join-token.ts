/**
 * Where a join token comes from: a file, the environment, standard input, or (with a warning, because the process list shows
 * it) the command line.
 */
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { SallyportError } from '../base/error.js';
import type { CommandContext } from './context.js';

export interface JoinSource {
  /** The token itself, or `-` for standard input. */
  readonly join: string | undefined;
  readonly joinFile: string | undefined;
  /** Whether `join` was written on the command line. */
  readonly isArgument: boolean;
}

/** @throws SallyportError TOKEN_UNREADABLE (caller); undefined when no token was given. */
export async function readJoinToken(source: JoinSource, context: CommandContext): Promise<string | undefined> {
  if (source.joinFile !== undefined) {
    try {
      return readFileSync(source.joinFile, 'utf8').trim();
    } catch (cause) {
      throw new SallyportError('caller', 'TOKEN_UNREADABLE', `cannot read the token file ${source.joinFile}`, {
        cause,
      });
    }
  }
  if (source.join === undefined) return undefined;
  if (source.join === '-') return (await text(process.stdin)).trim();
  if (source.isArgument) {
    context.note('warning: a token on the command line can be read by other users of this machine; use --join-file');
  }
  return source.join.trim();
}
