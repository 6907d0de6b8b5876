import { spawnSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SallyportError } from '../../src/base/error.js';
import { type Duration, Millis, Seconds } from '../../src/base/time.js';
import { ThreadHost, type ThreadOptions } from '../../src/os/thread.js';
import { startEarly } from '../../src/os/worker.js';
import { type Transpiled, transpileSources } from './transpile.js';

interface Protocol {
  readonly requests: {
    readonly double: { readonly input: number; readonly output: number };
    readonly fail: { readonly input: 'environment' | 'plain'; readonly output: never };
    readonly emit: { readonly input: number; readonly output: undefined };
    readonly busy: { readonly input: number; readonly output: undefined };
    readonly throwLater: { readonly input: 'timer' | 'uncaught'; readonly output: undefined };
    readonly stopYourself: { readonly input: undefined; readonly output: undefined };
  };
  readonly events: { readonly tick: number; readonly closed: string };
}

/** A packet thread as a role would write it; `data` says what its setup does. */
const FIXTURE = `
import { servePacketThread } from './os/packet-thread.js';
import { SallyportError } from './base/error.js';
await servePacketThread(async ({ reactor, data, counters, emit }) => {
  if (data === 'refuse') throw new SallyportError('environment', 'NO_LUCK', 'setup failed', { hint: 'try again' });
  if (data === 'hang') await new Promise(() => setInterval(() => {}, 1000));
  const values = new Float64Array(counters);
  let turns = 0;
  reactor.onTurn(() => { if (values.length > 0) values[0] = ++turns; return undefined; });
  return {
    requests: {
      double: (n) => n * 2,
      fail: (how) => { throw how === 'plain' ? new Error('boom') : new SallyportError('environment', 'E1', 'wrong', { hint: 'do' }); },
      emit: (count) => { for (let i = 0; i < count; i++) emit('tick', i); return undefined; },
      busy: (ms) => { reactor.at(reactor.readClock(), () => { emit('tick', ms); const end = performance.now() + ms; while (performance.now() < end); }); },
      throwLater: (where) => {
        if (where === 'uncaught') setImmediate(() => { throw new Error('uncaught'); });
        else reactor.at(reactor.readClock(), () => { throw new Error('in a timer'); });
      },
      stopYourself: () => reactor.stop(),
    },
    close: () => emit('closed', String(data)),
  };
});
`;

let built: Transpiled;
let url: URL;
const hosts: ThreadHost<Protocol>[] = [];

beforeAll(() => {
  built = transpileSources();
  url = built.add('fixture.js', FIXTURE);
});
afterAll(() => built.remove());
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.stop(Seconds(2));
});

interface Log {
  readonly events: [string, unknown][];
  readonly bugs: SallyportError[];
  readonly deaths: SallyportError[];
  readonly stalls: Duration[];
}

async function start(
  data: unknown,
  changes: Partial<ThreadOptions<Protocol>> = {},
): Promise<{ host: ThreadHost<Protocol>; log: Log }> {
  const log: Log = { events: [], bugs: [], deaths: [], stalls: [] };
  const host = await ThreadHost.start<Protocol>({
    url,
    data,
    name: 'test',
    onEvent: (name, payload) => log.events.push([name, payload]),
    onBug: (error) => log.bugs.push(error),
    onDeath: (error) => log.deaths.push(error),
    onStall: (span) => log.stalls.push(span),
    ...changes,
  });
  hosts.push(host);
  return { host, log };
}

