/**
 * Which invitations have been used, and for which key: the memory that makes a token one-time.
 *
 *   used.jsonl, one line each: {"invitation": hex, "spki": sha256 hex, "at": ms, "certificate": PEM, "rotations": n}
 *
 *   free ──claim──► claimed (in memory, one winner) ──commit (appended, fsynced)──► used
 *                                                  └─release (issuing failed)────► free
 *
 * A line that a crash cut off was never answered and is removed when the file is opened. A later line for an invitation
 * replaces an earlier one; when more than half of a large file is replaced lines, it is written anew. The folder's lock keeps
 * other processes away.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { writeFile } from '../identity/files.js';
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

/** Below this a file is left as it is: about 800 lines of 1.3 KB. */
const COMPACT_ABOVE_BYTES = 1 << 20;

export class UsedInvitations {
  #fd: number;
  readonly #path: string;
  readonly #used = new Map<string, Use>();
  readonly #claimed = new Set<string>();
  /** Bytes of the file, and of those of its lines that count. */
  #size = 0;
  #live = 0;

  private constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'a+', 0o600);
  }

  /** @throws SallyportError USED_UNREADABLE (environment): nothing may be issued without this memory. */
  static open(path: string): UsedInvitations {
    try {
      const store = new UsedInvitations(path);
      store.#load(readFileSync(path, 'utf8'));
      store.#compact();
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
    const line = lineOf(use);
    try {
      for (let at = 0; at < line.length; ) at += writeSync(this.#fd, line, at);
      fsyncSync(this.#fd);
    } catch (cause) {
      ftruncateSync(this.#fd, this.#size);
      throw new SallyportError('environment', 'USED_UNWRITABLE', 'the used invitations cannot be written', { cause });
    }
    this.#size += line.length;
    this.#keep(use);
    this.#claimed.delete(use.invitation);
    this.#compact();
  }

  close(): void {
    closeSync(this.#fd);
  }

  #keep(use: Use): void {
    const older = this.#used.get(use.invitation);
    if (older !== undefined) this.#live -= lineOf(older).length;
    this.#live += lineOf(use).length;
    this.#used.set(use.invitation, use);
  }

  /** Leaves out the replaced lines. A failure (full disk) is no loss: the file stays as it is. */
  #compact(): void {
    if (this.#size < COMPACT_ABOVE_BYTES || this.#size < 2 * this.#live) return;
    const whole = Buffer.concat([...this.#used.values()].map(lineOf));
    try {
      writeFile(this.#path, whole);
    } catch {
      return;
    }
    const before = this.#fd;
    this.#fd = openSync(this.#path, 'a+', 0o600);
    closeSync(before);
    this.#size = whole.length;
    this.#live = whole.length;
  }

  #load(text: string): void {
    const whole = text.lastIndexOf('\n') + 1;
    for (const line of text.slice(0, whole).split('\n')) {
      if (line === '') continue;
      let use: Use;
      try {
        use = v.parse(Use, JSON.parse(line));
      } catch (cause) {
        throw new SallyportError('environment', 'USED_UNREADABLE', `${this.#path} has a damaged line`, {
          cause,
          hint: 'restore it from a backup: without it an invitation could be used twice',
        });
      }
      this.#keep(use);
    }
    this.#size = Buffer.byteLength(text.slice(0, whole));
    if (whole < text.length) ftruncateSync(this.#fd, this.#size);
  }
}

function lineOf(use: Use): Buffer {
  return Buffer.from(`${JSON.stringify(use)}\n`);
}
