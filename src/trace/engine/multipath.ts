/**
 * Multipath discovery (MDA): enumerates the interfaces that equal-cost routing spreads flows over, vertex by vertex.
 *
 *   for each vertex v of TTL h − 1, flows that pass v are sent to TTL h, until enough of them have shown nothing new:
 *     found k successors ─► n(k) flows needed, the smallest n with (k + 1) · (k / (k + 1))^n ≤ 1 − confidence
 *     too few known flows pass v ─► new flows are sent to TTL h − 1, until enough of them do ("node control")
 *
 * With confidence 0.95: n = 6, 11, 16, 21, 27 … Silent hops are one vertex without an address. A flow is what routers hash:
 * UDP destination port, TCP source port, ICMP checksum.
 *
 * Augustin, Friedman and Teixeira, "Multipath tracing with Paris traceroute" (2007); Veitch et al., "Failure control in multipath
 * route tracing" (2009), §III.
 */
import { type Duration, elapsed, toMillis } from '../../base/time.js';
import { type Answer, Probe } from '../net/probe.js';
import type { MultipathGraph, MultipathNode, TraceOptions } from '../types.js';
import { type Asker, TOO_LARGE } from './ask.js';

/** TTLs without any answer after which nothing further is looked for, when no gap limit is set. */
const SILENT_LEVELS = 3;
/** A lost answer would be a vertex of its own: a flow is asked this often before it counts as silent. */
const ATTEMPTS = 3;

/** Flows to be sent through a vertex with `known` successors. @param confidence of having found all, in (0, 1) */
export function flowsNeeded(known: number, confidence: number): number {
  const k = Math.max(1, known);
  return Math.ceil(Math.log((1 - confidence) / (k + 1)) / Math.log(k / (k + 1)));
}

/**
 * The vertex's flows that were not sent further yet, in the order they were made: they then come from all its predecessors alike.
 * (Routers of one make often share their hash: the flows of one branch would all take one branch again.)
 */
const untried = (vertex: Vertex, tried: ReadonlySet<number>): number[] =>
  [...vertex.flows].filter((flow) => !tried.has(flow)).sort((a, b) => a - b);

interface Vertex {
  readonly ttl: number;
  readonly address: Answer['from'] | undefined;
  readonly isEnd: boolean;
  readonly flows: Set<number>;
  readonly next: Set<Vertex>;
  readonly rtts: number[];
}

export class MultipathSearch {
  readonly #asker: Asker;
  readonly #options: TraceOptions;
  readonly #confidence: number;
  readonly #maxFlows: number;
  readonly #patience: Duration;
  /** Per TTL: by address text. */
  readonly #levels: Map<string, Vertex>[] = [];
  /** Per TTL: the next index of a probe. */
  readonly #indices: number[] = [];
  #flows = 0;
  #probes = 0;

  /** @param firstIndex above the indices of all probes the run has sent */
  constructor(asker: Asker, options: TraceOptions, patience: Duration, firstIndex: number) {
    this.#asker = asker;
    this.#options = options;
    this.#confidence = options.multipath!.confidence;
    this.#maxFlows = options.multipath!.maxFlows;
    this.#patience = patience;
    this.#indices = new Array<number>(options.maxTtl + 1).fill(firstIndex);
  }

