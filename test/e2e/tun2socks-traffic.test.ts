/**
 * `sallyport tun2socks` with its resolver, rules and captures: curl and dig against servers of the laboratory.
 *
 *   user (tun2socks, programs) ── 10.1.0.0/24 ── net (10.50.0.1: HTTP; 10.1.0.2: name server)
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { wallAt } from '../../src/base/time.js';
import type { Tun2socksThreadStatus } from '../../src/tun2socks/thread-protocol.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { REPOSITORY, startDns, startHttp } from '../lab/services.js';
import { authority } from '../quic/harness.js';
import { Role, sallyport } from './role.js';

describe.skipIf(Lab.unavailable() !== undefined)('tun2socks: names, rules, captures', () => {
  let lab: Lab;
  let user: Host;
  let net: Host;
  let role: Role;
  const folder = mkdtempSync(join(tmpdir(), 'tun2socks-traffic-'));
  const dir = join(folder, 'state');

  beforeAll(async () => {
    lab = new Lab();
    user = lab.host('user');
    net = lab.router('net');
    lab.link({ host: user, addresses: ['10.1.0.1/24'] }, { host: net, addresses: ['10.1.0.2/24'] });
    net.ip('address', 'add', '10.50.0.1/32', 'dev', 'lo');
    user.ip('route', 'add', 'default', 'via', '10.1.0.2');
    user.resolver('10.1.0.2');
    await startHttp(net);
    const zone = { 'www.example': ['10.50.0.1'], 'x.bad.example': ['10.50.0.1'] };
    await startDns(net, zone, { address: '10.1.0.2' });
  });
  afterAll(async () => {
    await lab?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(async (context) => {
    if (context.task.result?.state === 'fail') console.error(role.describe());
    if (role.process.running) await role.stop();
  });

  const start = async (argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<void> => {
    role = new Role('tun2socks', user, dir, [
      'tun2socks',
      '--tun',
      't2s0',
      '--dir',
      dir,
      '--direct',
      '--routes',
      ...argv,
    ]);
    role.start(env);
    await role.waitForLog('tun2socks started');
  };
  const curl = async (url: string, ...argv: string[]) => {
    const code = ['-w', '%{http_code} %{remote_ip} %{errormsg}', '-o', '/dev/null'];
    return (await user.exec(['curl', '-sS', '--max-time', '30', ...code, ...argv, url], { check: false })).stdout;
  };
  const dig = async (...argv: string[]) =>
    (await user.exec(['dig', '+short', '+tries=1', '+time=20', ...argv], { check: false })).stdout.trim();

  it('answers DNS at the address after its own, over UDP and TCP, and judges flows by name', async () => {
    const capture = join(folder, 'packets.pcapng');
    const rules = ['--rule', 'reject suffix=bad.example', '--rule', 'block cidr=10.50.0.9/32'];
    await start(['--dns-mode', 'forward', '--pcap', capture, ...rules]);
    expect((await user.exec(['cat', '/etc/resolv.conf'])).stdout).toContain('nameserver 10.83.0.2');
    expect(await dig('@10.83.0.2', 'www.example', 'A')).toBe('10.50.0.1');
    expect(await dig('@10.83.0.2', '+tcp', 'www.example', 'A')).toBe('10.50.0.1');
    expect(await dig('@10.83.0.2', 'nothing.test', 'A')).toBe('');
    expect(await curl('http://www.example:8080/bytes/10?seed=1')).toMatch(/^200 10\.50\.0\.1/);
    expect(await curl('http://x.bad.example:8080/bytes/10?seed=1')).toMatch(/^000 .*(refused|connect)/i);
    const { rules: hits, dns, metrics } = await role.status<Tun2socksThreadStatus>();
    expect(hits[0]).toMatchObject({ rule: 'reject suffix=bad.example', hits: 1 });
    expect(dns).toMatchObject({ mode: 'forward', outstanding: 0 });
    expect(metrics.values['dns{event=answers}']).toBeGreaterThan(0);
    await role.stop();
    expect(statSync(capture).mode & 0o777).toBe(0o600);
    const { stdout } = await user.exec([
      'tcpdump',
      '-nn',
      '-r',
      capture,
      'tcp port 8080 and tcp[tcpflags] & tcp-syn != 0',
    ]);
    expect(stdout).toContain('> 10.50.0.1.8080: Flags [S]');
  });

  it('takes other rules while flows are open, all of a file or none, and tells at level trace what is counted', async () => {
    const file = join(folder, 'rules');
    const reload = () => user.exec(sallyport('reload', '--dir', dir), { check: false });
    const megabyte = 1_000_000;
    const wget = (count: number) => curl(`http://10.50.0.1:8080/bytes/${count}?seed=1`);
    writeFileSync(file, '# slow\nshape port=8080 rate=800kbit\n');
    await start(['--rules', file, '--log-level', 'trace']);
    const slow = curl(`http://10.50.0.1:8080/bytes/${4 * megabyte}?seed=1`, '--max-time', '20');
    await role.waitForStatus<Tun2socksThreadStatus>('a flow that is held back', ({ flowList }) =>
      flowList.some(({ bytesOut }) => bytesOut > 20_000),
    );
    writeFileSync(file, 'allow\nreject prot=1\n');
    expect((await reload()).stderr).toContain(`${file}:2:`);
    const { rules: kept, flows } = await role.status<Tun2socksThreadStatus>();
    expect([kept, flows.tcp]).toEqual([[{ rule: 'shape port=8080 rate=800kbit', hits: 1 }], 1]);
    // 40 s at the old rate; now as fast as it goes.
    writeFileSync(file, 'reject port=8081\n'.repeat(700));
    expect((await reload()).code).toBe(0);
    expect(await slow).toMatch(/^200 /);
    writeFileSync(file, 'reject port=8080\n');
    expect((await reload()).code).toBe(0);
    expect(await wget(10)).toMatch(/^000 /);
    await role.waitForLog('counters');
  });

  it('dials by name what has a fake address', async () => {
    await start(['--dns-mode', 'fake-ip']);
    expect(await dig('@10.83.0.2', 'www.example', 'A')).toMatch(/^10\.126\.0\.\d+$/);
    expect(await curl('http://www.example:8080/bytes/10?seed=1')).toMatch(
      /^200 (10\.126\.0\.\d+|fd53:616c:6c79:126::)/,
    );
    expect(await curl('http://10.126.200.200:8080/bytes/10?seed=1')).toMatch(/^000/);
  });

  it('asks a name server over TLS or HTTPS whose certificate leads to a trusted root, and nobody else; holds flows back', async () => {
    const ca = await authority('laboratory');
    const day = 86_400_000;
    const dates = { from: wallAt(Date.now() - day), to: wallAt(Date.now() + day) };
    const { certificate, key } = await ca.issue('dns.example', ['server'], dates);
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const script = join(REPOSITORY, 'test', 'lab', 'programs', 'dot-server.mjs');
    const files = [file('certificate.pem', certificate), file('key.pem', key)];
    const server = net.spawn([process.execPath, script, '10.1.0.2', '853', '443', ...files, '10.1.0.2']);
    await server.waitFor('listening', {}, () => (server.stdout.includes('listening') ? true : undefined));
    const argv = ['--dns-mode', 'hijack', '--dns-server', 'tls://10.1.0.2#dns.example'];
    const rules = ['--rule', 'shape port=8080 rate=8mbit delay=20ms'];
    await start([...argv, ...rules], { NODE_EXTRA_CA_CERTS: file('ca.pem', ca.pem) });
    expect(await dig('www.example', 'A')).toBe('10.50.0.1');
    expect(await curl('http://www.example:8080/bytes/300000?seed=1')).toMatch(/^200 10\.50\.0\.1/);
    const { metrics } = await role.status<Tun2socksThreadStatus>();
    expect(metrics.values).toMatchObject({ 'dns{event=tls_opened}': 1, flows_shaped: 1 });
    await role.stop();
    const overHttps = ['--dns-mode', 'hijack', '--dns-server', 'https://10.1.0.2/dns-query#dns.example'];
    await start(overHttps, { NODE_EXTRA_CA_CERTS: file('ca.pem', ca.pem) });
    const names = Array.from({ length: 20 }, (_, i) => `n${i}.nothing.test`);
    expect(await Promise.all(['www.example', ...names].map((name) => dig(name, 'A')))).toEqual([
      '10.50.0.1',
      ...names.map(() => ''),
    ]);
    const { metrics: https } = await role.status<Tun2socksThreadStatus>();
    expect(https.values).toMatchObject({ 'dns{event=tls_opened}': 1, 'dns{event=answers}': 21 });
    expect(https.values['dns{event=timeouts}'] ?? 0).toBe(0);
    await role.stop();
    await start(argv);
    expect(await dig('www.example', 'A')).toBe('');
    const { metrics: untrusting } = await role.status<Tun2socksThreadStatus>();
    expect(untrusting.values['dns{event=tls_untrusted}']).toBeGreaterThan(0);
    expect(untrusting.values['dns{event=tls_opened}']).toBeUndefined();
  });
});
