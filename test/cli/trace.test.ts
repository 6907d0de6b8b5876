import { describe, expect, it } from 'vitest';
import { datadogTraceroute } from '../../src/cli/trace/datadog.js';
import type { Terminal } from '../../src/cli/trace/live.js';
import { type TraceMachine, traceProgram } from '../../src/cli/trace/program.js';
import { parseListen, traceServerProgram } from '../../src/cli/trace/server.js';
import { SystemClock } from '../../src/os/clock.js';
import { createCrypto } from '../../src/os/crypto.js';
import { SystemEntropy } from '../../src/os/entropy.js';
import type { CompatibleResult } from '../../src/trace/compatible.js';
import { traceError } from '../../src/trace/error.js';
import { FakeEngine, fakeEnvironment } from '../trace/fake-engine.js';
import { hop, run } from '../trace/fixtures.js';

const FEW = ['-q', '1', '-Q', '1'];

interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

type Program = (argv: readonly string[], machine: TraceMachine) => Promise<number>;

async function ran(
  program: Program,
  argv: readonly string[],
  more: {
    readonly engine?: FakeEngine;
    readonly terminal?: Terminal;
    readonly signal?: AbortSignal;
    readonly environment?: NodeJS.ProcessEnv;
  } = {},
): Promise<Ran> {
  let out = '';
  let err = '';
  const status = await program(argv, {
    context: {
      crypto: createCrypto(),
      clock: new SystemClock(),
      entropy: new SystemEntropy(),
      environment: more.environment ?? {},
      out: (text) => {
        out += `${text}\n`;
      },
      note: (text) => {
        err += `${text}\n`;
      },
    },
    terminal: more.terminal,
    signal: more.signal ?? new AbortController().signal,
    environment: () => fakeEnvironment(more.engine ?? new FakeEngine()),
  });
  return { status, out, err };
}

/** What a terminal shows in the end: what is drawn over is gone. */
class Screen implements Terminal {
  readonly rows = 24;
  raw = '';
  constructor(readonly columns: number) {}
  write(text: string): void {
    this.raw += text;
  }
  get lines(): string[] {
    const [first, ...rest] = this.raw.split('\u001b[');
    const lines = first!.split('\n');
    for (const piece of rest) {
      // Up so many lines, or everything below away: what is drawn over goes with the first.
      const [, count, command, text] = /^(\d*)([A-Z])(.*)$/su.exec(piece)!;
      if (command === 'F') lines.splice(lines.length - 1 - Number(count), Number(count) + 1, '');
      const [head, ...more] = text!.split('\n');
      lines[lines.length - 1] += head!;
      lines.push(...more);
    }
    return lines.slice(0, -1);
  }
}

