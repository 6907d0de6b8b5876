/**
 * The agent of an unprivileged user: no TUN device, so SOCKS 5, HTTP CONNECT and a fixed forward lead to the services, and
 * nowhere else.
 */
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ExecResult } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';
import { type Role, sallyport } from './role.js';
import { CURL } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const NOBODY = 65_534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all', '--'];
const SOCKS = ['--socks5-hostname', '127.0.0.1:1080'];
const CONNECT = ['--proxytunnel', '-x', 'http://127.0.0.1:8118'];
const NAME = 'web.lab.internal:8080';
const LARGE = { bytes: 50 * 1024 * 1024, seed: 21 };

describe.skipIf(Lab.unavailable() !== undefined)('proxy mode', () => {
  let network: Network;
  let agent: Role;

  beforeAll(async () => {
    network = await Network.make({
      services: { web: `tcp://${BACKEND}:8080`, closed: `tcp://${BACKEND}:8099` },
      closedServices: { secret: `tcp://${BACKEND}:8080` },
      agent: false,
    });
    await startHttp(network.topology.backend);
    const forward = ['--forward', '127.0.0.1:9000=web:8080'];
    agent = await network.newAgent('alice', network.topology.user, forward, AS_NOBODY);
    chmodSync(network.folder, 0o755);
    mkdirSync(agent.dir, { mode: 0o700 });
    chownSync(agent.dir, NOBODY, NOBODY);
    await network.startAgent(agent);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const curl = (...argv: readonly string[]): Promise<ExecResult> =>
    network.topology.user.exec([...AS_NOBODY, 'curl', '-sS', '--max-time', '60', ...argv], { check: false });
  const hashOf = async (...argv: readonly string[]): Promise<string> => {
    const { bytes, seed } = LARGE;
    const [url, ...options] = argv as [string, ...string[]];
    const shell = ['sh', '-c', 'curl -sSf --max-time 60 "$@" | sha256sum', 'sh', ...options];
    const { stdout } = await network.topology.user.exec([...shell, `${url}/bytes/${bytes}?seed=${seed}`]);
    return stdout.slice(0, 64);
  };

  it('is what an agent without permission falls back to, and it says so in one line', async () => {
    const { device } = await agent.status<AgentThreadStatus>();
    expect(device.mode).toBe('proxy');
    expect(device.reason).toMatch(/permi|privilege|CAP_NET_ADMIN/i);
    const warnings = agent.log.filter((line) => line.level >= 40);
    expect(warnings.map((line) => line.msg)).toEqual([`no TUN device, running as a proxy: ${device.reason}`]);
    expect(device.listeners.map((one) => `${one.kind} ${one.address}`)).toEqual([
      'socks 127.0.0.1:1080',
      'http 127.0.0.1:8118',
      'forward 127.0.0.1:9000',
    ]);
    expect(network.topology.user.ip('-o', 'link', 'show')).not.toContain('sallyport');
  });

  it('is not what an agent falls back to that was told to use a device', async () => {
    const file = await network.inviteAgent('bob');
    const dir = join(network.folder, 'bob');
    mkdirSync(dir, { mode: 0o700 });
    chownSync(dir, NOBODY, NOBODY);
    const argv = [...AS_NOBODY, ...sallyport('agent', '--mode', 'tun', '--join-file', file, '--dir', dir)];
    const result = await network.topology.user.exec(argv, { check: false });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/permi|privilege|CAP_NET_ADMIN/i);
    expect(result.stderr.trim().split('\n')).toHaveLength(1);
  });

  it.each([
    ['SOCKS 5 with the name at the far end', `http://${NAME}`, SOCKS],
    ['HTTP CONNECT', `http://${NAME}`, CONNECT],
    ['a fixed forward', 'http://127.0.0.1:9000', []],
  ])('downloads a large file through %s', async (_what, url, options) => {
    expect(await hashOf(url, ...options)).toBe(contentHash(LARGE.seed, LARGE.bytes));
  });

  it('takes the virtual address too', async () => {
    const { v4 } = await network.virtual('web');
    expect(await hashOf(`http://${v4}:8080`, '--socks5', '127.0.0.1:1080')).toBe(contentHash(LARGE.seed, LARGE.bytes));
  });

  it('serves 50 clients at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () =>
        curl(
          '--parallel',
          '--parallel-max',
          '10',
          ...SOCKS,
          '-w',
          '%{http_code}\n',
          ...tenTimes(`http://${NAME}/peer`),
        ),
      ),
    );
    const codes = answers.flatMap((one) => one.stdout.split('\n').filter((line) => line === '200'));
    expect(codes).toHaveLength(50);
  });

  it.each([
    ['a name of the Internet', 'http://example.com/'],
    ['an address outside the network', `http://${ADDRESSES.relay.v4}:8443/`],
    ['a service that was not granted', 'http://secret.lab.internal:8080/'],
    ['a service that does not exist', 'http://nothing.lab.internal/'],
    ['another port of a service', 'http://web.lab.internal:22/'],
  ])('refuses %s', async (_what, url) => {
    expect((await curl(...SOCKS, url)).code).toBe(CURL.proxyFailed);
    const tunnel = await curl(...CONNECT, url);
    expect(tunnel.code).toBe(CURL.receiveFailed);
    expect(tunnel.stderr).toMatch(/40[34]/);
  });

  it('tells a refused connection from a forbidden one', async () => {
    const url = 'http://closed.lab.internal:8099/';
    expect((await curl(...CONNECT, url)).stderr).toMatch(/50[234]/);
    expect((await curl(...SOCKS, url)).code).toBe(CURL.proxyFailed);
  });
});

const tenTimes = (url: string): string[] => Array.from({ length: 10 }, () => ['-o', '/dev/null', url]).flat();
