/**
 * `sallyport tun2socks`, what waits until it is known: first bytes of TLS and QUIC whose name a rule refuses, which no server gets, and
 * answers after their time while no name server answers. curl, openssl, dig, and QUIC of this repository, in both families.
 *
 *   user (tun2socks, programs) ── 10.1.0.0/24, fd01::/64 ── net (10.50.0.1, fd50::1: servers)
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Tun2socksThreadStatus } from '../../src/tun2socks/thread-protocol.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { type LabProcess, pollUntil } from '../lab/process.js';
import { program, startDns, startQuicFile, startTcp } from '../lab/services.js';
import { quicKeys } from '../quic/harness.js';
import { Role } from './role.js';
import { tun2socksHosts } from './tun2socks-hosts.js';

const hosts = { 4: '10.50.0.1', 6: '[fd50::1]' } as const;
const NAME = 'secret.example';
/** Longer than a record of 512 bytes, with everything else in a ClientHello. */
const PROTOCOLS = Array.from({ length: 8 }, (_, i) => `${i}${'x'.repeat(99)}`).join(',');

describe.skipIf(Lab.unavailable() !== undefined)('tun2socks: what waits', () => {
  let lab: Lab;
  let user: Host;
  let net: Host;
  let role: Role;
  const folder = mkdtempSync(join(tmpdir(), 'tun2socks-waits-'));
  const dir = join(folder, 'state');

  beforeAll(() => {
    lab = new Lab();
    ({ user, net } = tun2socksHosts(lab, '10.1.0.2'));
  });
  afterAll(async () => {
    await lab?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(async (context) => {
    if (context.task.result?.state === 'fail') console.error(role.describe());
    if (role.process.running) await role.stop();
  });

  const start = async (...argv: readonly string[]): Promise<void> => {
    const common = ['--tun', 't2s0', '--dir', dir, '--direct', '--routes'];
    role = new Role('tun2socks', user, dir, ['tun2socks', ...common, ...argv]);
    role.start();
    await role.waitForLog('tun2socks started');
  };
  const values = async () => (await role.status<Tun2socksThreadStatus>()).metrics.values;

  describe('TLS', () => {
    let server: LabProcess;

    beforeAll(async () => {
      server = await startTcp(net, 'reset', { port: 443 });
    });

    /** How many bytes the server has got of each connection so far. */
    const got = (): number[] =>
      [...server.stdout.matchAll(/^closed \S+ \d+ (\d+)$/gm)].map(([, bytes]) => Number(bytes));
    /** Of one connection more. */
    const gotNext = async (connect: () => Promise<unknown>): Promise<number> => {
      const before = got().length;
      await connect();
      return server.waitFor('a closed connection', {}, () => got()[before]);
    };
    const curl = (family: 4 | 6, name: string) => () => {
      const there = ['--resolve', `${name}:443:${hosts[family]}`];
      return user.exec(['curl', '-sSk', '--max-time', '30', ...there, `https://${name}/`], { check: false });
    };
    const openssl = (name: string) => () => {
      const split = ['-max_send_frag', '512', '-alpn', PROTOCOLS];
      const argv = ['openssl', 's_client', '-connect', '10.50.0.1:443', '-servername', name, ...split];
      return user.exec(argv, { check: false });
    };

    it('of a name that a rule refuses no byte reaches the server, which another name does', async () => {
      await start('--rule', `reject host=${NAME}`);
      expect(await gotNext(curl(4, NAME))).toBe(0);
      expect(await gotNext(curl(6, NAME))).toBe(0);
      expect(await gotNext(openssl(NAME))).toBe(0);
      expect(await values()).toMatchObject({ 'tcp_holds{end=refused}': 3, 'rule_decisions{action=reject}': 3 });
      expect(await gotNext(curl(4, 'www.example'))).toBeGreaterThan(100);
      expect(await gotNext(curl(6, 'www.example'))).toBeGreaterThan(100);
      expect(await gotNext(openssl('www.example'))).toBeGreaterThan(512);
      expect(await values()).toMatchObject({ 'tcp_holds{end=refused}': 3, 'tcp_holds{end=gave_up}': 0 });
    });
  });

  it.each([4, 6] as const)('of QUIC whose name a rule refuses nothing reaches the server, IPv%i', async (family) => {
    const keys = join(folder, 'keys.json');
    writeFileSync(keys, JSON.stringify(await quicKeys()));
    const at = `${hosts[family]}:4433`;
    const get = program('quic-file', 'get', at, '--keys', keys, '--bytes', '100000');
    /** Datagrams that have come to the server's host. */
    const arrived = async (): Promise<number> => {
      const read = async (file: string) => (await net.exec(['cat', `/proc/net/${file}`])).stdout;
      const [names, counts] = (await read('snmp')).split('\n').filter((line) => line.startsWith('Udp:'));
      const v4 = Number(counts!.split(' ')[names!.split(' ').indexOf('InDatagrams')]);
      return v4 + Number(/Udp6InDatagrams\s+(\d+)/.exec(await read('snmp6'))![1]);
    };
    await startQuicFile(net, at, keys);
    await start('--rule', 'reject host=server.test');
    const before = await arrived();
    const client = user.spawn(get);
    await role.waitForStatus<Tun2socksThreadStatus>(
      'a refused flow',
      ({ metrics }) => metrics.values['udp_holds{end=refused}']! > 0,
    );
    expect(await arrived()).toBe(before);
    await client.stop();
    await role.stop();
    await start('--rule', 'reject host=other.test');
    expect(JSON.parse((await user.exec(get)).stdout)).toMatchObject({ bytes: 100_000 });
    expect(await values()).toMatchObject({ 'udp_holds{end=decided}': 1, 'udp_holds{end=refused}': 0 });
  });

  it('gives answers after their time when no name server answers, where asked to', async () => {
    const dns = await startDns(net, { 'www.example': ['10.50.0.1'] }, { address: '10.1.0.2', ttl: 1 });
    await start('--dns-mode', 'hijack', '--dns-stale', '3600');
    const dig = async (name: string): Promise<string> => {
      const argv = ['dig', '+tries=1', '+time=20', '+noall', '+comments', '+answer', name, 'A'];
      return (await user.exec(argv, { check: false })).stdout;
    };
    expect(await dig('www.example')).toMatch(/NOERROR.*www\.example\.\s+1\s+IN\s+A\s+10\.50\.0\.1/s);
    await dns.stop();
    await pollUntil('an answer after its time', async () =>
      /NOERROR.*www\.example\.\s+30\s+IN\s+A\s+10\.50\.0\.1/s.test(await dig('www.example')),
    );
    expect((await values())['dns{event=stale_answers}']).toBeGreaterThan(0);
    // Of what was never answered there is nothing to give.
    expect(await dig('other.example')).toContain('SERVFAIL');
  });
});