describe('sallyport trace', () => {
  it('prints the compatible form in a pipe', async () => {
    const { status, out, err } = await ran(traceProgram, ['target.example', ...FEW]);
    expect([status, err]).toEqual([0, '']);
    expect(out).toMatch(/^\{\n {2}"test_run_id"/);
    const result = JSON.parse(out) as CompatibleResult;
    expect(result.traceroute.runs).toHaveLength(1);
    expect(result.e2e_probe.packets_sent).toBe(1);
  });

  it('draws a table on a terminal, within its columns', async () => {
    const screen = new Screen(80);
    const { status, out } = await ran(traceProgram, ['target.example', '-q', '3', '-Q', '5'], { terminal: screen });
    expect([status, out]).toEqual([0, '']);
    const lines = screen.lines;
    expect(lines[0]).toBe('trace to target.example (198.51.100.2), udp port 33434');
    expect(lines[1]).toMatch(/^HOP NAME +AS +LOSS +LAST +AVG +BEST +WORST +JTR$/);
    expect(lines[3]).toMatch(/^ {2}2 host-198-5…2.example. AS64500 +0% +0\.30 +0\.30 +0\.30 +0\.30 +0\.00 ███$/);
    expect(lines[4]).toMatch(/^end to end: 5 sent, 0% lost, best 1\.00/);
    expect(lines.at(-1)).toBe('the destination answered');
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('prints JSON on a terminal when told, and other forms', async () => {
    const json = await ran(traceProgram, ['--json', 'target.example', ...FEW], { terminal: new Screen(80) });
    expect(JSON.parse(json.out)).toHaveProperty('e2e_probe');
    const csv = await ran(traceProgram, ['--csv', '--reverse-dns', 'target.example', ...FEW]);
    expect(csv.out.split('\n')[2]).toBe(
      '2,198.51.100.2,host-198-51-100-2.example.,,,,1,1,0,0.301122,0.301122,0.301122,0.301122,0,false,true',
    );
    const markdown = await ran(traceProgram, ['--markdown', '--asn', 'target.example', ...FEW]);
    expect(markdown.out.split('\n')[3]).toBe(
      '| 2 | 198.51.100.2 |  | AS64500 EXAMPLE | 0% | 0.30 | 0.30 | 0.30 | 0.30 | 0.00 |',
    );
    expect((await ran(traceProgram, ['--dot', 'target.example', ...FEW])).out).toMatch(/^digraph trace \{.*\}\n$/s);
    expect((await ran(traceProgram, ['--svg', 'target.example', ...FEW])).out).toMatch(/^<svg .*<\/svg>\n$/s);
    const extended = await ran(traceProgram, ['--extended', 'target.example', ...FEW]);
    expect(JSON.parse(extended.out).traceroute.runs[0]).toMatchObject({ destination_reached: true, privilege: 'raw' });
  });

  it('traces again and again until it is stopped, one line for each round', async () => {
    const controller = new AbortController();
    const engine = new FakeEngine({
      run: async (options, index) => {
        if (index === 2) controller.abort();
        return run([hop(1, `${options.destination}`, 1)]);
      },
    });
    const { status, out } = await ran(traceProgram, ['-w', '--interval', '100', 'target.example'], {
      engine,
      signal: controller.signal,
    });
    expect(status).toBe(0);
    const lines = out.trim().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(JSON.parse(line).traceroute.runs).toHaveLength(1);
  });

  it('does not probe behind a destination it has found, and looks everywhere again when that is gone', async () => {
    const controller = new AbortController();
    const engine = new FakeEngine({
      run: async (options, index) => {
        if (index === 3) controller.abort();
        return index === 1 ? run([hop(1), hop(2)]) : run([hop(1), hop(2, `${options.destination}`, 1)]);
      },
    });
    const argv = ['-w', '--interval', '100', '-m', '9', 'target.example'];
    await ran(traceProgram, argv, { engine, signal: controller.signal });
    expect(engine.runs.map((options) => options.maxTtl)).toEqual([9, 2, 9, 2]);
  });

  it('leaves out private hops', async () => {
    const engine = new FakeEngine({
      run: async (options) => run([hop(1, '10.0.0.1', 1), hop(2, `${options.destination}`, 2)]),
    });
    const { out } = await ran(traceProgram, ['--skip-private-hops', '--csv', 'target.example', ...FEW], { engine });
    expect(out).not.toContain('10.0.0.1');
    const screen = new Screen(80);
    await ran(traceProgram, ['--skip-private-hops', 'target.example', ...FEW], { engine, terminal: screen });
    expect(screen.lines[2]).toMatch(/^ {2}1 \(private\)/);
  });

  it.each<[string[], string]>([
    [[], 'accepts 1 arg(s), received 0'],
    [['a', 'b'], 'accepts 1 arg(s), received 2'],
    [['--nope', 'h'], 'unknown flag: --nope'],
    [['-P', 'sctp', 'h'], 'unknown protocol: "sctp"'],
    [['h:http'], 'invalid target: "h:http": malformed port'],
    [['-m', '256', 'h'], 'invalid max TTL: 256 (1 to 255)'],
    [['--csv', '--dot', 'h'], 'only one of --csv, --dot'],
    [['--csv', '--watch', 'h'], '--watch does not go with --csv'],
    [['-w', '--interval', '5', 'h'], '--interval is at least 100'],
  ])('%j is wrong usage: %s', async (argv, message) => {
    const { status, out, err } = await ran(traceProgram, argv);
    expect([status, out]).toEqual([2, '']);
    expect(err).toBe(`sallyport: ${message}\n(sallyport trace --help tells more)\n`);
  });

  it('fails with one line', async () => {
    const engine = new FakeEngine({ run: () => Promise.reject(traceError('DENIED', 'operation not permitted')) });
    const { status, err } = await ran(traceProgram, ['target.example'], { engine });
    expect([status, err]).toEqual([
      1,
      'sallyport: could not generate udp traceroute results: operation not permitted\n',
    ]);
  });

  it('has its help within 100 columns', async () => {
    const { status, out } = await ran(traceProgram, ['--help']);
    expect(status).toBe(0);
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
    for (const flag of ['--multipath', '--watch', '--json', '--source-public-ip']) expect(out).toContain(flag);
  });
});

describe('datadog-traceroute', () => {
  it('prints JSON on a terminal too', async () => {
    const { status, out } = await ran(datadogTraceroute, ['target.example', '--proto', 'tcp', '-p', '443', ...FEW], {
      terminal: new Screen(80),
    });
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ protocol: 'tcp', destination: { hostname: 'target.example', port: 443 } });
  });

  it.each<[string[], string]>([
    [[], 'Error: accepts 1 arg(s), received 0'],
    [['--json', 'h'], 'Error: unknown flag: --json'],
    [['-P', 'UDP', 'h'], 'Error: failed to run traceroute: unknown protocol: "UDP"'],
    [
      ['nowhere.example'],
      'Error: failed to run traceroute: failed to resolve host "nowhere.example": lookup nowhere.example: no such host',
    ],
  ])('%j: %s, the usage, exit status 1', async (argv, message) => {
    const { status, out, err } = await ran(datadogTraceroute, argv);
    expect([status, out, err.split('\n')[0]]).toEqual([1, '', message]);
    expect(err).toContain('\nUsage:\n  datadog-traceroute [target] [flags]\n');
  });

  it('knows its version and its help', async () => {
    expect((await ran(datadogTraceroute, ['version'])).out).toMatch(
      /^Version: .* - Commit: .* - Build Date: .* - Go Version: .*\n$/,
    );
    for (const argv of [['help'], ['--help'], ['-h']]) {
      const { status, out } = await ran(datadogTraceroute, argv);
      expect([status, out.includes('-Q, --e2e-queries int')]).toEqual([0, true]);
    }
  });

  it('logs only when told', async () => {
    expect((await ran(datadogTraceroute, ['target.example', ...FEW])).err).toBe('');
    expect((await ran(datadogTraceroute, ['-v', 'target.example', ...FEW])).err).toContain(
      'run 0: ttl 2: 198.51.100.2',
    );
  });
});

describe('the trace server’s command', () => {
  const asOurs: Program = (argv, machine) => traceServerProgram(argv, machine, false);
  const asDatadog: Program = (argv, machine) => traceServerProgram(argv, machine, true);

  it.each([
    ['127.0.0.1:3765', '127.0.0.1', 3_765],
    ['[::1]:1', '::1', 1],
    [':3765', '', 3_765],
    ['localhost:0', 'localhost', 0],
  ])('listens on %s', (text, host, port) => {
    expect(parseListen(text)).toEqual({ host, port });
  });

  it.each(['3765', '127.0.0.1', '::1:3765', ':x', ':65536', ''])('cannot listen on %j', (text) => {
    expect(() => parseListen(text)).toThrow(expect.objectContaining({ code: 'FLAG_SYNTAX' }));
  });

  it.each([
    [['-l', 'INFO'], 'invalid log level: "INFO" (valid levels: error, warn, info, debug, trace)'],
    [['--token-file', '/nonexistent'], 'cannot read the token file /nonexistent'],
    [['--concurrency', '0'], '--concurrency is at least 1'],
    [['what'], 'unknown command "what"'],
  ])('%j is wrong usage', async (argv, message) => {
    const { status, err } = await ran(asOurs, argv);
    expect([status, err]).toEqual([2, `sallyport: ${message}\n`]);
  });

  it('is the other tool’s under its name', async () => {
    const { status, err } = await ran(asDatadog, ['--log-level', 'loud']);
    expect(status).toBe(1);
    expect(err).toMatch(
      /^Error: invalid log level: "loud" \(valid levels: error, warn, info, debug, trace\)\nUsage:\n/,
    );
    expect((await ran(asDatadog, ['--token-file', 'x'])).err).toMatch(/^Error: unknown flag: --token-file\n/);
  });
});
