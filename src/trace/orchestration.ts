/**
 * One trace: several runs and a series of end-to-end probes side by side, names and registries looked up as hops appear.
 *
 *   check ─► resolve (once) ─┬─► runs ──────────► names, networks ─┬─► TraceResult
 *                            ├─► end-to-end series ────────────────┤
 *                            └─► public address ───────────────────┘
 *
 * It fails when the request is wrong, the name has no address, or every run fails; loss is a result.
 */
import { setMaxListeners } from 'node:events';
import type { IpAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Clock, type Duration, Millis, toMillis } from '../base/time.js';
import { EndSeries } from './end-series.js';
import { traceError, traceErrorCode } from './error.js';
import type { AddressNames } from './names.js';
import type { Networks } from './networks.js';
import type { PublicIp } from './public-ip.js';
import { type CheckedRequest, checkRequest, type TraceRequest } from './request.js';
import { cancelled, type Lookup, resolveTarget, unlessAborted } from './resolve.js';
import type { EndToEnd, NamedRun, NetworkInfo, TraceResult } from './result.js';
import type { Hop, TraceEngine, TraceOptions, TraceProtocol, TraceRun } from './types.js';

/** All end-to-end probes leave within this time, unless that needs a shorter interval than the shortest. */
const SERIES_SPAN = Millis(500);
const SHORTEST_INTERVAL = Millis(10);
/** What datadog-traceroute waits at most. */
const LONGEST_INTERVAL = Millis(1_000);
/** More lost than this share, and this many, where answers are ICMP errors: echo requests are believed instead. */
const DOUBTFUL_LOSS = 0.2;
const DOUBTFUL_LOSSES = 3;
/** After a run's last probe was sent: by then a destination that answers has usually done so. */
const REACH_PATIENCE = Millis(300);

const LARGEST_PORT = 65_535;

/** What a trace needs of the machine; shared by any number of traces. */
export interface TraceEnvironment {
  readonly engine: TraceEngine;
  readonly lookup: Lookup;
  readonly names: AddressNames;
  readonly networks: Networks;
  readonly publicIp: PublicIp;
  readonly clock: Clock;
  readonly entropy: Entropy;
}

/** What happens during a trace, in order. `run` counts the runs from 0. */
export type TraceStep =
  | { readonly kind: 'resolved'; readonly address: IpAddress; readonly port: number }
  /** Replaces what was known about this TTL of this run. */
  | { readonly kind: 'hop'; readonly run: number; readonly hop: Hop }
  | { readonly kind: 'run'; readonly run: number; readonly found: TraceRun }
  | { readonly kind: 'run-failed'; readonly run: number; readonly error: Error }
  /** An end-to-end probe's RTT in milliseconds; 0: lost. */
  | { readonly kind: 'probe'; readonly rtt: number }
  /** A series of end-to-end probes starts; those so far do not count. */
  | { readonly kind: 'series'; readonly method: TraceProtocol }
  | { readonly kind: 'names'; readonly address: IpAddress; readonly names: readonly string[] }
  | { readonly kind: 'network'; readonly address: IpAddress; readonly network: NetworkInfo };

/**
 * Runs a trace to its end.
 * @param onStep called for everything as it happens.
 * @throws SallyportError with a `TraceErrorCode`; TIMEOUT when `signal` is aborted.
 */
export async function runTrace(
  target: string,
  request: TraceRequest,
  environment: TraceEnvironment,
  signal: AbortSignal,
  onStep: (step: TraceStep) => void,
): Promise<TraceResult> {
  const checked = checkRequest(target, request);
  if (signal.aborted) throw cancelled(signal);
  const destination = await resolveTarget(checked.target, checked.ipv6, environment.lookup, signal);
  onStep({ kind: 'resolved', address: destination, port: checked.options.port });
  return await new Trace(checked, { ...checked.options, destination }, environment, signal, onStep).run();
}

class Trace {
  readonly #request: CheckedRequest;
  readonly #options: TraceOptions;
  readonly #environment: TraceEnvironment;
  /** Ends everything under way: the caller's wish, or that every run has failed. */
  readonly #end = new AbortController();
  readonly #signal: AbortSignal;
  readonly #onStep: (step: TraceStep) => void;
  readonly #finished: NamedRun[] = [];
  readonly #names = new Map<string, readonly string[]>();
  readonly #networks = new Map<string, NetworkInfo>();
  /** By address text: looked up, or being looked up. */
  readonly #lookups = new Map<string, Promise<unknown>>();
  /** The one that counts now. */
  #series: EndSeries | undefined;
  readonly #reached = signalled();
  readonly #runsEnded = signalled();
  #hasReached = false;

