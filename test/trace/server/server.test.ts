import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { Duration } from '../../../src/base/time.js';
import { Millis, Seconds } from '../../../src/base/time.js';
import { createCrypto } from '../../../src/os/crypto.js';
import type { CompatibleResult } from '../../../src/trace/compatible.js';
import { traceError } from '../../../src/trace/error.js';
import { Admission } from '../../../src/trace/server/admission.js';
import { parseParameters } from '../../../src/trace/server/parameters.js';
import { goDuration, TraceServer, type TraceServerOptions } from '../../../src/trace/server/server.js';
import { FakeEngine, fakeEnvironment } from '../fake-engine.js';

const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const FEW = 'traceroute-queries=1&e2e-queries=1';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}

describe('the trace server', () => {
  const servers: TraceServer[] = [];
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((one) => one.stop(Millis(0))));
  });

  const start = async (engine = new FakeEngine(), more: Partial<TraceServerOptions> = {}): Promise<number> => {
    const server = new TraceServer({
      host: '127.0.0.1',
      port: 0,
      environment: fakeEnvironment(engine),
      crypto: createCrypto(),
      log,
      token: undefined,
      windowsDriver: false,
      concurrency: 4,
      queue: 4,
      timeLimit: Seconds(30),
      ...more,
    });
    servers.push(server);
    return (await server.start()).port;
  };
  const ask = (port: number, path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = httpRequest({ port, path, method, headers, host: '127.0.0.1', agent: false }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      });
      sent.on('error', reject);
      sent.end();
    });

  it('answers with the compatible form on one line', async () => {
    const port = await start();
    const { status, headers, body } = await ask(
      port,
      `/traceroute?target=target.example&${FEW}&reverse-dns=T&source-public-ip=1`,
    );
    expect([status, headers['content-type']]).toEqual([200, 'application/json']);
    expect(body).toMatch(
      /^\{"test_run_id":"[\w-]{22}","protocol":"udp","source":\{"public_ip":"203\.0\.113\.9"\}.*\}\n$/,
    );
    const result = JSON.parse(body) as CompatibleResult;
    expect(result.destination).toEqual({ hostname: 'target.example', port: 33_434 });
    expect(result.traceroute.runs![0]!.hops[1]).toMatchObject({
      ip_address: '198.51.100.2',
      reverse_dns: ['host-198-51-100-2.example.'],
    });
  });

  it('says how it is', async () => {
    const port = await start();
    const got = await ask(port, '/health');
    expect(got.body).toMatch(
      /^\{"status":"healthy","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ","uptime":"[\d.]+(µs|ms|s)"\}\n$/,
    );
    const head = await ask(port, '/health', 'HEAD');
    expect([head.status, head.body, head.headers['content-type']]).toEqual([200, '', 'application/json']);
  });

  it.each([
    ['GET', '/', 404, '404 page not found\n'],
    ['GET', '/traceroute/', 404, '404 page not found\n'],
    ['POST', '/traceroute?target=target.example', 405, 'Method not allowed\n'],
    ['HEAD', '/traceroute?target=target.example', 405, ''],
    ['DELETE', '/health', 405, 'Method not allowed\n'],
  ])('%s %s is %d', async (method, path, status, body) => {
    const answer = await ask(await start(), path, method);
    expect([answer.status, answer.body]).toEqual([status, body]);
    expect(answer.headers['content-type']).toMatch(/^text\/plain/);
  });

  it.each([
    ['', 400, 'INVALID_REQUEST', 'missing required parameter: target'],
    ['target=', 400, 'INVALID_REQUEST', 'missing required parameter: target'],
    ['target=a:b', 400, 'INVALID_REQUEST', 'invalid target: "a:b": malformed port'],
    ['target=h&protocol=', 400, 'INVALID_REQUEST', 'unknown protocol: ""'],
    ['target=h&port=65536', 400, 'INVALID_REQUEST', 'invalid port: 65536'],
    ['target=h&tcp-method=fin', 500, 'UNKNOWN', 'unexpected TCPMethod: fin'],
    [
      'target=nowhere.example',
      500,
      'DNS',
      'failed to resolve host "nowhere.example": lookup nowhere.example: no such host',
    ],
  ])('refuses ?%s with %d %s', async (query, status, code, message) => {
    const answer = await ask(await start(), `/traceroute?${query}`);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toEqual({ code, message });
    expect(Object.keys(JSON.parse(answer.body))).toEqual(['code', 'message']);
  });

  it('hands the engine’s failure on', async () => {
    const engine = new FakeEngine({
      run: () => Promise.reject(traceError('DENIED', 'failed to create raw socket: operation not permitted')),
    });
    const answer = await ask(await start(engine), `/traceroute?target=target.example&${FEW}`);
    expect([answer.status, JSON.parse(answer.body)]).toEqual([
      500,
      {
        code: 'DENIED',
        message: 'could not generate udp traceroute results: failed to create raw socket: operation not permitted',
      },
    ]);
  });

  it('traces so many at once, lets so many wait, and turns the others away', async () => {
    const ends: (() => void)[] = [];
    const engine = new FakeEngine({
      end: () => new Promise((resolve) => ends.push(() => resolve(1))),
    });
    const port = await start(engine, { concurrency: 2, queue: 1 });
    const path = '/traceroute?target=target.example&traceroute-queries=0&e2e-queries=1';
    const three: Promise<Answer>[] = [];
    for (const under of [1, 2]) {
      three.push(ask(port, path));
      await expect.poll(() => ends.length).toBe(under);
    }
    three.push(ask(port, path));
    await expect.poll(async () => (await ask(port, '/metrics')).body).toContain('sallyport_trace_waiting 1');
    const refused = await ask(port, path);
    expect([refused.status, JSON.parse(refused.body).code, refused.headers['retry-after']]).toEqual([503, 'BUSY', '1']);
    for (const end of ends.splice(0)) end();
    await expect.poll(() => ends.length).toBe(1);
    ends[0]!();
    expect((await Promise.all(three)).map((one) => one.status)).toEqual([200, 200, 200]);
    expect(engine.most).toBe(2);
  });

  it('ends the trace of a client that goes away', async () => {
    let aborted = 0;
    const engine = new FakeEngine({
      run: (_, __, signal) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            aborted++;
            reject(traceError('TIMEOUT', 'aborted'));
          }),
        ),
    });
    const port = await start(engine);
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET /traceroute?target=target.example&${FEW} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await expect.poll(() => engine.runs.length).toBe(1);
    socket.destroy();
    await expect.poll(() => aborted).toBe(1);
    await expect.poll(async () => (await ask(port, '/metrics')).body).toContain('sallyport_trace_cancelled_total 1');
    expect((await ask(port, '/metrics')).body).toContain('sallyport_trace_running 0');
  });

  it('answers within its time limit', async () => {
    const engine = new FakeEngine({ end: () => new Promise(() => undefined) });
    const port = await start(engine, { timeLimit: Millis(50) });
    const answer = await ask(port, `/traceroute?target=target.example&${FEW}`);
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([500, 'TIMEOUT']);
  });

  it('wants its token, and only that', async () => {
    const port = await start(new FakeEngine(), { token: 'correct-horse' });
    const path = `/traceroute?target=target.example&${FEW}`;
    for (const authorization of [
      '',
      'Bearer',
      'Bearer wrong',
      'Bearer correct-horse2',
      'Basic correct-horse',
      'correct-horse',
    ]) {
      const answer = await ask(port, path, 'GET', authorization === '' ? {} : { authorization });
      expect([answer.status, JSON.parse(answer.body).code]).toEqual([401, 'UNAUTHORIZED']);
      expect(answer.headers['www-authenticate']).toBe('Bearer');
    }
    expect((await ask(port, path, 'GET', { authorization: 'Bearer correct-horse' })).status).toBe(200);
    expect((await ask(port, '/metrics')).status).toBe(401);
    expect((await ask(port, '/health')).status).toBe(200);
  });

  it('does not trace for a website in somebody’s browser', async () => {
    const answer = await ask(await start(), '/traceroute?target=target.example', 'GET', {
      'sec-fetch-site': 'cross-site',
    });
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([403, 'FORBIDDEN']);
  });

  it('counts what it does', async () => {
    const port = await start(new FakeEngine({ end: async (_, index) => (index === 0 ? 0 : 1) }));
    await ask(port, '/traceroute?target=target.example&protocol=tcp&e2e-queries=4&traceroute-queries=2');
    await ask(port, '/traceroute');
    const { body, headers } = await ask(port, '/metrics');
    expect(headers['content-type']).toContain('text/plain; version=0.0.4');
    for (const line of [
      'requests_total{status="200"} 1',
      'requests_total{status="400"} 1',
      'runs_total 2',
      'runs_reached_total 2',
      'e2e_probes_total 4',
      'e2e_probes_lost_total 1',
      'duration_seconds_count 1',
      'duration_seconds_bucket{le="+Inf"} 1',
    ]) {
      expect(body).toContain(`sallyport_trace_${line}\n`);
    }
    const samples = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    for (const sample of samples) expect(sample).toMatch(/^sallyport_trace_[a-z0-9_]+(\{[a-z]+="[^"]+"\})? [\d.e+-]+$/);
  });

  it('lets a trace under way finish when it stops, and ends it after the grace', async () => {
    let finish: () => void = () => undefined;
    const engine = new FakeEngine({
      end: () =>
        new Promise((resolve) => {
          finish = () => resolve(1);
        }),
    });
    const port = await start(engine);
    const answer = ask(port, '/traceroute?target=target.example&traceroute-queries=0&e2e-queries=1');
    await expect.poll(() => engine.ends.length).toBe(1);
    const stopped = servers[0]!.stop(Seconds(10));
    await expect(ask(port, '/health')).rejects.toThrow();
    finish();
    expect((await answer).status).toBe(200);
    await stopped;
    const hanging = new FakeEngine({ end: () => new Promise(() => undefined) });
    const again = await start(hanging);
    const cut = ask(again, '/traceroute?target=target.example&traceroute-queries=0&e2e-queries=1');
    await expect.poll(() => hanging.ends.length).toBe(1);
    await servers[1]!.stop(Millis(20));
    expect(JSON.parse((await cut).body).code).toBe('TIMEOUT');
  });

  it('answers anything with an answer', async () => {
    const port = await start(new FakeEngine(), { concurrency: 1, queue: 0 });
    const names = [
      'target',
      'protocol',
      'port',
      'max-ttl',
      'timeout',
      'tcp-method',
      'ipv6',
      'e2e-queries',
      'traceroute-queries',
      'skip-private-hops',
      'x',
    ];
    const values = fc.oneof(
      fc.string(),
      fc.integer().map(String),
      fc.constantFrom(
        '',
        'true',
        'udp',
        'tcp',
        '%',
        '%zz',
        '1e3',
        '0x10',
        '-1',
        '999999999999999999',
        'target.example',
        '::1',
      ),
    );
    const pairs = fc.array(fc.tuple(fc.constantFrom(...names), values, fc.boolean()), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(pairs, async (all) => {
        const query = all
          .map(
            ([name, value, raw]) =>
              `${name}=${raw ? value.replace(/[^\x21-\x7e]/g, '') : encodeURIComponent(value.replace(/\p{Cs}/gu, ''))}`,
          )
          .join('&');
        // No target that resolves: what is tested is the reading of parameters, not a trace.
        const { status, body } = await ask(
          port,
          `/traceroute?${query.replaceAll('#', '')}&e2e-queries=0&traceroute-queries=0`,
        );
        expect([200, 400, 500]).toContain(status);
        const answer = JSON.parse(body) as { code?: string; test_run_id?: string };
        expect(status === 200 ? answer.test_run_id : answer.code).toBeTypeOf('string');
      }),
      { numRuns: 60 },
    );
    expect((await ask(port, `/traceroute?target=${'a'.repeat(9_000)}`)).status).toBe(414);
  });
});

