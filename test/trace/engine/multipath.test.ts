import { describe, expect, it } from 'vitest';
import type { IpAddress } from '../../../src/base/address.js';
import { Millis } from '../../../src/base/time.js';
import { flowsNeeded } from '../../../src/trace/engine/multipath.js';
import type { MultipathGraph, TraceProtocol } from '../../../src/trace/types.js';
import { arrived, exceeded, router, simulate, TARGET } from './paths.js';
import type { Network, SentProbe } from './sim-io.js';

/** What routers with a hash of ports (or of the ICMP checksum) see. */
function flowHash({ packet, bytes }: SentProbe, salt: number): number {
  const fields =
    packet.protocol === 1 ? (bytes[22]! << 8) | bytes[23]! : packet.sourcePort * 65_536 + packet.destinationPort;
  let h = Math.imul(fields ^ (salt * 0x9e3779b1), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Diamonds: `widths[i]` routers at TTL i + 2 (each flow meets one by its hash); the target behind them. */
function diamonds(widths: readonly number[], lossy: (probe: SentProbe) => boolean = () => false): Network {
  const at = (ttl: number, probe: SentProbe): IpAddress => router(ttl, flowHash(probe, ttl) % (widths[ttl - 2] ?? 1));
  return (probe) => {
    if (lossy(probe)) return [];
    const { ttl } = probe;
    return ttl < widths.length + 2 ? [exceeded(probe, at(ttl, probe))] : [arrived(probe, widths.length + 2)];
  };
}

const wide = (graph: MultipathGraph): number[] => {
  const counts: number[] = [];
  for (const { ttl } of graph.nodes) counts[ttl] = (counts[ttl] ?? 0) + 1;
  return counts.slice(1);
};
const multipath = { confidence: 0.99, maxFlows: 400 };
const quick = { sendDelay: Millis(1), timeout: Millis(500) };

async function search(network: Network, protocol: TraceProtocol = 'udp', change = {}): Promise<MultipathGraph> {
  const { io, trace } = simulate(network);
  const run = await trace({ protocol, ...quick, multipath: { ...multipath, ...change } });
  expect(io.open).toBe(0);
  return run.multipath!;
}

describe('the stop rule', () => {
  it('gives the numbers of the papers for 95 %', () => {
    expect([1, 2, 3, 4, 5].map((known) => flowsNeeded(known, 0.95))).toEqual([6, 11, 16, 21, 27]);
    expect(flowsNeeded(0, 0.95)).toBe(6);
    expect(flowsNeeded(1, 0.99)).toBe(8);
  });
});

describe.each(['udp', 'icmp', 'tcp'] as const)('multipath discovery with %s', (protocol) => {
  it('finds both diamonds of 3 × 2', async () => {
    const graph = await search(diamonds([3, 1, 2]), protocol);
    expect(wide(graph)).toEqual([1, 3, 1, 2, 1]);
    const at = (ttl: number): MultipathGraph['nodes'][number][] => graph.nodes.filter((node) => node.ttl === ttl);
    const next = (node: MultipathGraph['nodes'][number]): (string | undefined)[] =>
      node.next.map((i) => graph.nodes[i]!.address?.toString()).sort();
    expect(next(at(1)[0]!)).toEqual([router(2, 0), router(2, 1), router(2, 2)].map(String).sort());
    for (const node of at(2)) expect(next(node)).toEqual([String(router(3))]);
    expect(next(at(3)[0]!)).toEqual([router(4, 0), router(4, 1)].map(String).sort());
    for (const node of at(4)) expect(next(node)).toEqual([String(TARGET)]);
    expect(at(5)[0]!.next).toEqual([]);
    expect(graph.nodes.every((node) => node.rtts.length > 0)).toBe(true);
  });
});

describe('multipath discovery', () => {
  it('stays with one path where there is one, and needs six flows for it', async () => {
    const graph = await search(diamonds([1, 1]), 'udp', { confidence: 0.95 });
    expect(wide(graph)).toEqual([1, 1, 1, 1]);
    expect(graph).toMatchObject({ probes: 24, confidence: 0.95 });
    expect(graph.nodes.map(({ next }) => next)).toEqual([[1], [2], [3], []]);
  });

  it('finds sixteen interfaces side by side', async () => {
    expect(wide(await search(diamonds([16])))).toEqual([1, 16, 1]);
  });

  it('follows branches that meet other branches', async () => {
    const graph = await search(diamonds([2, 4, 2]));
    expect(wide(graph)).toEqual([1, 2, 4, 2, 1]);
    // Hashes of different routers are independent: every router leads to all of the next level.
    expect(graph.nodes.filter(({ ttl }) => ttl === 2).every(({ next }) => next.length === 4)).toBe(true);
  });

  it('is not misled by routers that share their hash', async () => {
    // The second diamond's hash is the first one's: whoever passes the first branch there passes the first one here.
    const branch = (probe: SentProbe, width: number): number => Math.floor((flowHash(probe, 1) / 2 ** 32) * width);
    const at = (ttl: number, probe: SentProbe): IpAddress =>
      router(ttl, ttl === 2 ? branch(probe, 3) : ttl === 4 ? branch(probe, 2) : 0);
    const graph = await search((probe) =>
      probe.ttl < 5 ? [exceeded(probe, at(probe.ttl, probe))] : [arrived(probe, 5)],
    );
    expect(wide(graph)).toEqual([1, 3, 1, 2, 1]);
  });

  it('does not look for flows through lost answers', async () => {
    const { io, trace } = simulate(
      diamonds([1, 1], (probe) => probe.ttl === 1 && probe.packet.destinationPort === 33_436),
    );
    await trace({ ...quick, minTtl: 1, multipath });
    expect(new Set(io.probes.map(({ packet }) => packet.destinationPort)).size).toBeLessThan(20);
  });

  it('asks silent flows again before it believes in a silent router', async () => {
    let count = 0;
    const graph = await search(diamonds([2], (probe) => probe.ttl === 2 && ++count % 4 === 1));
    expect(graph.nodes.filter(({ ttl, address }) => ttl === 2 && address !== undefined)).toHaveLength(2);
    const silent = await search(diamonds([1, 1, 1], ({ ttl }) => ttl === 3));
    expect(silent.nodes.map(({ address }) => address?.toString() ?? '*')[2]).toBe('*');
    expect(wide(silent)).toEqual([1, 1, 1, 1, 1]);
  });

  it('ends behind three silent levels, and leaves them out', async () => {
    const { io, trace } = simulate((probe) => (probe.ttl < 3 ? [exceeded(probe)] : []));
    const run = await trace({ ...quick, gapLimit: 3, multipath });
    expect(wide(run.multipath!)).toEqual([1, 1]);
    expect(Math.max(...io.probes.map(({ ttl }) => ttl))).toBe(5);
  });

  it('keeps to its limit of flows', async () => {
    const { io, trace } = simulate(diamonds([16, 16]));
    await trace({ ...quick, multipath: { confidence: 0.99, maxFlows: 20 } });
    expect(new Set(io.probes.map(({ packet }) => packet.destinationPort)).size).toBeLessThanOrEqual(20);
  });
});