  async search(): Promise<MultipathGraph> {
    const { minTtl, maxTtl, gapLimit } = this.#options;
    const source: Vertex = {
      ttl: minTtl - 1,
      address: undefined,
      isEnd: false,
      flows: new Set(),
      next: new Set(),
      rtts: [],
    };
    let level: Vertex[] = [source];
    let silent = 0;
    for (let ttl = minTtl; ttl <= maxTtl; ttl++) {
      const open = level.filter((vertex) => !vertex.isEnd);
      if (open.length === 0 || silent >= (gapLimit > 0 ? gapLimit : SILENT_LEVELS)) break;
      for (const vertex of open) await this.#expand(vertex, ttl, vertex === source);
      level = [...this.#level(ttl).values()];
      silent = level.some((vertex) => vertex.address !== undefined) ? 0 : silent + 1;
    }
    return this.#graph();
  }

  /** Finds the successors of one vertex. */
  async #expand(vertex: Vertex, ttl: number, isSource: boolean): Promise<void> {
    const tried = new Set<number>();
    for (;;) {
      const needed = flowsNeeded(vertex.next.size, this.#confidence) - tried.size;
      if (needed <= 0) return;
      let usable = untried(vertex, tried).slice(0, needed);
      if (usable.length < needed && (await this.#findFlows(vertex, needed - usable.length, isSource))) {
        usable = untried(vertex, tried).slice(0, needed);
      }
      if (usable.length === 0) return;
      for (const flow of usable) tried.add(flow);
      for (const found of await this.#visit(usable, ttl)) vertex.next.add(found);
    }
  }

  /** Makes new flows until `wanted` more pass the vertex; false when there are no more flows. */
  async #findFlows(vertex: Vertex, wanted: number, isSource: boolean): Promise<boolean> {
    // A silent vertex beside others may be no router but lost answers: looking for more of its flows could go on for ever.
    if (vertex.address === undefined && !isSource && this.#level(vertex.ttl).size > 1) return false;
    if (isSource) {
      const count = Math.min(wanted, this.#maxFlows - this.#flows);
      for (let i = 0; i < count; i++) vertex.flows.add(this.#flows++);
      return count > 0;
    }
    const before = vertex.flows.size;
    while (vertex.flows.size - before < wanted && this.#flows < this.#maxFlows) {
      const count = Math.min(wanted - (vertex.flows.size - before), this.#maxFlows - this.#flows);
      const fresh = Array.from({ length: count }, () => this.#flows++);
      await this.#visit(fresh, vertex.ttl);
    }
    return vertex.flows.size > before;
  }

  /** Sends flows to one TTL; notes and returns the vertices they reached. */
  async #visit(flows: readonly number[], ttl: number): Promise<Set<Vertex>> {
    const reached = new Set<Vertex>();
    let left = flows;
    for (let attempt = 1; left.length > 0; attempt++) {
      const probes = left.map((flow) => new Probe(ttl, this.#indices[ttl]!++, flow, 0));
      this.#probes += probes.length;
      const outcomes = await this.#asker.ask(probes, this.#patience);
      const unanswered: number[] = [];
      for (const probe of probes) {
        const outcome = outcomes.get(probe);
        if (outcome !== undefined && outcome !== TOO_LARGE) reached.add(this.#note(ttl, probe, outcome));
        else if (attempt < ATTEMPTS) unanswered.push(probe.flow);
        else reached.add(this.#note(ttl, probe, undefined));
      }
      left = unanswered;
    }
    return reached;
  }

  #note(ttl: number, probe: Probe, answer: Answer | undefined): Vertex {
    const level = this.#level(ttl);
    const key = answer === undefined ? '*' : answer.from.toString();
    let vertex = level.get(key);
    if (vertex === undefined) {
      const isEnd = answer !== undefined && answer.kind !== 'time_exceeded';
      vertex = { ttl, address: answer?.from, isEnd, flows: new Set(), next: new Set(), rtts: [] };
      level.set(key, vertex);
    }
    vertex.flows.add(probe.flow);
    if (answer !== undefined) vertex.rtts.push(toMillis(elapsed(probe.sentAt, answer.at)));
    return vertex;
  }

  #level(ttl: number): Map<string, Vertex> {
    let level = this.#levels[ttl];
    if (level === undefined) {
      level = new Map();
      this.#levels[ttl] = level;
    }
    return level;
  }

  /** Silent vertices at the end of the path lead nowhere and are left out. */
  #graph(): MultipathGraph {
    let last = this.#levels.length - 1;
    while (last > 0 && ![...(this.#levels[last]?.keys() ?? [])].some((key) => key !== '*')) last--;
    const vertices = this.#levels.slice(0, last + 1).flatMap((level) => [...(level?.values() ?? [])]);
    const position = new Map(vertices.map((vertex, i) => [vertex, i]));
    const nodes: MultipathNode[] = vertices.map((vertex) => ({
      ttl: vertex.ttl,
      address: vertex.address,
      flows: [...vertex.flows].sort((a, b) => a - b),
      next: [...vertex.next].flatMap((one) => position.get(one) ?? []).sort((a, b) => a - b),
      rtts: vertex.rtts,
    }));
    return { nodes, confidence: this.#confidence, probes: this.#probes };
  }
}
