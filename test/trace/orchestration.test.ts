import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { traceError } from '../../src/trace/error.js';
import { AddressNames } from '../../src/trace/names.js';
import { runTrace, type TraceEnvironment, type TraceStep } from '../../src/trace/orchestration.js';
import type { TraceRequest } from '../../src/trace/request.js';
import type { TraceResult } from '../../src/trace/result.js';
import { FakeEngine, fakeEnvironment } from './fake-engine.js';
import { hop, run, timerClock } from './fixtures.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Traced {
  readonly result: TraceResult;
  readonly steps: TraceStep[];
  /** Milliseconds. */
  readonly took: number;
}

async function trace(
  engine: FakeEngine,
  request: TraceRequest = {},
  more: {
    readonly target?: string;
    readonly signal?: AbortSignal;
    readonly environment?: Partial<TraceEnvironment>;
  } = {},
): Promise<Traced> {
  const steps: TraceStep[] = [];
  const environment = fakeEnvironment(engine, more.environment);
  const signal = more.signal ?? new AbortController().signal;
  const started = performance.now();
  let took = 0;
  const running = runTrace(more.target ?? 'target.example', request, environment, signal, (step) =>
    steps.push(step),
  ).finally(() => {
    took = performance.now() - started;
  });
  running.catch(() => undefined);
  await vi.advanceTimersByTimeAsync(60_000);
  return { result: await running, steps, took };
}

