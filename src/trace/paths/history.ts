/**
 * The traces of a running role, by path: the latest of each, bounded, and when a path changed.
 *
 *   add ─► may be the path seen before ──► its id goes on, silent hops are filled in
 *             └── another hop, another length ──► changed, a new id
 *
 * At most `PATHS` paths, the one longest not traced goes first; at most `ENTRIES` traces of each.
 */
import type { Crypto } from '../../base/crypto.js';
import { mayBeSame, merged, pathId, type SeenPath } from './path-id.js';

/** A relay with thousands of nodes is asked about a few; an entry is some hundred bytes. */
const PATHS = 64;
const ENTRIES = 100;

/** One trace of a path in short. */
export interface PathEntry {
  /** ISO 8601. */
  readonly at: string;
  readonly target: string;
  readonly protocol: string;
  /** Stays while nothing says that packets go another way. */
  readonly path_id: string;
  /** The way is another one than before, or the destination answers no more, or again. */
  readonly changed: boolean;
  readonly reached: boolean;
  /** Addresses; empty: silent. */
  readonly hops: readonly string[];
  /** Mean RTT of the end-to-end probes in milliseconds; 0: none was answered. */
  readonly rtt: number;
  /** Lost end-to-end probes, 0 … 1. */
  readonly loss: number;
}

/** What a trace adds; the history finds out the rest. */
export type SeenTrace = Omit<PathEntry, 'path_id' | 'changed'>;

interface Known {
  readonly entries: PathEntry[];
  /** Everything told about the way so far. */
  way: SeenPath;
  /** Of the latest trace. */
  reached: boolean;
}

export class PathHistory {
  readonly #crypto: Pick<Crypto, 'sha256'>;
  /** In the order of their latest traces. */
  readonly #paths = new Map<string, Known>();

  constructor(crypto: Pick<Crypto, 'sha256'>) {
    this.#crypto = crypto;
  }

  add(path: string, seen: SeenTrace): PathEntry {
    const known = this.#paths.get(path);
    this.#paths.delete(path);
    const last = known?.entries.at(-1);
    const same = known !== undefined && last?.protocol === seen.protocol && mayBeSame(known.way, seen);
    const entry: PathEntry = {
      ...seen,
      path_id: same ? last!.path_id : pathId(seen.hops, this.#crypto),
      // Another protocol may be routed another way: no news by itself.
      changed: known !== undefined && last?.protocol === seen.protocol && !(same && known.reached === seen.reached),
    };
    const entries = [...(known?.entries ?? []), entry].slice(-ENTRIES);
    this.#paths.set(path, { entries, way: same ? merged(known.way, seen) : seen, reached: seen.reached });
    for (const oldest of this.#paths.keys()) {
      if (this.#paths.size <= PATHS) break;
      this.#paths.delete(oldest);
    }
    return entry;
  }

  /** The traces of a path, oldest first; none of one that was not traced. */
  of(path: string): readonly PathEntry[] {
    return this.#paths.get(path)?.entries ?? [];
  }

  /** Every path that was traced, the latest last. */
  get paths(): readonly string[] {
    return [...this.#paths.keys()];
  }
}
