import { describe, expect, it } from 'vitest';
import { Millis } from '../../../src/base/time.js';
import { EMSGSIZE, ENETUNREACH } from '../../../src/os/io.js';
import type { TraceEvent } from '../../../src/trace/types.js';
import { ip, timeExceeded, unreachable } from '../net/packets.js';
import { arrived, chain, exceeded, LOCAL, options, router, rtt, shown, simulate, TARGET } from './paths.js';

const chainOf = (length: number): string[] => [
  ...Array.from({ length: length - 1 }, (_, i) => router(i + 1).toString()),
  TARGET.toString(),
];

describe.each(['udp', 'icmp', 'tcp'] as const)('a run with %s', (protocol) => {
  it('ends as soon as every hop up to the destination is known', async () => {
    const { io, trace } = simulate(chain(10));
    const run = await trace({ protocol });
    expect(shown(run)).toEqual(chainOf(10));
    expect(run).toMatchObject({ reached: true, reason: 'destination', privilege: 'raw' });
    expect(run.hops.map(({ replies }) => Math.round(replies[0]!.rtt))).toEqual(run.hops.map(({ ttl }) => rtt(ttl)));
    // TCP waits for its window of SYNs, so it is the slower one.
    expect(io.time).toBeLessThan(protocol === 'tcp' ? 1_000 : 9 * 50 + rtt(10) + 10);
    expect(io.open).toBe(0);
  });

  it('does not wait its time out for a silent router before the destination', async () => {
    const { io, trace } = simulate(chain(5, ({ ttl }) => (ttl === 3 ? [] : undefined)));
    expect(shown(await trace({ protocol, timeout: Millis(3_000) }))).toEqual(chainOf(5).with(2, '*'));
    expect(io.time).toBeLessThan(600);
  });

  it('goes to the last TTL when nobody answers, and says so', async () => {
    const { io, trace } = simulate(() => []);
    const run = await trace({ protocol, maxTtl: 12 });
    expect(run).toMatchObject({ reached: false, reason: 'max_ttl' });
    expect(shown(run)).toEqual(new Array(12).fill('*'));
    expect(io.probes.map(({ ttl }) => ttl)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  it('ends at a gap, and names the last TTL it asked', async () => {
    const { io, trace } = simulate(chain(20, ({ ttl }) => (ttl > 4 ? [] : undefined)));
    const run = await trace({ protocol, gapLimit: 3 });
    expect(run).toMatchObject({ reached: false, reason: 'gap_limit' });
    expect(shown(run)).toEqual([...chainOf(5).slice(0, 4), '*', '*', '*']);
    expect(Math.max(...io.probes.map(({ ttl }) => ttl))).toBe(7);
  });

  it('ends where a router says that there is no way', async () => {
    const refused = chain(9, (probe) =>
      probe.ttl >= 4
        ? [{ after: rtt(3), packet: unreachable({ from: router(3), to: LOCAL }, probe.bytes, 1) }]
        : undefined,
    );
    const { io, trace } = simulate(refused);
    const run = await trace({ protocol });
    expect(run).toMatchObject({ reached: false, reason: 'unreachable' });
    expect(run.hops).toHaveLength(4);
    expect(run.hops[3]!.replies[0]).toMatchObject({
      kind: 'unreachable',
      icmp: { type: 3, code: 1 },
      isDestination: false,
    });
    expect(io.time).toBeLessThan(1_000);
  });

  it('repeats probes hop by hop', async () => {
    const { io, trace } = simulate(chain(4));
    const run = await trace({ protocol, repeats: 3, sendDelay: Millis(5) });
    expect(run.hops.map(({ sent, replies }) => [sent, replies.length])).toEqual(new Array(4).fill([3, 3]));
    expect(run.hops[1]!.replies.map(({ probe }) => probe).sort()).toEqual([0, 1, 2]);
    expect(io.probes.length).toBeLessThan(4 * 3 + 20);
  });

  it('begins at the first TTL it is told', async () => {
    const run = await simulate(chain(6)).trace({ protocol, minTtl: 3 });
    expect(run.hops.map(({ ttl }) => ttl)).toEqual([3, 4, 5, 6]);
    expect(run.reached).toBe(true);
  });
});

describe('arrival', () => {
  it('is not a "time exceeded" from the target’s address, when the target itself answers further on', async () => {
    // The target's address is translated on the last router, which answers under it.
    const network = chain(6, (probe) => (probe.ttl === 5 ? [exceeded(probe, TARGET)] : undefined));
    const run = await simulate(network).trace();
    expect(run.hops).toHaveLength(6);
    expect(run).toMatchObject({ reached: true, reason: 'destination' });
    expect(run.hops[4]!.replies[0]).toMatchObject({ kind: 'time_exceeded', isDestination: false });
  });

  it('is one when nothing else ever answers', async () => {
    const network = chain(9, (probe) => (probe.ttl === 5 ? [exceeded(probe, TARGET)] : probe.ttl > 5 ? [] : undefined));
    const run = await simulate(network).trace({ maxTtl: 8 });
    expect(run).toMatchObject({ reached: true, reason: 'destination' });
    expect(run.hops).toHaveLength(5);
  });

  it('is "port unreachable" from another address of the target', async () => {
    const elsewhere = ip('203.0.113.10');
    const run = await simulate(
      chain(4, (probe) => (probe.ttl >= 4 ? [arrived(probe, 4, elsewhere)] : undefined)),
    ).trace();
    expect(run).toMatchObject({ reached: true, reason: 'destination' });
    expect(shown(run).at(-1)).toBe('203.0.113.10');
  });

  it('is not "port unreachable" from a router that was seen before', async () => {
    const run = await simulate(
      chain(9, (probe) => (probe.ttl >= 4 ? [arrived(probe, 3, router(3))] : undefined)),
    ).trace();
    expect(run).toMatchObject({ reached: false, reason: 'unreachable' });
    expect(run.hops).toHaveLength(4);
  });

  it('counts at the lowest TTL it happened at, whatever came first', async () => {
    // The answer to the probe that just reaches it takes longest.
    const network = chain(4, (probe) => (probe.ttl === 4 ? [{ ...arrived(probe, 4), after: 150 }] : undefined));
    const run = await simulate(network).trace();
    expect(run.hops).toHaveLength(4);
    expect(Math.round(run.hops[3]!.replies[0]!.rtt)).toBe(150);
  });
});

describe('pace', () => {
  it('is the send delay, or the rate where that is slower', async () => {
    const gaps = async (change: Parameters<typeof options>[0]): Promise<Set<number>> => {
      const { io, trace } = simulate(() => []);
      await trace({ maxTtl: 6, ...change });
      return new Set(io.probes.slice(1).map(({ at }, i) => Math.round(at - io.probes[i]!.at)));
    };
    expect(await gaps({ sendDelay: Millis(50) })).toEqual(new Set([50]));
    expect(await gaps({ sendDelay: Millis(50), rate: 10 })).toEqual(new Set([100]));
    expect(await gaps({ sendDelay: Millis(50), rate: 1000 })).toEqual(new Set([50]));
  });

  it('stops when the destination has answered', async () => {
    const { io, trace } = simulate(chain(3));
    await trace();
    // One more leaves while the answer is on its way.
    expect(io.probes).toHaveLength(4);
  });

  it('of TCP keeps six SYNs on their way, and an old answer ends nobody else’s wait', async () => {
    const { io, trace } = simulate(
      chain(20, (probe) => (probe.ttl === 1 ? [{ ...exceeded(probe), after: 900 }] : probe.ttl < 12 ? [] : undefined)),
    );
    const run = await trace({ protocol: 'tcp', sendDelay: Millis(1), maxTtl: 9 });
    expect(run.hops[0]!.replies[0]!.rtt).toBeCloseTo(900);
    expect(io.probes.filter(({ at }) => at < 900)).toHaveLength(6);
    expect(io.probes.filter(({ at }) => at < 1_000)).toHaveLength(7);
  });
});

describe('losses', () => {
  it('that no later hop shows are a router’s limit', async () => {
    let seen = 0;
    const network = chain(4, ({ ttl }) => (ttl === 2 && ++seen > 2 ? [] : undefined));
    const run = await simulate(network).trace({ repeats: 6, sendDelay: Millis(5) });
    expect(run.hops.map(({ rateLimited }) => rateLimited)).toEqual([false, true, false, false]);
    expect(run.hops[1]).toMatchObject({ sent: 6 });
    expect(run.hops[1]!.replies).toHaveLength(2);
  });

  it('that go on are losses', async () => {
    let seen = 0;
    const lossy = chain(4, ({ ttl }) => (ttl >= 2 && ++seen % 2 === 0 ? [] : undefined));
    const run = await simulate(lossy).trace({ repeats: 9, maxTtl: 3, sendDelay: Millis(5) });
    expect(run.hops.map(({ rateLimited }) => rateLimited)).toEqual([false, false, false]);
    const silent = await simulate(chain(4, ({ ttl }) => (ttl === 2 ? [] : undefined))).trace({ repeats: 3 });
    expect(silent.hops[1]).toMatchObject({ rateLimited: false, replies: [] });
  });
});

describe('answers', () => {
  it('count once, however often they come', async () => {
    const network = chain(3, (probe) => (probe.ttl < 3 ? [exceeded(probe), exceeded(probe)] : undefined));
    const run = await simulate(network).trace();
    expect(run.hops.map(({ replies }) => replies.length)).toEqual([1, 1, 1]);
  });

  it('keep their TTL, extensions and quoted TTL', async () => {
    const network = chain(2, (probe) => {
      if (probe.ttl !== 1) return undefined;
      const quoted = new Uint8Array(128 + 12);
      quoted.set(probe.bytes);
      quoted.set([0x20, 0, 0, 0, 0, 8, 1, 1, 0x00, 0x3e, 0x81, 0x40], 128);
      return [{ after: 5, packet: timeExceeded({ from: router(1), to: LOCAL, ttl: 250 }, quoted) }];
    });
    const run = await simulate(network).trace();
    // Without a length field the checksum has to be right; here it is 0.
    expect(run.hops[0]!.replies[0]).toMatchObject({ replyTtl: 250, quotedTtl: 1 });
  });
});

describe('events', () => {
  it('come as they happen: start, hops, done', async () => {
    const { events } = simulate(chain(3));
    const all = await events();
    expect(all[0]).toMatchObject({ kind: 'start', privilege: 'raw', destination: { port: 33_434 } });
    expect(all.at(-1)!.kind).toBe('done');
    const hops = all.filter((event): event is Extract<TraceEvent, { kind: 'hop' }> => event.kind === 'hop');
    expect(new Set(hops.map(({ hop }) => hop.ttl))).toEqual(new Set([1, 2, 3]));
  });

  it('end with TIMEOUT when the run is aborted, and everything is closed', async () => {
    const { io, tracer } = simulate(() => []);
    const controller = new AbortController();
    const reading = (async () => {
      for await (const event of tracer.run(options(), controller.signal)) {
        if (event.kind === 'start') setImmediate(() => controller.abort());
      }
    })();
    await expect(io.drive(reading)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(io.open).toBe(0);
    controller.abort();
    await expect(tracer.probeEnd(options(), controller.signal)).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('end the run when nobody reads them any more', async () => {
    const { io, tracer } = simulate(() => []);
    const reading = (async () => {
      for await (const event of tracer.run(options(), new AbortController().signal)) if (event.kind === 'start') return;
    })();
    await io.drive(reading);
    await new Promise((resolve) => setImmediate(resolve));
    expect(io.open).toBe(0);
  });
});

describe('an end-to-end probe', () => {
  it('is one probe, and over with its answer', async () => {
    const { io, tracer } = simulate(chain(4));
    const time = await io.drive(tracer.probeEnd(options({ maxTtl: 30 }), new AbortController().signal));
    expect(time).toBeCloseTo(rtt(4));
    expect(io.probes).toHaveLength(1);
    expect(io.time).toBeCloseTo(rtt(4), 0);
  });

  it('is 0 when it is lost or only a router answers', async () => {
    for (const network of [() => [], chain(40)]) {
      const { io, tracer } = simulate(network);
      expect(await io.drive(tracer.probeEnd(options({ maxTtl: 30 }), new AbortController().signal))).toBe(0);
    }
  });
});

describe('errors', () => {
  it('of sending end the run in the words of a trace', async () => {
    await expect(simulate(() => -ENETUNREACH).trace()).rejects.toMatchObject({ code: 'NETUNREACH' });
    await expect(simulate(() => -1).trace()).rejects.toMatchObject({ code: 'DENIED' });
    await expect(simulate(() => -EMSGSIZE).trace({ packetSize: 9000 })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
  });

  it('of having no way there leave nothing open', async () => {
    const { io, trace } = simulate(() => []);
    io.noRoute = true;
    for (const protocol of ['udp', 'icmp', 'tcp'] as const) {
      await expect(trace({ protocol })).rejects.toMatchObject({ code: 'NETUNREACH', message: 'no way there' });
      expect(io.open).toBe(0);
    }
  });

  it('of a full queue are lost probes', async () => {
    let count = 0;
    const run = await simulate(chain(3, () => (++count === 2 ? -105 : undefined))).trace();
    expect(shown(run)).toEqual(chainOf(3).with(1, '*'));
  });

  it.each([
    { minTtl: 0 },
    { minTtl: 5, maxTtl: 4 },
    { maxTtl: 256 },
    { repeats: 0 },
    { repeats: 101 },
    { port: 0 },
    { tos: 256 },
    { mark: -1 },
    { sourcePort: 65_536 },
    { packetSize: 65_536 },
    { source: ip('2001:db8::1') },
    { multipath: { confidence: 1, maxFlows: 10 } },
    { multipath: { confidence: 0.9, maxFlows: 513 } },
  ])('of options are found before anything is sent: %o', async (change) => {
    const { io, trace } = simulate(chain(3));
    await expect(trace(change)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(io.open).toBe(0);
    expect(io.probes).toEqual([]);
  });

  it('at the limits are none', async () => {
    const run = await simulate(chain(255)).trace({
      protocol: 'icmp',
      maxTtl: 255,
      sendDelay: Millis(0),
      timeout: Millis(6_000),
    });
    expect(run.hops).toHaveLength(255);
    expect(run.reached).toBe(true);
  });
});