  constructor(
    request: CheckedRequest,
    options: TraceOptions,
    environment: TraceEnvironment,
    signal: AbortSignal,
    onStep: (step: TraceStep) => void,
  ) {
    this.#request = request;
    this.#options = options;
    this.#environment = environment;
    this.#signal = AbortSignal.any([signal, this.#end.signal]);
    // Every run and every lookup listens to it: as many as the request's limits allow.
    setMaxListeners(0, this.#signal);
    this.#onStep = onStep;
  }

  async run(): Promise<TraceResult> {
    const { publicIp, entropy } = this.#environment;
    const { sourcePublicIp, target, port } = this.#request;
    try {
      const [, endToEnd, ip] = await Promise.all([
        this.#allRuns(),
        this.#endToEnd(),
        sourcePublicIp ? publicIp.find(this.#signal) : '',
      ]);
      await unlessAborted(this.#lookedUp(), this.#signal);
      return {
        id: randomId(entropy),
        protocol: this.#options.protocol,
        hostname: target.text,
        port,
        publicIp: ip,
        runs: this.#finished,
        endToEnd,
        names: this.#names,
        networks: this.#networks,
      };
    } finally {
      this.#end.abort();
    }
  }

  async #allRuns(): Promise<void> {
    const { queries, reverseDns, networks } = this.#request;
    const errors: Error[] = [];
    const one = async (index: number): Promise<void> => {
      try {
        await this.#oneRun(index);
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new Error(String(thrown));
        errors.push(error);
        this.#onStep({ kind: 'run-failed', run: index, error });
      }
    };
    await Promise.all(Array.from({ length: queries }, (_, index) => one(index)));
    this.#runsEnded.resolve();
    if (this.#signal.aborted) throw cancelled(this.#signal);
    if (queries > 0 && this.#finished.length === 0) throw allFailed(this.#options, errors);
    if (queries === 0 && (reverseDns || networks)) this.#lookUp(this.#options.destination);
  }

  async #oneRun(index: number): Promise<void> {
    const { engine, entropy } = this.#environment;
    for await (const event of engine.run(this.#ofRun(index), this.#signal)) {
      if (event.kind === 'start') this.#lookUp(event.destination.ip);
      if (event.kind === 'hop') {
        for (const reply of event.hop.replies) {
          this.#lookUp(reply.from);
          if (reply.isDestination) this.#noteReached(reply.rtt);
        }
        this.#onStep({ kind: 'hop', run: index, hop: event.hop });
      }
      if (event.kind === 'done') {
        for (const hop of event.run.hops) for (const reply of hop.replies) this.#lookUp(reply.from);
        this.#finished.push({ id: randomId(entropy), run: event.run });
        this.#onStep({ kind: 'run', run: index, found: event.run });
      }
    }
  }

  /** Runs side by side cannot share a port: the others take the next ones. */
  #ofRun(index: number): TraceOptions {
    const { sourcePort, ...options } = this.#options;
    const port = (sourcePort ?? 0) + index;
    return sourcePort === undefined || port > LARGEST_PORT ? options : { ...options, sourcePort: port };
  }

  /**
   * UDP is answered with ICMP errors, which hosts send at about one a second after a few at once: a quick series by UDP would
   * measure that, and take the answers from the runs. So echo requests measure it while the runs find out whether the
   * destination answers UDP at all; if it does not, or answers no echo, the series by UDP follows.
   */
  async #endToEnd(): Promise<EndToEnd> {
    const { protocol } = this.#options;
    if (protocol !== 'udp') return { rtts: (await this.#measure(protocol)).rtts, method: protocol };
    const echo = this.#request.queries === 0 ? undefined : this.#measure('icmp');
    if (echo !== undefined && (await this.#reachedInTime())) {
      const { rtts } = await echo;
      if (rtts.some((rtt) => rtt > 0) || rtts.length === 0 || this.#signal.aborted) return { rtts, method: 'icmp' };
      await this.#runsEnded.promise;
    }
    const { rtts, limited } = await this.#measure('udp');
    const answered = rtts.some((rtt) => rtt > 0);
    if (limited || (answered && isDoubtful(rtts))) {
      const { rtts: echoed } = await (echo ?? this.#measure('icmp'));
      if (echoed.some((rtt) => rtt > 0)) return { rtts: echoed, method: 'icmp' };
    }
    return { rtts: padded(rtts, this.#request.endToEndQueries), method: 'udp' };
  }

  /** True as soon as the destination has answered a run; false when all runs have sent everything and it has not. */
  async #reachedInTime(): Promise<boolean> {
    const { maxTtl, minTtl, sendDelay, repeats } = this.#options;
    const sending = (maxTtl - minTtl + 1) * repeats * toMillis(sendDelay);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, sending + toMillis(REACH_PATIENCE));
    });
    await Promise.race([this.#reached.promise, this.#runsEnded.promise, late]);
    clearTimeout(timer);
    return this.#hasReached;
  }

  async #measure(protocol: TraceOptions['protocol']): ReturnType<EndSeries['run']> {
    const { engine, clock } = this.#environment;
    const { endToEndQueries: count } = this.#request;
    const { multipath: _, sourcePort: __, ...options } = this.#options;
    const probe: TraceOptions = {
      ...options,
      protocol,
      tcpMethod: 'syn',
      minTtl: options.maxTtl,
      repeats: 1,
      pmtu: false,
    };
    const series: EndSeries = new EndSeries({
      count,
      interval: this.#interval(),
      probe: (signal) => engine.probeEnd(probe, signal),
      clock,
      signal: this.#signal,
      answersAreErrors: protocol === 'udp',
      onProbe: (rtt) => {
        if (this.#series === series) this.#onStep({ kind: 'probe', rtt });
      },
    });
    this.#series = series;
    this.#onStep({ kind: 'series', method: protocol });
    return await series.run();
  }

  #interval(): Duration {
    const { endToEndQueries: count, endToEndIntervalMilliseconds: given } = this.#request;
    if (given !== undefined) return Millis(given);
    const { maxTtl, timeout } = this.#options;
    const spread = Math.max(SHORTEST_INTERVAL, SERIES_SPAN / Math.max(1, count));
    const theirs = (maxTtl * timeout) / Math.max(1, count);
    return Math.min(LONGEST_INTERVAL, spread, theirs) as Duration;
  }

  #noteReached(rtt: number): void {
    this.#series?.noteAnswer(rtt);
    this.#hasReached = true;
    this.#reached.resolve();
  }

  /** When everything asked about an address is known, or nobody wants to wait longer. */
  async #lookedUp(): Promise<void> {
    const { lookupPatienceMilliseconds: patience } = this.#request;
    const all = Promise.all(this.#lookups.values());
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      if (patience !== undefined) timer = setTimeout(resolve, patience);
    });
    await Promise.race([all, late]);
    clearTimeout(timer);
  }

  /** Starts looking up what the request wants to know of an address, once. */
  #lookUp(address: IpAddress): void {
    const { reverseDns, networks: wanted } = this.#request;
    const { names, networks } = this.#environment;
    const key = address.toString();
    if (this.#lookups.has(key) || !(reverseDns || wanted)) return;
    const named = async (): Promise<void> => {
      const found = reverseDns ? await names.of(address) : [];
      if (found.length === 0) return;
      this.#names.set(key, found);
      this.#onStep({ kind: 'names', address, names: found });
    };
    const placed = async (): Promise<void> => {
      const network = wanted ? await networks.of(address) : undefined;
      if (network === undefined) return;
      this.#networks.set(key, network);
      this.#onStep({ kind: 'network', address, network });
    };
    this.#lookups.set(key, Promise.all([named(), placed()]));
  }
}

/** So much is lost that it may be the destination's silence instead. */
function isDoubtful(rtts: readonly number[]): boolean {
  const lost = rtts.filter((rtt) => rtt === 0).length;
  return lost >= DOUBTFUL_LOSSES && lost > DOUBTFUL_LOSS * rtts.length;
}

/** A promise to be resolved from outside. */
function signalled(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** 16 random bytes as a version 4 UUID (RFC 9562 §5.4), in base64url without padding: 22 characters. */
export function randomId(entropy: Entropy): string {
  const bytes = new Uint8Array(16);
  entropy.fill(bytes);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return Buffer.from(bytes).toString('base64url');
}

/** The different texts of all errors, in order, one a line; the code is the first one's. */
function allFailed({ protocol }: TraceOptions, errors: readonly Error[]): Error {
  const prefix = protocol === 'tcp' ? '' : `could not generate ${protocol} traceroute results: `;
  const texts = [...new Set(errors.map((error) => `${prefix}${error.message}`))];
  return traceError(traceErrorCode(errors[0]), texts.join('\n'), errors[0]);
}

/** Probes of a series that was given up count as lost. */
function padded(rtts: readonly number[], count: number): readonly number[] {
  return [...rtts, ...new Array<number>(count - rtts.length).fill(0)];
}
