import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RoleStatus } from '../../../src/cli/status-types.js';
import type { Terminal } from '../../../src/cli/trace/live.js';
import { traceProgram } from '../../../src/cli/trace/program.js';
import { type RoleTraceAnswer, RoleTraces } from '../../../src/cli/trace/role-traces.js';
import { SystemClock } from '../../../src/os/clock.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { SystemEntropy } from '../../../src/os/entropy.js';
import { askLocal, serveLocal } from '../../../src/os/local-control.js';
import { traceError } from '../../../src/trace/error.js';
import { PathTracer } from '../../../src/trace/paths/path-tracer.js';
import { FakeEngine, fakeEnvironment } from '../../trace/fake-engine.js';
import { address, hop, run } from '../../trace/fixtures.js';

const crypto = createCrypto();
/** As much of a relay's state as paths are chosen by. */
const STATUS = {
  role: 'relay',
  nodes: [
    { role: 'agent', name: 'alice', address: '192.0.2.2:5000' },
    { role: 'connector', name: 'office', address: '192.0.2.3:5000' },
  ],
  channels: [{ agent: 'alice', connector: 'office' }],
} as unknown as RoleStatus;
const gone = new AbortController().signal;
const asked = (more: object) => ({ command: 'trace', endToEndQueries: 1, ...more });

function tracesOver(engine: () => FakeEngine): RoleTraces {
  return new RoleTraces(
    async () => STATUS,
    async () => new PathTracer(() => fakeEnvironment(engine()), crypto),
  );
}

describe('a role that is asked for traces', () => {
  it('answers with what it found, and remembers it', async () => {
    const traces = tracesOver(() => new FakeEngine());
    expect(traces.history).toEqual({ paths: [] });
    const answer = await traces.trace(asked({ path: 'alice/office' }), gone);
    expect(answer.traces.map(({ path, target, reached }) => [path, target, reached])).toEqual([
      ['agent alice', '192.0.2.2', true],
      ['connector office', '192.0.2.3', true],
    ]);
    expect(traces.history.paths.map(({ path, entries }) => [path, entries.length])).toEqual([
      ['agent alice', 1],
      ['connector office', 1],
    ]);
    expect(traces.latest.map(({ path }) => path)).toEqual(['agent alice', 'connector office']);
  });

  it('tells of a path that failed beside one that did not, and fails when all did', async () => {
    let broken = 1;
    const failing = () =>
      new FakeEngine({
        run: async () => {
          if (broken-- > 0) throw traceError('NETUNREACH', 'no way');
          return run([hop(1, '192.0.2.3', 1)], { destination: address('192.0.2.3:1') });
        },
      });
    const traces = tracesOver(failing);
    const answer = await traces.trace(asked({ path: 'alice/office' }), gone);
    expect(answer.notes).toEqual([expect.stringMatching(/^agent alice: .*no way$/)]);
    expect(answer.traces).toHaveLength(1);
    broken = 2;
    await expect(traces.trace(asked({ path: 'alice/office' }), gone)).rejects.toMatchObject({ code: 'NETUNREACH' });
  });

  it('traces four at once, and no more', async () => {
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const traces = tracesOver(
      () => new FakeEngine({ run: async () => gate.then(() => run([hop(1, '192.0.2.2', 1)])) }),
    );
    const four = Array.from({ length: 4 }, () => traces.trace(asked({ path: 'alice' }), gone));
    await expect(traces.trace(asked({ path: 'alice' }), gone)).rejects.toMatchObject({ code: 'TRACE_BUSY' });
    open();
    await Promise.all(four);
    expect((await traces.trace(asked({ path: 'alice' }), gone)).traces).toHaveLength(1);
  });

  it('ends when who asked has gone', async () => {
    const engine = new FakeEngine({
      run: (_options, _index, signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(traceError('TIMEOUT', 'stopped')))),
    });
    const controller = new AbortController();
    const traced = tracesOver(() => engine).trace(asked({ path: 'alice' }), controller.signal);
    setTimeout(() => controller.abort(), 20);
    await expect(traced).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect([engine.closed, engine.active]).toEqual([true, 0]);
  });

  it.each([
    {},
    { path: 'alice', service: 'web' },
    { path: 7 },
    { path: 'alice', queries: 11 },
    { path: 'alice', endToEndQueries: 1_001 },
    { path: 'alice', timeoutMilliseconds: 10_001 },
    { path: 'alice', maxTtl: 1.5 },
    { path: 'alice', device: 'eth0' },
  ])('refuses %o', async (request) => {
    const traced = tracesOver(() => new FakeEngine()).trace(asked(request), gone);
    await expect(traced).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  });
});

