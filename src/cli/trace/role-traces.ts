/**
 * What a running role answers to `trace` and `traces` on its local socket. All of it happens in the role's main thread; packets
 * pass in another one.
 *
 *   {"command": "trace", "path": …} or {"command": "trace", "service": …}, with wishes ─► {notes, traces}
 *   {"command": "traces"}                                                              ─► {paths: [{path, entries}]}
 */
import * as v from 'valibot';
import type { Crypto } from '../../base/crypto.js';
import { SallyportError } from '../../base/error.js';
import type { LocalRequest } from '../../os/local-control.js';
import type { PathEntry } from '../../trace/paths/history.js';
import type { PathTrace, PathTracer, PathWish } from '../../trace/paths/path-tracer.js';
import type { RoleStatus } from '../status-types.js';
import { choosePaths } from './role-paths.js';

/** Requests that trace at once; what they cost is a hundred small packets a second each. */
const CONCURRENT = 4;
/** For one request, whatever it wishes: below what the local socket waits. */
const LIMIT_MS = 60_000;
const MOST_PROBES = 1_000;
const LONGEST_WAIT_MS = 10_000;

const small = (most: number) => v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(most)));

/** What a request may say; `checkRequest` looks at the values that have meanings. */
const Wish = v.strictObject({
  command: v.literal('trace'),
  path: v.optional(v.string()),
  service: v.optional(v.string()),
  protocol: v.optional(v.string()),
  queries: small(10),
  endToEndQueries: small(MOST_PROBES),
  maxTtl: small(255),
  timeoutMilliseconds: small(LONGEST_WAIT_MS),
  reverseDns: v.optional(v.boolean()),
});

export interface RoleTraceAnswer {
  readonly notes: readonly string[];
  readonly traces: readonly PathTrace[];
}

export interface RoleTraceHistory {
  readonly paths: readonly { readonly path: string; readonly entries: readonly PathEntry[] }[];
}

/** The latest trace of a path, for `status`. */
export interface TracedStatus extends PathEntry {
  readonly path: string;
}

export class RoleTraces {
  readonly #status: () => Promise<RoleStatus>;
  readonly #open: () => Promise<PathTracer>;
  #tracer: Promise<PathTracer> | undefined;
  /** The same object, once it is there. */
  #opened: PathTracer | undefined;
  #running = 0;

  /** @param open called once, when the first trace is asked for. */
  constructor(status: () => Promise<RoleStatus>, open: () => Promise<PathTracer>) {
    this.#status = status;
    this.#open = open;
  }

  /** @throws SallyportError TRACE_BUSY, BAD_REQUEST, those of `choosePaths`, or with a trace's code when no path could be traced. */
  async trace(request: LocalRequest, gone: AbortSignal): Promise<RoleTraceAnswer> {
    const parsed = v.safeParse(Wish, request);
    if (!parsed.success) throw bad(`bad trace request: ${parsed.issues[0].message}`);
    const { command: _, path, service, ...wish } = parsed.output;
    if ((path === undefined) === (service === undefined)) throw bad('a trace is of a path or of a service');
    if (this.#running >= CONCURRENT) {
      throw new SallyportError('environment', 'TRACE_BUSY', `${CONCURRENT} traces are under way already`);
    }
    this.#running++;
    try {
      const { paths, notes } = choosePaths(await this.#status(), { path, service });
      const tracer = await this.#load();
      const signal = AbortSignal.any([gone, AbortSignal.timeout(LIMIT_MS)]);
      const outcomes = await Promise.allSettled(
        paths.map((one, i) => tracer.trace(one, i === 0 ? defined(wish) : outer(defined(wish)), signal)),
      );
      const traces = outcomes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      const failures = outcomes.flatMap((one, i) =>
        one.status === 'rejected' ? [{ path: paths[i]!.id, error: one.reason as Error }] : [],
      );
      if (traces.length === 0) throw failures[0]!.error;
      return { notes: [...notes, ...failures.map(({ path: id, error }) => `${id}: ${error.message}`)], traces };
    } finally {
      this.#running--;
    }
  }

  get history(): RoleTraceHistory {
    const history = this.#opened?.history;
    const paths = (history?.paths ?? []).map((path) => ({ path, entries: history!.of(path) }));
    return { paths };
  }

  /** The latest of each path. */
  get latest(): readonly TracedStatus[] {
    return this.history.paths.map(({ path, entries }) => ({ path, ...entries.at(-1)! }));
  }

  async #load(): Promise<PathTracer> {
    this.#tracer ??= this.#open();
    this.#opened = await this.#tracer;
    return this.#opened;
  }
}

/** The tracer of this machine; its modules are loaded with the first trace. */
export async function openPathTracer(crypto: Pick<Crypto, 'sha256'>): Promise<PathTracer> {
  const [{ PathTracer: Tracer }, { systemEnvironment }, { openEngine }, { SystemEntropy }] = await Promise.all([
    import('../../trace/paths/path-tracer.js'),
    import('../../trace/environment.js'),
    import('../../trace/open-engine.js'),
    import('../../os/entropy.js'),
  ]);
  return new Tracer(() => systemEnvironment(openEngine(new SystemEntropy())), crypto);
}

/** A wished protocol is about the path that was asked for, not about those below it. */
function outer({ protocol: _, ...wish }: PathWish): PathWish {
  return wish;
}

function defined(wish: { readonly [K in keyof PathWish]?: PathWish[K] | undefined }): PathWish {
  return Object.fromEntries(Object.entries(wish).filter(([, value]) => value !== undefined));
}

function bad(message: string): SallyportError {
  return new SallyportError('caller', 'BAD_REQUEST', message);
}
