/**
 * All paths of a result as one graph: the interfaces seen at each TTL, and which of the next TTL follow them. Multipath discovery
 * knows the edges; of plain runs, the answers of one run (one flow) make a path.
 */
import type { IpAddress } from '../../base/address.js';
import { hopReply, isPrivate } from '../compatible.js';
import { type NamedRun, namesOf, type TraceResult } from '../result.js';
import type { MultipathGraph } from '../types.js';

export interface PathNode {
  readonly ttl: number;
  /** Empty: nobody answered. */
  readonly address: string;
  readonly name: string;
  /** Such as `AS64500`. */
  readonly network: string;
  /** Milliseconds, of all answers; undefined without one. */
  readonly rtt: number | undefined;
  /** Positions of the nodes that follow, ascending. */
  readonly next: readonly number[];
  readonly isDestination: boolean;
}

interface Draft {
  readonly ttl: number;
  readonly ip: IpAddress | undefined;
  readonly rtts: number[];
  readonly next: Set<number>;
  isDestination: boolean;
}

export function pathGraph(result: TraceResult, skipPrivate: boolean): PathNode[] {
  const drafts = new Drafts();
  for (const { run } of result.runs) {
    if (run.multipath === undefined) drafts.addRun(run);
    else drafts.addMultipath(run.multipath, run.destination.ip);
  }
  return drafts.all.map((draft) => {
    const ip = draft.ip === undefined || (skipPrivate && isPrivate(draft.ip)) ? undefined : draft.ip;
    const network = ip === undefined ? undefined : result.networks.get(ip.toString());
    return {
      ttl: draft.ttl,
      address: ip?.toString() ?? '',
      name: (ip === undefined ? undefined : namesOf(result, ip)[0]) ?? '',
      network: network?.asn === undefined ? '' : `AS${network.asn}`,
      rtt: draft.rtts.length === 0 ? undefined : draft.rtts.reduce((a, b) => a + b, 0) / draft.rtts.length,
      next: [...draft.next].sort((a, b) => a - b),
      isDestination: draft.isDestination,
    };
  });
}

class Drafts {
  readonly all: Draft[] = [];
  readonly #positions = new Map<string, number>();

  addRun(run: NamedRun['run']): void {
    let before: number | undefined;
    for (const hop of run.hops) {
      const reply = hopReply(hop);
      const at = this.#at(hop.ttl, reply?.from);
      const draft = this.all[at]!;
      if (reply !== undefined) draft.rtts.push(reply.rtt);
      draft.isDestination ||= reply?.isDestination ?? false;
      if (before !== undefined) this.all[before]!.next.add(at);
      before = at;
    }
  }

  addMultipath(graph: MultipathGraph, destination: IpAddress): void {
    const positions = graph.nodes.map((node) => this.#at(node.ttl, node.address));
    graph.nodes.forEach((node, i) => {
      const draft = this.all[positions[i]!]!;
      draft.rtts.push(...node.rtts);
      draft.isDestination ||= node.address?.equals(destination) ?? false;
      for (const next of node.next) draft.next.add(positions[next]!);
    });
  }

  #at(ttl: number, ip: IpAddress | undefined): number {
    const key = `${ttl} ${ip ?? ''}`;
    const known = this.#positions.get(key);
    if (known !== undefined) return known;
    const at = this.all.push({ ttl, ip, rtts: [], next: new Set(), isDestination: false }) - 1;
    this.#positions.set(key, at);
    return at;
  }
}
