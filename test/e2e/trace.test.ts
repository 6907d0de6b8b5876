/**
 * `sallyport trace` and `trace-server` as programs, over a chain of two routers with both address families, and under the names
 * of the tools they stand in for. The target's kernel limits its ICMP errors as it does by default.
 */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompatibleResult } from '../../src/trace/compatible.js';
import type { Host } from '../lab/host.js';
import { defaultRoutes, Lab } from '../lab/lab.js';
import { REPOSITORY } from '../lab/services.js';
import { sallyport } from './role.js';

const HOPS = {
  v4: ['192.0.2.2', '203.0.113.2', '198.51.100.2'],
  v6: ['2001:db8:1::2', '2001:db8:2::2', '2001:db8:3::2'],
};
const [node, program] = sallyport();

describe.skipIf(Lab.unavailable() !== undefined)('trace', () => {
  let lab: Lab;
  let user: Host;
  let folder: string;

  beforeAll(() => {
    lab = new Lab();
    folder = mkdtempSync(join(tmpdir(), 'spl-trace-'));
    user = lab.host('user');
    const [near, far, target] = [lab.router('near'), lab.router('far'), lab.host('target')];
    lab.link(
      { host: user, addresses: ['192.0.2.1/24', '2001:db8:1::1/64'] },
      { host: near, addresses: ['192.0.2.2/24', '2001:db8:1::2/64'] },
    );
    lab.link(
      { host: near, addresses: ['203.0.113.1/24', '2001:db8:2::1/64'] },
      { host: far, addresses: ['203.0.113.2/24', '2001:db8:2::2/64'] },
    );
    lab.link(
      { host: far, addresses: ['198.51.100.1/24', '2001:db8:3::1/64'] },
      { host: target, addresses: ['198.51.100.2/24', '2001:db8:3::2/64'] },
    );
    defaultRoutes(user, ['192.0.2.2', '2001:db8:1::2']);
    defaultRoutes(near, ['203.0.113.2', '2001:db8:2::2']);
    defaultRoutes(far, ['203.0.113.1', '2001:db8:2::1']);
    defaultRoutes(target, ['198.51.100.1', '2001:db8:3::1']);
  });
  afterAll(async () => {
    await lab?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  const trace = async (...argv: readonly string[]): Promise<CompatibleResult> => {
    const { stdout } = await user.exec(sallyport('trace', ...argv));
    return JSON.parse(stdout) as CompatibleResult;
  };
  const addresses = (result: CompatibleResult): string[][] =>
    result.traceroute.runs!.map((run) => run.hops.map((hop) => hop.ip_address));

  it.each([
    ['udp', 'v4'],
    ['udp', 'v6'],
    ['icmp', 'v4'],
    ['icmp', 'v6'],
    ['tcp', 'v4'],
    ['tcp', 'v6'],
  ] as const)('by %s over %s finds every hop, and no loss', async (protocol, family) => {
    const result = await trace('-P', protocol, HOPS[family].at(-1)!);
    expect(addresses(result)).toEqual([HOPS[family], HOPS[family], HOPS[family]]);
    expect(result.traceroute.hop_count).toEqual({ avg: 3, min: 3, max: 3 });
    // UDP too: the errors that the target stops sending are not taken for losses.
    expect(result.e2e_probe).toMatchObject({ packets_sent: 50, packets_received: 50, packet_loss_percentage: 0 });
  });

  it('draws the table on a terminal of 80 columns', async () => {
    const command = `stty cols 80 rows 24; exec ${sallyport('trace', '-Q', '5', '--reverse-dns=false', '--asn=false', HOPS.v4[2]!).join(' ')}`;
    const { stdout } = await user.exec(['script', '-qec', command, '/dev/null']);
    const last = stdout.slice(stdout.lastIndexOf('trace to ')).split('\r\n');
    expect(last[0]).toBe('trace to 198.51.100.2, udp port 33434');
    expect(last.slice(2, 5).map((line) => line.trim().split(/ +/).slice(0, 3))).toEqual(
      HOPS.v4.map((address, i) => [String(i + 1), address, '0%']),
    );
    for (const line of last) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('tells who it could not resolve, in one line', async () => {
    const { code, stdout, stderr } = await user.exec(sallyport('trace', 'nowhere.invalid'), { check: false });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^sallyport: failed to resolve host "nowhere\.invalid": [^\n]+\n$/);
  });

  it('works without privileges', async () => {
    const unprivileged = [
      'setpriv',
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      '--inh-caps=-all',
      '--bounding-set=-all',
    ];
    const { stdout } = await user.exec([
      ...unprivileged,
      ...sallyport('trace', '-q', '1', '-Q', '5', '--extended', HOPS.v4[2]!),
    ]);
    const result = JSON.parse(stdout) as CompatibleResult;
    expect(addresses(result)).toEqual([HOPS.v4]);
    expect(result.traceroute.runs![0]!['privilege']).toBe('unprivileged');
  });

  it('is datadog-traceroute under its name', async () => {
    const link = join(folder, 'datadog-traceroute');
    symlinkSync(program!, link);
    const { stdout } = await user.exec([node!, link, HOPS.v4[2]!, '--proto', 'icmp', '-q', '1', '-Q', '2']);
    expect(addresses(JSON.parse(stdout) as CompatibleResult)).toEqual([HOPS.v4]);
    const wrong = await user.exec([node!, link, '--nope'], { check: false });
    expect([wrong.code, wrong.stdout, wrong.stderr.split('\n')[0]]).toEqual([1, '', 'Error: unknown flag: --nope']);
  });

  it('is a library that streams hops and leaves nothing open', async () => {
    const script = `import { trace } from 'sallyport';
      const running = trace('${HOPS.v4[2]}', { protocol: 'icmp', queries: 1, endToEndQueries: 2 });
      const seen = new Set();
      for await (const step of running) if (step.kind === 'hop') for (const { from } of step.hop.replies) seen.add(from.toString());
      console.log([...seen].sort().join(' '), (await running).endToEnd.rtts.length);`;
    const { stdout } = await user.exec([node!, '--input-type=module', '-e', script], { cwd: REPOSITORY });
    expect(stdout.trim()).toBe(`${[...HOPS.v4].sort().join(' ')} 2`);
  });

  it('is served over HTTP, and the server ends with a signal', async () => {
    const link = join(folder, 'datadog-traceroute-server');
    symlinkSync(program!, link);
    for (const argv of [sallyport('trace-server', '--addr', '127.0.0.1:3765'), [node!, link]]) {
      const server = user.spawn(argv);
      await server.waitFor('ready', {}, () => (server.stderr.includes('trace server ready') ? true : undefined));
      const get = async (path: string): Promise<string> =>
        (await user.exec(['curl', '-sS', '--max-time', '60', `http://127.0.0.1:3765${path}`])).stdout;
      const result = JSON.parse(
        await get(`/traceroute?target=${HOPS.v4[2]}&protocol=icmp&e2e-queries=5`),
      ) as CompatibleResult;
      expect(addresses(result)).toEqual([HOPS.v4, HOPS.v4, HOPS.v4]);
      expect(JSON.parse(await get('/health')).status).toBe('healthy');
      expect(await get('/metrics')).toContain('sallyport_trace_runs_total 3');
      expect((await server.stop('SIGTERM')).code).toBe(0);
    }
  });
});
