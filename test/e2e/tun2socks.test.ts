/**
 * `sallyport tun2socks` with real programs: curl, ping, datagrams, in both families, directly and through proxies; refusals; and
 * what is left of routes and resolver when it ends in any way.
 *
 *   user (tun2socks, programs) ── 10.1.0.0/24, fd01::/64 ── net (10.50.0.1, fd50::1: servers, proxies)
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FlowInfo } from '../../src/engine/flow-list.js';
import type { Tun2socksThreadStatus } from '../../src/tun2socks/thread-protocol.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { pollUntil } from '../lab/process.js';
import { contentHash } from '../lab/programs/content.mjs';
import { program, REPOSITORY, startHttp, startQuicFile, startUdpEcho } from '../lab/services.js';
import { quicKeys } from '../quic/harness.js';
import { Role, sallyport } from './role.js';
import { CURL } from './transfer.js';
import { tun2socksHosts } from './tun2socks-hosts.js';

const BYTES = 3_000_000;
const hosts = { 4: '10.50.0.1', 6: '[fd50::1]' } as const;

describe.skipIf(Lab.unavailable() !== undefined)('tun2socks', () => {
  let lab: Lab;
  let user: Host;
  let net: Host;
  let role: Role;
  const folder = mkdtempSync(join(tmpdir(), 'tun2socks-'));
  const dir = join(folder, 'state');

  beforeAll(async () => {
    lab = new Lab();
    ({ user, net } = tun2socksHosts(lab, '10.1.0.99'));
    await startHttp(net);
    for (const address of ['10.50.0.1', 'fd50::1']) await startUdpEcho(net, { address });
    const socks = net.spawn(['microsocks', '-i', '10.1.0.2', '-p', '1080', '-u', 'alice', '-P', 'secret']);
    const settings = join(folder, 'tinyproxy.conf');
    writeFileSync(settings, 'Port 8118\nListen 10.1.0.2\nTimeout 60\nMaxClients 20\n');
    const http = net.spawn(['tinyproxy', '-d', '-c', settings]);
    await Promise.all([socks.waitForPort('tcp', 1080), http.waitForPort('tcp', 8118)]);
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
    role = new Role('tun2socks', user, dir, ['tun2socks', '--tun', 't2s0', '--dir', dir, ...argv]);
    role.start();
    await role.waitForLog('tun2socks started');
  };
  const curl = (url: string, ...argv: string[]) =>
    user.exec(['curl', '-sS', '--max-time', '30', ...argv, url], { check: false });
  const download = async (family: 4 | 6): Promise<void> => {
    const { stdout } = await curl(
      `http://${hosts[family]}:8080/bytes/${BYTES}?seed=3`,
      '-D',
      '-',
      '-o',
      join(folder, 'got'),
    );
    expect(stdout).toContain(contentHash(3, BYTES));
    expect(readFileSync(join(folder, 'got')).length).toBe(BYTES);
  };
  const upload = async (family: 4 | 6): Promise<void> => {
    const { stdout } = await curl(`http://${hosts[family]}:8080/hash`, '-T', join(folder, 'got'));
    expect(JSON.parse(stdout)).toEqual({ bytes: BYTES, sha256: contentHash(3, BYTES) });
  };
  const routesOfDevice = (): string =>
    `${user.ip('route', 'show', 'proto', '83')}${user.ip('-6', 'route', 'show', 'proto', '83')}`.trim();
  const resolvConf = async (): Promise<string> => (await user.exec(['cat', '/etc/resolv.conf'])).stdout;

  /** Datagrams for which the server's socket had no room. */
  const receiveErrors = async (): Promise<number> => {
    const { stdout } = await net.exec(['cat', '/proc/net/snmp']);
    const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Udp:'));
    return Number(values!.split(' ')[names!.split(' ').indexOf('RcvbufErrors')]);
  };

  it.each([4, 6] as const)(
    'directly, IPv%i: streams both ways, datagrams of every size, echo, refusals',
    async (family) => {
      await start('--direct', '--routes');
      await download(family);
      await upload(family);
      const bare = hosts[family].replace(/[[\]]/g, '');
      const echo = program('udp-client', bare, '7', '--count', '20', '--size', '3000', '--gap', '0');
      expect(JSON.parse((await user.exec(echo)).stdout)).toMatchObject({ sent: 20, received: 20 });
      await user.exec(['ping', '-c', '2', '-i', '0.2', '-W', '5', bare]);
      const refused = await curl(`http://${hosts[family]}:9/`);
      expect(refused.code).toBe(CURL.cannotConnect);
      // The far end sees this host, not the device.
      const peer = await curl(`http://${hosts[family]}:8080/peer`);
      expect(JSON.parse(peer.stdout)).toMatchObject({ address: family === 4 ? '::ffff:10.1.0.1' : 'fd01::1' });
      const { metrics, flowList } = await role.status<Tun2socksThreadStatus>();
      expect(metrics.values).toMatchObject({ 'dial_errors{kind=refused}': 1, retransmits: 0, hook_errors: 0 });
      const echoed = flowList.find(({ destination }) => destination === `${hosts[family]}:7`);
      const port = expect.stringMatching(family === 4 ? /^10\.83\.0\.1:\d+$/ : /^\[fd53:616c:6c79::1\]:\d+$/);
      const bytes = 20 * 3000;
      expect(echoed).toEqual({
        protocol: 'udp',
        state: 'open',
        source: port,
        destination: `${hosts[family]}:7`,
        name: '',
        sendPaused: false,
        bytesIn: bytes,
        bytesOut: bytes,
      });
      const text = await user.exec(sallyport('metrics', '--dir', dir));
      expect(text.stdout).toContain('sallyport_engine_dial_errors_total{kind="refused"} 1');
      expect((await user.exec(sallyport('status', '--dir', dir))).stdout).toContain('tun2socks on t2s0, direct');
    },
  );

  it('a burst of datagrams on many flows: what does not arrive is counted', async () => {
    await start('--direct', '--routes');
    const script = join(REPOSITORY, 'bench', 'programs', 'udp-storm.mjs');
    const server = net.spawn([process.execPath, script, 'server', '9'], { interactive: true });
    await server.waitForLine(/^listening/);
    const missedBefore = await receiveErrors();
    const argv = ['send', hosts[4], '9', '--flows', '100', '--count', '1000'];
    const { stdout } = await user.exec([process.execPath, script, ...argv]);
    const { sent } = JSON.parse(stdout) as { readonly sent: number };
    expect(sent).toBe(100_000);
    const account = async (): Promise<{ received: number; counted: number }> => {
      const { metrics } = await role.status<Tun2socksThreadStatus>();
      const lost = Object.entries(metrics.values).filter(
        ([name]) => name.startsWith('backpressure_drops') || name.startsWith('drops{') || name === 'udp_send_errors',
      );
      const lines = server.stdout.split('\n').filter((line) => line.startsWith('{'));
      const counts = lines.map((line) => (JSON.parse(line) as { readonly received: number }).received);
      const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
      const counted = sum(lost.map(([, value]) => value)) + (await receiveErrors()) - missedBefore;
      return { received: sum(counts), counted };
    };
    let found = { received: 0, counted: 0 };
    await pollUntil('every datagram to be accounted for', async () => {
      server.write('\n');
      found = await account();
      return found.received + found.counted >= sent;
    });
    const { received, counted } = found;
    expect(received).toBeGreaterThan(0);
    // A few packets of the kernel's own (neighbours, multicast) are among what is dropped.
    expect(received + counted - sent).toBeLessThan(100);
  });

  it.each([4, 6] as const)('QUIC, IPv%i: a download arrives whole and is known for what it is', async (family) => {
    const keys = join(folder, 'keys.json');
    writeFileSync(keys, JSON.stringify(await quicKeys()));
    const at = `${hosts[family]}:4433`;
    await start('--direct', '--routes', '--log-level', 'debug');
    await startQuicFile(net, at, keys);
    const argv = program('quic-file', 'get', at, '--keys', keys, '--bytes', String(2 * BYTES), '--seed', '5');
    const got = JSON.parse((await user.exec(argv)).stdout);
    expect(got).toMatchObject({ bytes: 2 * BYTES, sha256: contentHash(5, 2 * BYTES) });
    // The largest packet that passes the device was found, so nothing was cut up.
    expect(got.mtu).toBeGreaterThan(1300);
    const { metrics } = await role.status<Tun2socksThreadStatus>();
    expect(metrics.values).toMatchObject({ 'flow_names{source=quic}': 1, udp_send_errors: 0, hook_errors: 0 });
  });

  it('through a SOCKS 5 proxy with a password: TCP; the proxy itself stays outside', async () => {
    await start('--proxy', 'socks5://alice:secret@10.1.0.2', '--routes');
    await download(4);
    await upload(4);
    const peer = await curl('http://10.50.0.1:8080/peer');
    expect(JSON.parse(peer.stdout)).toMatchObject({ address: '::ffff:10.50.0.1' });
    expect((await curl('http://10.50.0.1:9/')).code).toBe(CURL.cannotConnect);
    expect(user.ip('route', 'get', '10.1.0.2')).not.toContain('t2s0');
    expect((await role.status<Tun2socksThreadStatus>()).way).toBe('socks5');
  });

  it('a wrong password is a connection that cannot be made, at once', async () => {
    await start('--proxy', 'socks5://alice:wrong@10.1.0.2', '--routes');
    expect((await curl('http://10.50.0.1:8080/peer')).code).toBe(CURL.cannotConnect);
    const { metrics } = await role.status<Tun2socksThreadStatus>();
    expect(metrics.values['dial_errors{kind=blocked}']).toBeGreaterThan(0);
  });

  it('through an HTTP proxy: TCP; datagrams are refused', async () => {
    await start('--proxy', 'http://10.1.0.2:8118', '--routes');
    await download(4);
    const echo = program('udp-client', '10.50.0.1', '7', '--count', '1', '--gap', '0');
    await user.exec(echo, { check: false });
    const { metrics } = await role.status<Tun2socksThreadStatus>();
    expect(metrics.values['dial_errors{kind=unsupported}']).toBeGreaterThan(0);
  });

  it('routes and resolver come back: in an orderly end, and with the next start after a kill', async () => {
    const before = [routesOfDevice(), await resolvConf()];
    await start('--direct', '--routes', '--exclude', '10.60.0.0/16', '--dns', '10.83.0.2');
    expect(await resolvConf()).toContain('nameserver 10.83.0.2');
    expect(user.ip('route', 'get', '10.50.0.1')).toContain('dev t2s0');
    for (const outside of ['10.60.1.1', '10.1.0.2', '224.0.0.251']) {
      expect(user.ip('route', 'get', outside), outside).not.toContain('dev t2s0');
    }
    await role.stop();
    expect([routesOfDevice(), await resolvConf()]).toEqual(before);
    expect(role.leftovers).toEqual([]);

    await start('--direct', '--include', '10.50.0.0/24', '--dns', '10.83.0.2', '--interface', 'to-net');
    await role.kill();
    expect(await resolvConf()).toContain('nameserver 10.83.0.2');
    expect(existsSync(join(dir, 'network.journal'))).toBe(true);
    await start('--direct', '--include', '10.50.0.0/24');
    expect(await resolvConf()).toBe(before[1]);
    expect(routesOfDevice()).toBe('10.50.0.0/24 dev t2s0 scope link');
    await download(4);
    await role.stop();
    expect([routesOfDevice(), await resolvConf()]).toEqual(before);
  });

  it('another network: sockets leave by it, what is dialled goes on, connections of the old one are reset', async () => {
    lab.link({ host: user, addresses: ['10.2.0.1/24'], device: 'other' }, { host: net, addresses: ['10.2.0.2/24'] });
    await start('--direct', '--routes');
    const slow = curl('http://10.50.0.1:8080/slow/30000', '--max-time', '30');
    const isAsked = ({ bytesIn }: FlowInfo): boolean => bytesIn > 0;
    const { flows, flowList } = await role.waitForStatus<Tun2socksThreadStatus>('a flow that has asked', (status) =>
      status.flowList.some(isAsked),
    );
    expect([flows.tcp, flowList.length]).toEqual([1, 1]);
    expect(flowList[0]).toMatchObject({
      protocol: 'tcp',
      state: 'open',
      destination: '10.50.0.1:8080',
      sendPaused: false,
    });
    user.ip('route', 'replace', 'default', 'via', '10.2.0.2');
    try {
      await role.waitForLog('the way out has changed', (line) => line['interface'] === 'other');
      expect((await slow).code).toBe(CURL.receiveFailed);
      const peer = await curl('http://10.50.0.1:8080/peer');
      expect(JSON.parse(peer.stdout)).toMatchObject({ address: '::ffff:10.2.0.1' });
      const { metrics } = await role.status<Tun2socksThreadStatus>();
      expect(metrics.values['path_changes']).toBe(1);
    } finally {
      user.ip('route', 'replace', 'default', 'via', '10.1.0.2');
    }
  });

  it('programs learn of the end: an open connection is reset', async () => {
    await start('--direct', '--routes');
    // A flow exists before its connection does, and only the connection can be reset.
    const slow = user.spawn(['curl', '-sv', '--max-time', '10', 'http://10.50.0.1:8080/slow/8000']);
    await slow.waitForLine(/^> GET /);
    const { status } = await role.stop();
    expect(status.code).toBe(0);
    expect((await slow.exited).code).toBe(CURL.receiveFailed);
  });

  it('without a default route there is no telling which way sockets leave: it does not start', async () => {
    const alone = lab.host('alone');
    const argv = sallyport('tun2socks', '--dir', dir, '--direct', '--routes');
    const { code, stderr } = await alone.exec(argv, { check: false });
    expect([code, stderr]).toEqual([1, expect.stringContaining('--interface')]);
  });

  it.each([
    [['--direct', '--proxy', 'socks5://x'], 'one of --direct and --proxy'],
    [[], 'one of --direct and --proxy'],
    [['--proxy', 'ftp://x'], 'proxy = "ftp://x"'],
    [['--direct', '--address', '203.0.113.1/24'], 'private or shared'],
    [['--direct', '--mtu', '500'], '1280 to 65535'],
    [['--direct', '--udp-filtering', 'none'], 'endpoint-independent'],
  ])('%j is refused: %s', async (argv, said) => {
    const { code, stderr } = await user.exec(sallyport('tun2socks', '--dir', dir, ...argv), { check: false });
    expect([code, stderr]).toEqual([2, expect.stringContaining(said)]);
  });
});
