import { describe, expect, it } from 'vitest';
import { createCrypto } from '../../../src/os/crypto.js';
import { traceError } from '../../../src/trace/error.js';
import { PathTracer, type TracedPath } from '../../../src/trace/paths/path-tracer.js';
import type { TraceOptions, TraceRun } from '../../../src/trace/types.js';
import { FakeEngine, fakeEnvironment } from '../fake-engine.js';
import { address, hop, run } from '../fixtures.js';

const PATH: TracedPath = { id: 'relay', target: '198.51.100.2', port: 4433, protocols: ['quic', 'icmp', 'udp'] };
const QUICK = { endToEndQueries: 1 };
const signal = new AbortController().signal;

/** A tracer over engines that answer as told; `closed` counts those that were given back. */
function tracerOver(answer: (options: TraceOptions) => Promise<TraceRun> | TraceRun): {
  readonly tracer: PathTracer;
  readonly engines: FakeEngine[];
  readonly asked: TraceOptions[];
} {
  const engines: FakeEngine[] = [];
  const asked: TraceOptions[] = [];
  const tracer = new PathTracer(() => {
    const engine = new FakeEngine({
      run: async (options) => {
        asked.push(options);
        return await answer(options);
      },
    });
    engines.push(engine);
    return fakeEnvironment(engine);
  }, createCrypto());
  return { tracer, engines, asked };
}

const reached = (options: TraceOptions): TraceRun =>
  run([hop(1, '192.0.2.1', 1), hop(2, `${options.destination}`, 2)], {
    source: address(`192.0.2.9:${options.sourcePort ?? 40_000}`),
  });

describe('a trace of a path', () => {
  it('uses the first protocol that is permitted, and gives the engine back', async () => {
    const { tracer, engines, asked } = tracerOver((options) => {
      if (options.protocol !== 'udp') throw traceError('DENIED', 'not permitted');
      return reached(options);
    });
    const trace = await tracer.trace(PATH, QUICK, signal);
    expect(trace).toMatchObject({
      path: 'relay',
      target: '198.51.100.2',
      port: 4433,
      protocol: 'udp',
      reached: true,
      hops: ['192.0.2.1', '198.51.100.2'],
      changed: false,
    });
    expect(asked.map(({ protocol, port, repeats }) => [protocol, port, repeats])).toEqual([
      ['quic', 4433, 3],
      ['icmp', 4433, 3],
      ['udp', 4433, 3],
    ]);
    expect(engines.map(({ closed }) => closed)).toEqual([true]);
  });

  it('fails with the last refusal, and at once with anything else', async () => {
    const denied = tracerOver(() => {
      throw traceError('DENIED', 'not permitted');
    });
    await expect(denied.tracer.trace(PATH, QUICK, signal)).rejects.toMatchObject({ code: 'DENIED' });
    expect(denied.asked).toHaveLength(3);
    const away = tracerOver(() => {
      throw traceError('NETUNREACH', 'no way');
    });
    await expect(away.tracer.trace(PATH, QUICK, signal)).rejects.toMatchObject({ code: 'NETUNREACH' });
    expect(away.asked).toHaveLength(1);
    expect(away.engines[0]!.closed).toBe(true);
    expect(away.tracer.history.paths).toEqual([]);
  });

  it('does as it is wished', async () => {
    const { tracer, asked } = tracerOver(reached);
    await tracer.trace(PATH, { ...QUICK, protocol: 'icmp', maxTtl: 7, timeoutMilliseconds: 300 }, signal);
    expect(asked[0]).toMatchObject({ protocol: 'icmp', maxTtl: 7, timeout: 300_000 });
    await expect(tracer.trace(PATH, { protocol: 'sctp' }, signal)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('stays on one flow, so that equal-cost paths are no change; on another when the port is taken', async () => {
    let isTaken = false;
    const { tracer, asked } = tracerOver((options) => {
      if (isTaken && options.sourcePort !== undefined) throw traceError('INVALID_REQUEST', 'the port is taken');
      return reached(options);
    });
    await tracer.trace(PATH, QUICK, signal);
    await tracer.trace(PATH, QUICK, signal);
    expect(asked.map(({ sourcePort }) => sourcePort)).toEqual([undefined, 40_000]);
    isTaken = true;
    await tracer.trace(PATH, QUICK, signal);
    expect(asked.map(({ sourcePort }) => sourcePort)).toEqual([undefined, 40_000, 40_000, undefined]);
    expect(tracer.history.of('relay')).toHaveLength(3);
  });

  it('ends with what answered last, where the destination does not', async () => {
    const { tracer } = tracerOver(() => run([hop(1, '192.0.2.1', 1), hop(2), hop(3, '192.0.2.3', 1), hop(4), hop(5)]));
    const trace = await tracer.trace(PATH, QUICK, signal);
    expect(trace).toMatchObject({ reached: false, hops: ['192.0.2.1', '', '192.0.2.3'] });
    expect(trace.result.traceroute.runs![0]!.hops).toHaveLength(5);
  });
});
