/**
 * Which invitations have been used, and for which key: the memory that makes a token one-time.
 *
 *   used.jsonl, one line each: {"invitation": hex, "spki": sha256 hex, "at": ms, "certificate": PEM, "rotations": n}
 *
 *   free ──claim──► claimed (in memory, one winner) ──commit (appended, fsynced)──► used
 *                                                  └─release (issuing failed)────► free
 *
 * A line that a crash cut off was never answered and is removed when the file is opened. A later line for an invitation
 * replaces an earlier one. The folder's lock keeps other processes away.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { InvitationId } from '../policy/document.js';

const Use = v.object({
  invitation: InvitationId,
  /** SHA-256 of the first TLS key's SPKI, hex. */
  spki: v.string(),
  at: v.number(),
  certificate: v.string(),
  /** Most key rotations a renewal has shown. */
  rotations: v.optional(v.number(), 0),
});
export type Use = v.InferOutput<typeof Use>;

export class UsedInvitations {
  readonly #fd: number;
  readonly #used = new Map<string, Use>();
  readonly #claimed = new Set<string>();
  #size = 0;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @throws SallyportError USED_UNREADABLE (environment): nothing may be issued without this memory. */
  static open(path: string): UsedInvitations {
    try {
      const store = new UsedInvitations(openSync(path, 'a+', 0o600));
      store.#load(readFileSync(path, 'utf8'), path);
      return store;
    } catch (cause) {
      if (cause instanceof SallyportError) throw cause;
      throw new SallyportError('environment', 'USED_UNREADABLE', `${path} cannot be opened`, { cause });
    }
  }

  get(invitation: string): Use | undefined {
    return this.#used.get(invitation);
  }

  /** False when another enrolment with this invitation is under way or done. */
  claim(invitation: string): boolean {
    if (this.#used.has(invitation) || this.#claimed.has(invitation)) return false;
    this.#claimed.add(invitation);
    return true;
  }

  release(invitation: string): void {
    this.#claimed.delete(invitation);
  }

  /** Durable when it returns. @throws SallyportError USED_UNWRITABLE (environment); the claim then stays for `release`. */
  commit(use: Use): void {
    const line = Buffer.from(`${JSON.stringify(use)}\n`);
    try {
      for (let at = 0; at < line.length; ) at += writeSync(this.#fd, line, at);
      fsyncSync(this.#fd);
    } catch (cause) {
      ftruncateSync(this.#fd, this.#size);
      throw new SallyportError('environment', 'USED_UNWRITABLE', 'the used invitations cannot be written', { cause });
    }
    this.#size += line.length;
    this.#used.set(use.invitation, use);
    this.#claimed.delete(use.invitation);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #load(text: string, path: string): void {
    const whole = text.lastIndexOf('\n') + 1;
    for (const line of text.slice(0, whole).split('\n')) {
      if (line === '') continue;
      let use: Use;
      try {
        use = v.parse(Use, JSON.parse(line));
      } catch (cause) {
        throw new SallyportError('environment', 'USED_UNREADABLE', `${path} has a damaged line`, {
          cause,
          hint: 'restore it from a backup: without it an invitation could be used twice',
        });
      }
      this.#used.set(use.invitation, use);
    }
    this.#size = Buffer.byteLength(text.slice(0, whole));
    if (whole < text.length) ftruncateSync(this.#fd, this.#size);
  }
}