/** Lets the main loop run until something has come about; the test's own limit ends it otherwise. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe('a packet thread', () => {
  it('answers requests while its loop sleeps in the kernel', async () => {
    const { host } = await start('x');
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => host.request('double', i)));
    expect(answers).toEqual(Array.from({ length: 50 }, (_, i) => i * 2));
    for (let i = 0; i < 20; i++) expect(await host.request('double', i)).toBe(i * 2);
  });

  it('carries errors of requests with code, kind and hint', async () => {
    const { host } = await start('x');
    await expect(host.request('fail', 'environment')).rejects.toMatchObject({
      kind: 'environment',
      code: 'E1',
      message: 'wrong',
      hint: 'do',
    });
    await expect(host.request('fail', 'plain')).rejects.toMatchObject({ kind: 'bug', code: 'UNEXPECTED' });
    await expect(host.request('toString' as 'double', 1)).rejects.toMatchObject({ code: 'UNKNOWN_REQUEST' });
  });

  it('sends events in order, and shares counters', async () => {
    const { host, log } = await start('x', { counterBytes: 8 });
    await host.request('emit', 5);
    await until(() => log.events.length === 5);
    expect(log.events).toEqual([0, 1, 2, 3, 4].map((i) => ['tick', i]));
    const counters = new Float64Array(host.counters);
    await until(() => counters[0]! > 0);
  });

  it('stops when told, closing what it opened', async () => {
    const { host, log } = await start('mine');
    expect(await host.stop(Seconds(20))).toBe('stopped');
    await until(() => log.events.length > 0);
    expect(log.events).toEqual([['closed', 'mine']]);
    expect(log.deaths).toEqual([]);
    await expect(host.request('double', 1)).rejects.toMatchObject({ code: 'THREAD_ENDED' });
    expect(await host.stop(Seconds(20))).toBe('stopped');
  });

  it('reports a failed setup to whoever started it', async () => {
    await expect(start('refuse')).rejects.toMatchObject({ code: 'NO_LUCK', kind: 'environment', hint: 'try again' });
    await expect(start('x', { url: built.add('broken.js', 'throw new Error("no")') })).rejects.toMatchObject({
      code: 'THREAD_DIED',
      kind: 'bug',
    });
  });

  it('reports a throwing timer and goes on', async () => {
    const { host, log } = await start('x');
    await host.request('throwLater', 'timer');
    await until(() => log.bugs.length === 1);
    expect(log.bugs[0]!.message).toContain('in a timer');
    expect(await host.request('double', 4)).toBe(8);
  });

  it('reports its death, and fails what was asked of it', async () => {
    const { host, log } = await start('x');
    await host.request('throwLater', 'uncaught');
    await until(() => log.deaths.length === 1);
    expect(log.deaths[0]).toMatchObject({
      code: 'THREAD_DIED',
      cause: expect.objectContaining({ message: 'uncaught' }),
    });
    await expect(host.request('double', 1)).rejects.toMatchObject({ code: 'THREAD_ENDED' });
  });

  it('is dead, and not stopped, when it ends without being told to', async () => {
    const { host, log } = await start('x');
    await host.request('stopYourself', undefined);
    await until(() => log.deaths.length === 1);
    expect(await host.stop(Seconds(20))).toBe('stopped');
  });

  it('is reported once while it hangs, and counts as well again when it beats', async () => {
    const { host, log } = await start('x', { stallAfter: Millis(600) });
    await host.request('busy', 2_500);
    await until(() => host.stalled);
    await until(() => !host.stalled);
    expect(log.stalls).toHaveLength(1);
    expect(log.stalls[0]).toBeGreaterThanOrEqual(600_000);
    expect(await host.request('double', 2)).toBe(4);
  });

  it('that hangs can be ended by force', async () => {
    const { host, log } = await start('x');
    await host.request('busy', 3_600_000);
    await until(() => log.events.length === 1);
    expect(await host.stop(Millis(20))).toBe('terminated');
  });

  it('that is idle is not taken for one that hangs', async () => {
    const { host, log } = await start('x', { stallAfter: Millis(600) });
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect([log.stalls, host.stalled]).toEqual([[], false]);
  });

  it('may be started before there is anything to tell it, and serves one host', async () => {
    const early = built.add('early.js', `// A module of its own.\n${FIXTURE}`);
    startEarly(early, 'early');
    const first = await start('x', { url: early });
    const second = await start('y', { url: early });
    expect(await Promise.all([first, second].map(({ host }) => host.request('double', 3)))).toEqual([6, 6]);
    expect(await first.host.stop(Seconds(20))).toBe('stopped');
    expect(await second.host.request('double', 4)).toBe(8);
    expect([first, second].map(({ log }) => log.deaths)).toEqual([[], []]);
  });

  it('that was started early is not taken for another module, nor when it could not run', async () => {
    const broken = built.add('broken-early.js', 'throw new Error("no")');
    startEarly(broken, 'broken');
    const { host } = await start('x');
    expect(await host.request('double', 5)).toBe(10);
    // Long enough for the module to have failed: the host's own thread ends in this time.
    await host.stop(Seconds(20));
    await expect(start('x', { url: broken })).rejects.toMatchObject({ code: 'THREAD_DIED', kind: 'bug' });
  });

  it('that nobody takes ends by itself when it is dismissed', () => {
    const program = `
      import { dismissEarly, startEarly } from ${JSON.stringify(built.url('os/worker.js').href)};
      await dismissEarly();
      startEarly(new URL(${JSON.stringify(url.href)}), 'early');
      await dismissEarly();
      startEarly(new URL('data:text/javascript,throw 1'), 'broken');
      await dismissEarly();
      console.log('done');
    `;
    const options = { input: program, encoding: 'utf8', timeout: 20_000 } as const;
    const ended = spawnSync(process.execPath, ['--input-type=module'], options);
    expect(ended).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
  });
});