describe('a trace', () => {
  it('has the asked number of runs and probes, in about a second', async () => {
    const engine = new FakeEngine({ end: () => pause(40).then(() => 40) });
    const { result, took } = await trace(engine);
    expect(result.runs).toHaveLength(3);
    expect(new Set([result.id, ...result.runs.map((one) => one.id)]).size).toBe(4);
    for (const { id } of result.runs) expect(id).toMatch(/^[\w-]{22}$/);
    expect(result).toMatchObject({ protocol: 'udp', hostname: 'target.example', port: 33_434, publicIp: '' });
    expect(result.endToEnd).toEqual({ rtts: new Array(50).fill(40), method: 'icmp' });
    expect(took).toBeLessThan(1_000);
  });

  it('waits for names no longer than it was told, and uses what came', async () => {
    const engine = new FakeEngine({ run: async () => run([hop(1, '203.0.113.1', 1), hop(2, '198.51.100.2', 2)]) });
    const answer = (address: string): Promise<readonly string[]> =>
      address === '203.0.113.1' ? Promise.resolve(['near.example']) : new Promise(() => undefined);
    const names = new AddressNames(answer, timerClock);
    const request = { reverseDns: true, endToEndQueries: 0 };
    const patient = await trace(engine, request, { environment: { names } });
    expect(patient.took).toBeGreaterThanOrEqual(5_000);
    const hurried = await trace(engine, { ...request, lookupPatienceMilliseconds: 300 }, { environment: { names } });
    expect(hurried.took).toBeLessThan(400);
    expect([...hurried.result.names]).toEqual([['203.0.113.1', ['near.example.']]]);
  });

  it('gives every run a source port of its own, and end-to-end probes any', async () => {
    const engine = new FakeEngine();
    await trace(engine, { sourcePort: 65_534, endToEndQueries: 2 });
    expect(engine.runs.map(({ sourcePort }) => sourcePort)).toEqual([65_534, 65_535, undefined]);
    expect(engine.ends.map(({ sourcePort }) => sourcePort)).toEqual([undefined, undefined]);
  });

  it('resolves once, and every run and probe goes to that address', async () => {
    const lookup = vi.fn(async () => ['198.51.100.2', '198.51.100.3']);
    const engine = new FakeEngine();
    await trace(engine, {}, { environment: { lookup } });
    expect(lookup).toHaveBeenCalledTimes(1);
    expect(new Set([...engine.runs, ...engine.ends].map((one) => `${one.destination}`))).toEqual(
      new Set(['198.51.100.2']),
    );
  });

  it('probes end to end with the longest TTL, and by SYN whatever the TCP method', async () => {
    const engine = new FakeEngine();
    await trace(engine, {
      protocol: 'tcp',
      tcpMethod: 'sack',
      port: 443,
      maxTtl: 20,
      endToEndQueries: 2,
      repeats: 3,
      multipath: 0.95,
    });
    expect(engine.runs[0]).toMatchObject({ tcpMethod: 'sack', minTtl: 1, maxTtl: 20, repeats: 3, port: 443 });
    expect(engine.ends).toHaveLength(2);
    expect(engine.ends[0]).toMatchObject({ protocol: 'tcp', tcpMethod: 'syn', minTtl: 20, maxTtl: 20, repeats: 1 });
    expect(engine.ends[0]!.multipath).toBeUndefined();
  });

  it('tells hops, names and networks as they appear', async () => {
    const { steps, result } = await trace(new FakeEngine(), {
      queries: 1,
      endToEndQueries: 1,
      reverseDns: true,
      networks: true,
    });
    expect(steps[0]).toMatchObject({ kind: 'resolved', port: 33_434 });
    const kinds = steps.map((step) => step.kind);
    for (const kind of ['hop', 'run', 'probe', 'names', 'network']) expect(kinds).toContain(kind);
    expect(result.names.get('198.51.100.2')).toEqual(['host-198-51-100-2.example.']);
    expect(result.networks.get('192.0.2.2')).toMatchObject({ asn: 64_500, name: 'EXAMPLE' });
  });

  it('looks nothing up unasked, and an address once', async () => {
    const engine = new FakeEngine();
    const plain = await trace(engine, {});
    expect([plain.result.names.size, plain.result.networks.size, plain.result.publicIp]).toEqual([0, 0, '']);
    const asked = await trace(engine, { reverseDns: true, sourcePublicIp: true });
    expect(asked.steps.filter((step) => step.kind === 'names')).toHaveLength(2);
    expect(asked.result.publicIp).toBe('203.0.113.9');
  });

  it('has no runs or no probes where none are asked for', async () => {
    const engine = new FakeEngine();
    const { result } = await trace(engine, { queries: 0, endToEndQueries: 0 });
    expect([result.runs, result.endToEnd.rtts, engine.runs.length, engine.ends.length]).toEqual([[], [], 0, 0]);
  });

  it('leaves failed runs out, and lost probes in', async () => {
    const engine = new FakeEngine({
      run: async (options, index) => {
        if (index === 0) throw traceError('DENIED', 'SendProbe() failed: operation not permitted');
        return run([hop(1, `${options.destination}`, 1)]);
      },
      end: async (_, index) => {
        if (index === 0) throw traceError('DENIED', 'SendProbe() failed: operation not permitted');
        return 5;
      },
    });
    const { result, steps } = await trace(engine, { endToEndQueries: 5 });
    expect(result.runs).toHaveLength(2);
    expect(result.endToEnd.rtts.filter((rtt) => rtt === 0)).toHaveLength(1);
    expect(steps.find((step) => step.kind === 'run-failed')).toMatchObject({ run: 0 });
  });

  it.each([
    ['udp', 'could not generate udp traceroute results: first\ncould not generate udp traceroute results: second'],
    ['icmp', 'could not generate icmp traceroute results: first\ncould not generate icmp traceroute results: second'],
    ['tcp', 'first\nsecond'],
  ])('fails when every run fails, with each text once (%s)', async (protocol, message) => {
    const engine = new FakeEngine({
      run: async (_, index) => {
        throw traceError('HOSTUNREACH', index === 1 ? 'second' : 'first');
      },
      end: () => pause(3_000).then(() => 0),
    });
    const failed = trace(engine, { protocol });
    await expect(failed).rejects.toMatchObject({ code: 'HOSTUNREACH', message });
    expect(engine.ends.length).toBeLessThan(3);
  });

  it.each<[string, TraceRequest, string]>([
    ['target.example', { protocol: 'sctp' }, 'INVALID_REQUEST'],
    ['', {}, 'INVALID_REQUEST'],
    ['nowhere.example', {}, 'DNS'],
  ])('to %j with %j sends nothing', async (target, request, code) => {
    const engine = new FakeEngine();
    await expect(trace(engine, request, { target })).rejects.toMatchObject({ code });
    expect(engine.runs.length + engine.ends.length).toBe(0);
  });

  it('ends when its signal does', async () => {
    const controller = new AbortController();
    const hang = (signal: AbortSignal): Promise<never> =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(traceError('TIMEOUT', 'aborted'))));
    const engine = new FakeEngine({ run: (_, __, signal) => hang(signal), end: (_, __, signal) => hang(signal) });
    setTimeout(() => controller.abort(), 100);
    await expect(trace(engine, {}, { signal: controller.signal })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(engine.active).toBe(0);
  });
});