describe('query parameters', () => {
  const parse = (query: string): ReturnType<typeof parseParameters> => parseParameters(new URLSearchParams(query));

  it('are those of the other server', () => {
    expect(
      parse(
        'target=h&protocol=tcp&port=443&traceroute-queries=1&e2e-queries=2&max-ttl=9&timeout=500&tcp-method=sack&ipv6=1&reverse-dns=t&source-public-ip=true&windows-driver=True&skip-private-hops=TRUE',
      ),
    ).toEqual({
      target: 'h',
      request: {
        protocol: 'tcp',
        tcpMethod: 'sack',
        port: 443,
        queries: 1,
        endToEndQueries: 2,
        maxTtl: 9,
        timeoutMilliseconds: 500,
        ipv6: true,
        reverseDns: true,
        sourcePublicIp: true,
        windowsDriver: true,
      },
      skipPrivateHops: true,
      extended: false,
    });
  });

  it.each(['port=http', 'port=', 'port=1.5', 'port=0x10', 'port= 1', 'ipv6=yes', 'ipv6=', 'ipv6=tRUE', 'proto=tcp'])(
    'without sense (%s) are not there',
    (query) => {
      expect(parse(query).request).toEqual({});
    },
  );

  it('count once, the first; an empty text counts', () => {
    expect(parse('port=1&port=2&protocol=&protocol=tcp&tcp-method=').request).toEqual({
      port: 1,
      protocol: '',
      tcpMethod: '',
    });
  });
});

it.each<[number, string]>([
  [0, '0s'],
  [250_000, '250ms'],
  [1_500_000, '1.5s'],
  [62_500_000, '1m2.5s'],
  [120_000_000, '2m0s'],
  [3_723_000_000, '1h2m3s'],
])('a duration of %d µs prints as %s', (micros, text) => {
  expect(goDuration(micros as Duration)).toBe(text);
});

describe('admission', () => {
  it('gives places in the order of asking, and forgets who went away', async () => {
    const admission = new Admission(1, 2);
    const never = new AbortController().signal;
    const gone = new AbortController();
    expect(await admission.enter(never)).toBe(true);
    const leaver = admission.enter(gone.signal);
    const second = admission.enter(never);
    expect(await admission.enter(never)).toBe(false);
    gone.abort();
    expect([await leaver, admission.waiting]).toEqual([false, 1]);
    admission.leave();
    expect([await second, admission.running, admission.waiting]).toEqual([true, 1, 0]);
    admission.leave();
    expect(admission.running).toBe(0);
    expect(await admission.enter(AbortSignal.abort())).toBe(false);
  });
});