describe('the command line that asks', () => {
  let dir: string;
  let stop: () => void;
  let requests: unknown[];
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'spl-ask-'));
    requests = [];
    const traces = tracesOver(() => new FakeEngine());
    stop = await serveLocal(dir, async (request, signal) => {
      requests.push(request);
      return request.command === 'traces' ? traces.history : await traces.trace(request, signal);
    });
  });
  afterEach(() => {
    stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const ran = async (argv: readonly string[], isTerminal = false): Promise<[number, string, string]> => {
    let out = '';
    let err = '';
    const terminal: Terminal = { columns: 80, rows: 24, write: () => undefined };
    const status = await traceProgram(argv, {
      context: {
        crypto,
        clock: new SystemClock(),
        entropy: new SystemEntropy(),
        environment: {},
        out: (text) => {
          out += `${text}\n`;
        },
        note: (text) => {
          err += `${text}\n`;
        },
      },
      terminal: isTerminal ? terminal : undefined,
      signal: gone,
      environment: () => fakeEnvironment(new FakeEngine()),
    });
    return [status, out, err];
  };

  it('prints JSON in a pipe and a table on a terminal', async () => {
    const [status, out] = await ran(['--path', 'alice', '--dir', dir, '-P', 'udp', '--timeout=300', '-Q', '3']);
    expect(status).toBe(0);
    expect(requests[0]).toEqual({
      command: 'trace',
      path: 'alice',
      protocol: 'udp',
      timeoutMilliseconds: 300,
      endToEndQueries: 3,
    });
    const { traces } = JSON.parse(out) as RoleTraceAnswer;
    expect(Object.keys(traces[0]!)).toEqual([
      'path',
      'port',
      'at',
      'target',
      'protocol',
      'reached',
      'hops',
      'rtt',
      'loss',
      'path_id',
      'changed',
      'result',
    ]);
    const [, table] = await ran(['--path', 'alice', '--dir', dir], true);
    expect(table).toMatch(/^agent alice: 192\.0\.2\.2, icmp; path [0-9a-f]{16}\nHOP {2}ADDRESS/);
    for (const line of table.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    const [, history] = await ran(['--history', '--dir', dir], true);
    expect(history.split('\n').slice(0, 2)).toEqual([
      'agent alice',
      expect.stringMatching(/^AT +PATH +CHANGED +RTT +LOSS +WAY$/),
    ]);
    expect(JSON.parse((await ran(['--history', '--dir', dir]))[1])).toMatchObject({ paths: [{ path: 'agent alice' }] });
  });

  it.each([
    [['--path', 'alice', '--service', 'web'], /one of --path, --service and --history/],
    [['--dir', '/x'], /one of --path, --service and --history/],
    [['--path', 'alice', 'example.com'], /--path goes without a target/],
    [['--path', 'alice', '--svg'], /--svg does not go with --path/],
    [['--history', '-Q', '3'], /--e2e-queries does not go with --history/],
  ])('%j is wrong usage', async (argv, text) => {
    const [status, out, err] = await ran(argv);
    expect([status, out]).toEqual([2, '']);
    expect(err).toMatch(text);
    expect(requests).toEqual([]);
  });

  it('tells in one line what the role could not do, and what to do about it', async () => {
    expect(await ran(['--path', 'bob', '--dir', dir])).toEqual([
      1,
      '',
      'sallyport: no node bob is connected (nodes of this relay: alice, office)\n',
    ]);
  });

  it('gives up with its process: the role stops tracing', async () => {
    let aborted = false;
    stop();
    stop = await serveLocal(
      dir,
      (_request, signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            aborted = true;
            resolve({});
          });
        }),
    );
    await expect(askLocal(dir, { command: 'trace' }, 30)).rejects.toMatchObject({ code: 'NOT_RUNNING' });
    await expect.poll(() => aborted).toBe(true);
  });
});