describe('end-to-end probes of a UDP trace', () => {
  const answering = (udp: number, echo: number, reached = true): FakeEngine =>
    new FakeEngine({
      run: async (options) => {
        await pause(200);
        return reached ? run([hop(1, `${options.destination}`, 1)]) : pause(4_000).then(() => run([hop(1)]));
      },
      end: async (options) => {
        const rtt = options.protocol === 'icmp' ? echo : udp;
        await pause(rtt || 3_000);
        return rtt;
      },
    });

  it('are echo requests where the destination answers both', async () => {
    const engine = answering(1, 2);
    const { result, took } = await trace(engine);
    expect(result.endToEnd).toEqual({ rtts: new Array(50).fill(2), method: 'icmp' });
    expect(new Set(engine.ends.map((one) => one.protocol))).toEqual(new Set(['icmp']));
    expect(took).toBeLessThan(1_000);
  });

  it('are UDP where echo requests are not answered, once the runs are through', async () => {
    const engine = answering(3, 0);
    const { result, steps, took } = await trace(engine);
    expect(result.endToEnd).toEqual({ rtts: new Array(50).fill(3), method: 'udp' });
    expect(steps.filter((step) => step.kind === 'series')).toEqual([
      { kind: 'series', method: 'icmp' },
      { kind: 'series', method: 'udp' },
    ]);
    expect(took).toBeLessThan(2_500);
  });

  it('are lost where UDP is not answered, whatever echo requests are', async () => {
    const { result, took } = await trace(answering(0, 2, false));
    expect(result.endToEnd).toEqual({ rtts: new Array(50).fill(0), method: 'udp' });
    expect(took).toBeLessThan(6_500);
  });

  it('are UDP without runs, unless its answers are limited', async () => {
    const { result } = await trace(answering(3, 2), { queries: 0 });
    expect(result.endToEnd).toEqual({ rtts: new Array(50).fill(3), method: 'udp' });
    let answers = 0;
    const limited = (echo: number): FakeEngine =>
      new FakeEngine({
        end: async (options) => {
          const rtt = options.protocol === 'icmp' ? echo : answers++ < 6 ? 1 : 0;
          await pause(rtt || 3_000);
          return rtt;
        },
      });
    expect((await trace(limited(2), { queries: 0 })).result.endToEnd).toEqual({
      rtts: new Array(50).fill(2),
      method: 'icmp',
    });
    answers = 0;
    const neither = (await trace(limited(0), { queries: 0 })).result.endToEnd;
    expect([neither.method, neither.rtts.length, neither.rtts.filter((rtt) => rtt > 0).length]).toEqual(['udp', 50, 6]);
  });

  it('keep few losses as they are', async () => {
    const lossy = new FakeEngine({ end: async (_, index) => (index % 10 === 0 ? 0 : 1) });
    expect((await trace(lossy)).result.endToEnd.rtts.filter((rtt) => rtt === 0)).toHaveLength(5);
    const tcp = new FakeEngine({ end: async (_, index) => (index < 6 ? 1 : 0) });
    const { endToEnd } = (await trace(tcp, { protocol: 'tcp' })).result;
    expect([endToEnd.method, endToEnd.rtts.filter((rtt) => rtt === 0).length]).toEqual(['tcp', 44]);
  });
});
