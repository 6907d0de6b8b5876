/**
 * What was changed on the host, on disk before it is done, so that the next start can undo what a crash left behind.
 *
 *   one JSON object per line:   {"id":1,"kind":"address","device":"sp0","value":"10.1.2.3/32"}
 *                               {"id":2,"kind":"route","device":"sp0","value":"10.9.0.0/16"}
 *                               {"undone":2}
 *                               {"id":3,"kind":"setting","device":"net/ipv4/ip_forward","value":"0"}
 *                               {"id":4,"kind":"table","device":"inet","value":"sallyport_sp0"}
 *
 * A line that a crash cut short is skipped: what it announces was not begun. The lines need not survive a power failure,
 * because nothing of what they describe does.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';

export interface Change {
  readonly kind: 'address' | 'route' | 'setting' | 'table';
  /** The device; of a setting its key, of a table its family. */
  readonly device: string;
  /** Address with prefix length, or prefix; of a setting what it was before, of a table its name. */
  readonly value: string;
}

const KINDS: readonly Change['kind'][] = ['address', 'route', 'setting', 'table'];

export class Journal {
  readonly #path: string;
  readonly #open = new Map<number, Change>();
  #next = 1;

  /** Reads what an earlier run left open. */
  constructor(path: string) {
    this.#path = path;
    if (existsSync(path)) this.#load(readFileSync(path, 'utf8'));
  }

  /** Changes that are not undone, the latest first. */
  pending(): { readonly id: number; readonly change: Change }[] {
    return [...this.#open].map(([id, change]) => ({ id, change })).reverse();
  }

  /** The id of this very change, if it is open. */
  find(change: Change): number | undefined {
    for (const [id, other] of this.#open) {
      if (other.kind === change.kind && other.device === change.device && other.value === change.value) return id;
    }
    return undefined;
  }

  /** Writes the change down; to be called before it is made. */
  begin(change: Change): number {
    const id = this.#next++;
    this.#append({ id, ...change });
    this.#open.set(id, change);
    return id;
  }

  /** The change was undone, or never came about. Without open changes the file goes away. */
  undone(id: number): void {
    if (!this.#open.delete(id)) return;
    if (this.#open.size === 0) rmSync(this.#path, { force: true });
    else this.#append({ undone: id });
  }

  #append(line: object): void {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    appendFileSync(this.#path, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  }

  #load(text: string): void {
    for (const line of text.split('\n')) {
      const entry = parseLine(line);
      if (entry === undefined) continue;
      if ('undone' in entry) this.#open.delete(entry.undone);
      else {
        this.#open.set(entry.id, { kind: entry.kind, device: entry.device, value: entry.value });
        this.#next = Math.max(this.#next, entry.id + 1);
      }
    }
    // A line cut short must not swallow the next one.
    if (!text.endsWith('\n') && text !== '') appendFileSync(this.#path, '\n');
  }
}

function parseLine(line: string): (Change & { readonly id: number }) | { readonly undone: number } | undefined {
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof entry !== 'object' || entry === null) return undefined;
  const { id, kind, device, value, undone } = entry as Record<string, unknown>;
  if (typeof undone === 'number') return { undone };
  if (typeof id !== 'number' || typeof device !== 'string' || typeof value !== 'string') return undefined;
  return KINDS.includes(kind as Change['kind']) ? { id, kind: kind as Change['kind'], device, value } : undefined;
}
