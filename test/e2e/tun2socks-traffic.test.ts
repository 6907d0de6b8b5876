/**
 * `sallyport tun2socks` with its resolver, rules and captures: curl and dig against servers of the laboratory.
 *
 *   user (tun2socks, programs) ── 10.1.0.0/24 ── net (10.50.0.1: HTTP; 10.1.0.2: name server)
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Tun2socksThreadStatus } from '../../src/tun2socks/thread-protocol.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { startDns, startHttp } from '../lab/services.js';
import { Role } from './role.js';

describe.skipIf(Lab.unavailable() !== undefined)('tun2socks: names, rules, captures', () => {
  let lab: Lab;
  let user: Host;
  let role: Role;
  const folder = mkdtempSync(join(tmpdir(), 'tun2socks-traffic-'));
  const dir = join(folder, 'state');

  beforeAll(async () => {
    lab = new Lab();
    user = lab.host('user');
    const net = lab.router('net');
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

  const start = async (...argv: string[]): Promise<void> => {
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
    role.start();
    await role.waitForLog('tun2socks started');
  };
  const curl = async (url: string, ...argv: string[]) => {
    const code = ['-w', '%{http_code} %{remote_ip} %{errormsg}', '-o', '/dev/null'];
    return (await user.exec(['curl', '-sS', '--max-time', '5', ...code, ...argv, url], { check: false })).stdout;
  };
  const dig = async (...argv: string[]) =>
    (await user.exec(['dig', '+short', '+tries=1', '+time=3', ...argv], { check: false })).stdout.trim();

  it('answers DNS at the address after its own, over UDP and TCP, and judges flows by name', async () => {
    const capture = join(folder, 'packets.pcapng');
    const rules = ['--rule', 'reject suffix=bad.example', '--rule', 'block cidr=10.50.0.9/32'];
    await start('--dns-mode', 'forward', '--pcap', capture, ...rules);
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

  it('dials by name what has a fake address', async () => {
    await start('--dns-mode', 'fake-ip');
    expect(await dig('@10.83.0.2', 'www.example', 'A')).toMatch(/^10\.126\.0\.\d+$/);
    expect(await curl('http://www.example:8080/bytes/10?seed=1')).toMatch(
      /^200 (10\.126\.0\.\d+|fd53:616c:6c79:126::)/,
    );
    expect(await curl('http://10.126.200.200:8080/bytes/10?seed=1')).toMatch(/^000/);
  });
});
