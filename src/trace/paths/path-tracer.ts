/**
 * Traces of the paths a running role uses. One flow, so that equal-cost paths do not look like changes; the protocols that a path
 * is best asked by in turn, as long as the system refuses what they need.
 *
 *   trace(path) ─► protocols[0] ──refused──► protocols[1] … ─► result, entry of the history
 */
import type { Crypto } from '../../base/crypto.js';
import { SallyportError } from '../../base/error.js';
import { type CompatibleResult, toCompatible } from '../compatible.js';
import { runTrace, type TraceEnvironment } from '../orchestration.js';
import type { TraceRequest } from '../request.js';
import type { TraceResult } from '../result.js';
import type { TraceProtocol } from '../types.js';
import { type PathEntry, PathHistory } from './history.js';

/** A way of packets of this role. */
export interface TracedPath {
  /** What the history keeps it under, such as `relay` or `service web`. */
  readonly id: string;
  /** A literal address. */
  readonly target: string;
  readonly port: number;
  /** The first one that is permitted is used. */
  readonly protocols: readonly TraceProtocol[];
}

/** What may be asked beside the path. */
export type PathWish = Pick<
  TraceRequest,
  'protocol' | 'queries' | 'endToEndQueries' | 'maxTtl' | 'timeoutMilliseconds' | 'reverseDns'
>;

export interface PathTrace extends PathEntry {
  readonly path: string;
  readonly port: number;
  readonly result: CompatibleResult;
}

/** One flow, three probes for each hop; what does not answer is not waited for long, as people and monitors wait for it. */
const USUAL: TraceRequest = {
  queries: 1,
  repeats: 3,
  endToEndQueries: 10,
  sendDelayMilliseconds: 20,
  timeoutMilliseconds: 1_500,
  gapLimit: 8,
  paris: true,
};

export class PathTracer {
  readonly history: PathHistory;
  readonly #environment: () => TraceEnvironment;
  /** By path: the source port of the last trace, and so its flow. */
  readonly #ports = new Map<string, number>();

  /** @param environment opened for a trace and closed after it. */
  constructor(environment: () => TraceEnvironment, crypto: Pick<Crypto, 'sha256'>) {
    this.history = new PathHistory(crypto);
    this.#environment = environment;
  }

  /** @throws SallyportError with a `TraceErrorCode`. */
  async trace(path: TracedPath, wish: PathWish, signal: AbortSignal): Promise<PathTrace> {
    const environment = this.#environment();
    try {
      const result = await this.#byFirstPermitted(path, wish, environment, signal);
      const [first] = result.runs;
      this.#keepFlow(path.id, first?.run.source.port ?? 0);
      const shown = toCompatible(result, { skipPrivateHops: false, extended: true });
      const hops = (shown.traceroute.runs?.[0]?.hops ?? []).map((hop) => hop.ip_address);
      const entry = this.history.add(path.id, {
        at: new Date(environment.clock.wall()).toISOString(),
        target: path.target,
        protocol: result.protocol,
        reached: first?.run.reached ?? false,
        // Behind the last one that answered a run only looks for more.
        hops: hops.slice(0, hops.findLastIndex((hop) => hop !== '') + 1),
        rtt: shown.e2e_probe.rtt.avg,
        loss: shown.e2e_probe.packet_loss_percentage,
      });
      return { path: path.id, port: path.port, ...entry, result: shown };
    } finally {
      environment.engine.close();
    }
  }

  async #byFirstPermitted(
    path: TracedPath,
    wish: PathWish,
    environment: TraceEnvironment,
    signal: AbortSignal,
  ): Promise<TraceResult> {
    const protocols = wish.protocol === undefined ? path.protocols : [wish.protocol];
    for (const [i, protocol] of protocols.entries()) {
      try {
        return await this.#onSameFlow(path, { ...USUAL, ...wish, protocol, port: path.port }, environment, signal);
      } catch (error) {
        const isRefused = error instanceof SallyportError && error.code === 'DENIED';
        if (!isRefused || i === protocols.length - 1) throw error;
      }
    }
    throw new SallyportError('bug', 'NO_PROTOCOL', `no protocol is named for ${path.id}`);
  }

  async #onSameFlow(
    path: TracedPath,
    request: TraceRequest,
    environment: TraceEnvironment,
    signal: AbortSignal,
  ): Promise<TraceResult> {
    const trace = (more: TraceRequest): Promise<TraceResult> =>
      runTrace(path.target, { ...request, ...more }, environment, signal, () => undefined);
    const sourcePort = this.#ports.get(path.id);
    // A port that is the same for several runs would mix their answers.
    if (sourcePort === undefined || request.protocol === 'icmp' || request.queries !== 1) return await trace({});
    try {
      return await trace({ sourcePort });
    } catch (error) {
      // Somebody else has that port now: a new flow.
      if (!(error instanceof SallyportError) || error.code !== 'INVALID_REQUEST') throw error;
      return await trace({});
    }
  }

  #keepFlow(path: string, port: number): void {
    if (port > 0) this.#ports.set(path, port);
    for (const known of this.#ports.keys())
      if (this.history.of(known).length === 0 && known !== path) this.#ports.delete(known);
  }
}
