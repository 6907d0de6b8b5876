/**
 * Proxy mode beyond TCP tunnels, on the real programs: datagrams through SOCKS 5 and through forwards, plain HTTP requests, IPv6
 * listeners, and who may use them.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ExecResult, Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { program, startDns, startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';
import { type Role, sallyport } from './role.js';

const BACKEND = ADDRESSES.backend.v4;
const BACKEND6 = `[${ADDRESSES.backend.v6}]`;
const PASSWORD = ['--proxy-user', 'ann:a secret'];

describe.skipIf(Lab.unavailable() !== undefined)('proxy mode beyond tunnels', () => {
  let network: Network;
  let agent: Role;
  let user: Host;

  beforeAll(async () => {
    network = await Network.make({
      services: {
        web: `tcp://${BACKEND}:8080`,
        other: `tcp://${BACKEND6}:8081`,
        echo: `udp://${BACKEND}:7`,
        names: `udp://${BACKEND6}:53`,
      },
      agent: false,
    });
    const { backend } = network.topology;
    await startHttp(backend);
    await startHttp(backend, { port: 8081 });
    await startUdpEcho(backend);
    await startDns(backend, { 'box.example': ['192.0.2.7', '2001:db8::7'] });
    user = network.topology.user;
    agent = await network.newAgent('alice', user, [
      ...['--mode', 'proxy', '--socks', '[::1]:1080'],
      ...['--forward', 'udp://127.0.0.1:5300=names', '--forward', 'udp://[::1]:5300=names:53'],
      ...['--forward', 'udp://127.0.0.1:7000=echo', '--forward', '[::1]:9000=other:8081'],
    ]);
    await network.startAgent(agent);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const curl = (...argv: readonly string[]): Promise<ExecResult> =>
    user.exec(['curl', '-sS', '--max-time', '30', ...argv], { check: false });
  /** Sends numbered datagrams to an echo service and reads what came back. */
  const udp = async (...argv: readonly string[]): Promise<{ sent: number; received: number; corrupted: number }> =>
    JSON.parse((await user.exec(program('udp-client', ...argv))).stdout);

  it('shows its listeners', async () => {
    const { device } = await agent.status<AgentThreadStatus>();
    expect(device.listeners.map((one) => `${one.kind} ${one.address}`)).toEqual([
      'socks [::1]:1080',
      'http 127.0.0.1:8118',
      'udp-forward 127.0.0.1:5300',
      'udp-forward [::1]:5300',
      'udp-forward 127.0.0.1:7000',
      'forward [::1]:9000',
    ]);
  });

  it.each([
    ['echo', 'a name'],
    ['echo.lab.internal', 'a full name'],
    ['v4', 'an IPv4 address'],
    ['v6', 'an IPv6 address'],
  ])('echoes datagrams through SOCKS 5 to %s (%s)', async (target) => {
    const addresses = await network.virtual('echo');
    const host = target === 'v4' ? addresses.v4 : target === 'v6' ? addresses.v6 : target;
    const report = await udp(host, '7', '--socks', '[::1]:1080', '--count', '50', '--size', '900');
    expect(report).toMatchObject({ sent: 50, received: 50, corrupted: 0 });
  });

  it('echoes datagrams of many packets', async () => {
    const report = await udp('echo', '7', '--socks', '[::1]:1080', '--count', '3', '--size', '20000');
    expect(report).toMatchObject({ sent: 3, received: 3, corrupted: 0 });
  });

  it('sends no datagram to what is no service', async () => {
    const report = await udp('192.0.2.1', '7', '--socks', '[::1]:1080', '--count', '2', '--linger', '200');
    expect(report).toMatchObject({ sent: 2, received: 0 });
    const { counters } = await agent.status<AgentThreadStatus>();
    expect(counters['proxy.udp_not_allowed']).toBe(2);
  });

  it.each(['127.0.0.1', '::1'])('resolves names through a UDP forward on %s', async (server) => {
    const { stdout } = await user.exec([
      'dig',
      `@${server}`,
      '-p',
      '5300',
      '+short',
      '+tries=2',
      'box.example',
      'AAAA',
    ]);
    expect(stdout.trim()).toBe('2001:db8::7');
  });

  it('echoes through a UDP forward', async () => {
    expect(await udp('127.0.0.1', '7000', '--count', '50')).toMatchObject({ received: 50, corrupted: 0 });
  });

  it('serves plain requests for different hosts on one connection', async () => {
    const urls = [
      'http://web:8080/bytes/1000',
      'http://other.lab.internal:8081/bytes/2000',
      'http://web:8080/bytes/10',
    ];
    const each = urls.flatMap((url) => ['-o', '/dev/null', url]);
    const { stdout } = await curl(
      '-x',
      'http://127.0.0.1:8118',
      '-w',
      '%{http_code} %{size_download} %{num_connects}\n',
      ...each,
    );
    expect(stdout.trim().split('\n')).toEqual(['200 1000 1', '200 2000 0', '200 10 0']);
  });

  it('downloads a large file by a plain request', async () => {
    const bytes = 20 * 1024 * 1024;
    const script = 'curl -sSf --max-time 60 -x http://127.0.0.1:8118 "$1" | sha256sum';
    const { stdout } = await user.exec(['sh', '-c', script, 'sh', `http://web:8080/bytes/${bytes}?seed=5`]);
    expect(stdout.slice(0, 64)).toBe(contentHash(5, bytes));
  });

  it('refuses plain requests to anything else, and says why', async () => {
    const { stdout } = await curl('-x', 'http://127.0.0.1:8118', '-w', '%{http_code}', 'http://example.com/');
    expect(stdout).toBe('example.com is not a service of lab; nothing else goes through this proxy\n403');
  });

  it('carries TCP through IPv6 listeners', async () => {
    expect((await curl('--socks5-hostname', '[::1]:1080', '-o', '/dev/null', 'http://web:8080/peer')).code).toBe(0);
    expect((await curl('-o', '/dev/null', 'http://[::1]:9000/peer')).code).toBe(0);
  });

  it('does not start when other machines reach a listener and nobody is allowed', async () => {
    const file = await network.inviteAgent('bob');
    const argv = ['agent', '--mode', 'proxy', '--join-file', file, '--dir', join(network.folder, 'bob')];
    const { code, stderr } = await user.exec(sallyport(...argv, '--socks', '0.0.0.0:1090', '--http', 'off'), {
      check: false,
    });
    expect(code).toBe(2);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toMatch(/socks listener 0\.0\.0\.0:1090.*--allow/);
  });

  it('lets in whom it is told to, with a password', async () => {
    const config = join(network.folder, 'carol.json');
    const address = ADDRESSES.user.v4;
    const joinFile = await network.inviteAgent('carol');
    const listeners = { socks: `${address}:1095`, http: `${address}:1096`, allow: [`${address}/32`] };
    writeFileSync(config, JSON.stringify({ joinFile, mode: 'proxy', ...listeners, users: { ann: 'a secret' } }));
    const carol = network.role('carol', user, ['agent', '--config', config]);
    const refused = await user.exec(sallyport('agent', '--config', config, '--dir', carol.dir), { check: false });
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('chmod 600') });
    chmodSync(config, 0o600);
    await network.startAgent(carol);
    const codes = async (...argv: readonly string[]): Promise<string> =>
      (await curl('-o', '/dev/null', '-w', '%{http_code}', ...argv, 'http://web:8080/peer')).stdout;
    expect(await codes('-x', `http://${address}:1096`)).toBe('407');
    expect(await codes('-x', `http://${address}:1096`, '--proxy-user', 'ann:wrong')).toBe('407');
    expect(await codes('-x', `http://${address}:1096`, ...PASSWORD)).toBe('200');
    expect(await codes('--socks5-hostname', `${address}:1095`)).toBe('000');
    expect(await codes('--socks5-hostname', `${address}:1095`, ...PASSWORD)).toBe('200');
    const stranger = await network.topology.net.exec(
      ['curl', '-sS', '-x', `http://${address}:1096`, 'http://web:8080/'],
      {
        check: false,
      },
    );
    expect(stranger.code).not.toBe(0);
    const { counters } = await carol.status<AgentThreadStatus>();
    expect(counters['proxy.clients_not_allowed']).toBe(1);
    await carol.stop();
  });
});
