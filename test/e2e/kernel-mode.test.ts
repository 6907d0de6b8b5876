/**
 * `--mode kernel` on the connector: services through the host's kernel over TCP, UDP and echo in both families, whole networks with
 * their real addresses, and what must not pass, counted at the receiver. What it changes on the host is gone after a stop and after
 * the start that follows a kill.
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Host, run } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { pollUntil } from '../lab/process.js';
import { program, startHttp, startIperf, startTcp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type ConnectorThreadStatus, Network } from './network.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend;
const DEVICE = 'sallyport1';
const TABLE = `sallyport_${DEVICE}`;

describe.skipIf(Lab.unavailable() !== undefined)('a connector in mode kernel', () => {
  let network: Network;
  let before: string;

  beforeAll(async () => {
    network = await Network.make({
      services: {
        web: `tcp://${BACKEND.v4}:8080`,
        web6: `tcp://[${BACKEND.v6}]:8080`,
        box: `any://${BACKEND.v4}`,
        box6: `any://[${BACKEND.v6}]`,
        own: 'tcp://127.0.0.1:9000',
        net: 'tcp://10.20.0.0/24',
        net6: 'tcp://fd00:20::/64',
        // Covers addresses of agents, as a prefix as wide as 0.0.0.0/1 would.
        wide: 'icmp://100.64.0.96/28',
      },
      closedServices: { shut: `tcp://${BACKEND.v4}:9999` },
      agent: false,
      // The service's host has a firewall of its own, which would have to let the device through to what is on this host.
      topology: { serviceClosed: false },
    });
    await network.connector.stop();
    before = state();
    await startKernelMode();
    await network.startAgent(await network.newAgent('alice', network.topology.user));
    const { backend, service } = network.topology;
    await Promise.all([
      startHttp(backend),
      startIperf(backend),
      startUdpEcho(backend),
      startHttp(service, { port: 9000, address: '127.0.0.1' }),
    ]);
    await startTcp(backend, 'echo', { port: 9999 });
    countAtBackend();
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const startKernelMode = async (): Promise<void> => {
    network.connector.start({ SALLYPORT_MODE: 'kernel' });
    await network.connector.waitForLog('registered');
  };
  /** What mode kernel changes on the service's host. */
  const state = (): string => {
    const { service } = network.topology;
    const settings = ['net.ipv4.conf', 'net.ipv6.conf'].map((prefix) =>
      run([
        'ip',
        'netns',
        'exec',
        service.namespace,
        'sysctl',
        '-a',
        '-r',
        `^${prefix}\\..*(forwarding|accept_ra|localnet)$`,
      ]),
    );
    return [
      ...settings,
      run(['ip', 'netns', 'exec', service.namespace, 'nft', 'list', 'tables']),
      service.ip('-4', 'route'),
      service.ip('-6', 'route').replace(/ expires \S+/g, ''),
      service.ip('-o', 'link'),
    ].join('\n');
  };
  const rules = (): string =>
    run(['ip', 'netns', 'exec', network.topology.service.namespace, 'nft', 'list', 'table', 'inet', TABLE]);
  const countAtBackend = (): void =>
    network.topology.backend.nft(`
      table inet lab_count {
        counter shut {}
        counter echo {}
        chain in { type filter hook input priority filter; tcp dport 9999 counter name shut; udp dport 7 counter name echo; }
      }`);
  const counted = (host: Host, what: string): number => {
    const listed = run([
      'ip',
      'netns',
      'exec',
      host.namespace,
      'nft',
      '-j',
      'list',
      'counters',
      'table',
      'inet',
      'lab_count',
    ]);
    const { nftables } = JSON.parse(listed) as { nftables: { counter?: { name: string; packets: number } }[] };
    return nftables.find(({ counter }) => counter?.name === what)!.counter!.packets;
  };
  const atBackend = (what: 'shut' | 'echo'): number => counted(network.topology.backend, what);
  const curl = async (address: string, port = 8080, bytes = 1_000_000): Promise<number> => {
    const result = await network.topology.user.exec([
      'curl',
      '-sSf',
      '-m',
      '20',
      '-o',
      '/dev/null',
      '-w',
      '%{size_download}',
      `http://${address.includes(':') ? `[${address}]` : address}:${port}/bytes/${bytes}`,
    ]);
    return Number(result.stdout);
  };
  const shutAddress = async (): Promise<string> => {
    const { payload } = JSON.parse(readFileSync(`${network.operatorFolder}/operator/policy.json`, 'utf8')) as {
      payload: string;
    };
    const policy = JSON.parse(Buffer.from(payload, 'base64').toString()) as {
      services: { id: string; virtualIp4: string }[];
    };
    return policy.services.find(({ id }) => id === 'shut')!.virtualIp4;
  };
  const refused = (address: string, port: number): Promise<unknown> =>
    network.topology.user.exec(['curl', '-sS', '-m', '3', `http://${address}:${port}/`]).then(
      () => 'passed',
      (error: unknown) => error,
    );

  it('carries TCP of both families', async () => {
    expect(await curl((await network.virtual('web')).v4)).toBe(1_000_000);
    expect(await curl((await network.virtual('web6')).v6)).toBe(1_000_000);
  });

  it('carries TCP to real addresses of a network', async () => {
    expect(await curl(BACKEND.v4)).toBe(1_000_000);
    expect(await curl(BACKEND.v6)).toBe(1_000_000);
  });

  it('carries UDP and echo of both families', async () => {
    for (const address of [(await network.virtual('box')).v4, (await network.virtual('box6')).v6]) {
      const echoed = (count: number) => {
        const options = ['--count', String(count), '--size', '3000', '--linger', '500'];
        return network.topology.user.exec(program('udp-client', address, '7', ...options));
      };
      // Only a sender cuts IPv6 packets: the service learns by its first answer how large they may be.
      await echoed(1);
      const echo = await echoed(20);
      expect(JSON.parse(echo.stdout)).toMatchObject({ received: 20, corrupted: 0 });
      const ping = await network.topology.user.exec(['ping', '-c', '1', '-W', '5', address]);
      expect(ping.stdout).toContain(' 1 received');
    }
  });

  it('carries a flow at full speed, in either direction', async () => {
    const { v4 } = await network.virtual('box');
    for (const direction of ['', '-R']) {
      const argv = ['iperf3', '-J', '-t', '1', '-c', v4, ...(direction === '' ? [] : [direction])];
      const { end } = JSON.parse((await network.topology.user.exec(argv)).stdout) as {
        end: { sum_received: { bytes: number } };
      };
      expect(end.sum_received.bytes).toBeGreaterThan(1_000_000);
    }
  });

  it('reaches services on the connector itself, loopback too', async () => {
    expect(await curl((await network.virtual('own')).v4, 9000)).toBe(1_000_000);
  });

  it('lets nothing through that the policy or the services do not have', async () => {
    const { backend, relay } = network.topology;
    const { v4: web } = await network.virtual('web');
    // A port that is not the service's, and a service that nobody is granted.
    expect(await refused(web, 9999)).not.toBe('passed');
    expect(await refused(await shutAddress(), 9999)).not.toBe('passed');
    expect(atBackend('shut')).toBe(0);
    const refusals = async (): Promise<number> =>
      (await network.connector.status<ConnectorThreadStatus>()).counters['kernel.refused'] ?? 0;
    // What comes out of the tunnel does not go back into it, to another agent.
    const atFirst = await refusals();
    await network.topology.user
      .exec(['ping', '-c', '3', '-i', '0.05', '-W', '1', '100.64.0.99'])
      .catch(() => undefined);
    expect((await refusals()) - atFirst).toBe(3);
    // Somebody else on the private network does not enter the tunnel through this host.
    backend.ip('route', 'replace', '100.64.0.0/10', 'via', ADDRESSES.servicePrivate.v4);
    const before = await refusals();
    await backend.exec(['ping', '-c', '3', '-i', '0.05', '-W', '1', '100.64.0.1']).catch(() => undefined);
    expect((await refusals()) - before).toBe(3);
    // Nor does this host become a router for them.
    relay.nft(`
      table inet lab_count {
        counter strangers {}
        chain in { type filter hook prerouting priority filter; ip saddr ${BACKEND.v4} counter name strangers; }
      }`);
    backend.ip('route', 'replace', ADDRESSES.relay.v4, 'via', ADDRESSES.servicePrivate.v4);
    await backend.exec(['ping', '-c', '3', '-i', '0.05', '-W', '1', ADDRESSES.relay.v4]).catch(() => undefined);
    expect(counted(relay, 'strangers')).toBe(0);
  });

  it('follows services that are moved, to another port too', async () => {
    const services = { own: `tcp://${BACKEND.v4}:8080` };
    writeFileSync(join(network.connector.dir, 'sallyport.json'), JSON.stringify({ services }));
    await network.must('reload', '--dir', network.connector.dir);
    expect(await curl((await network.virtual('own')).v4, 9000, 3_000)).toBe(3_000);
    expect(rules()).toMatch(new RegExp(`tcp : ${BACKEND.v4} \\. (8080|http-alt)`));
    expect(rules()).not.toContain('127.0.0.1');
  });

  it('takes no more new flows of an agent at once than its share', async () => {
    const { v4 } = await network.virtual('box');
    const flows = program('udp-flows', v4, '7', '--flows', '3000').join(' ');
    const asked = `echo '{"sizes":[20],"wait":1000}' | ${flows}`;
    const reached = atBackend('echo');
    await network.topology.user.exec(['sh', '-c', `ulimit -n 8192; ${asked} >/dev/null`]);
    const over = (await network.connector.status<ConnectorThreadStatus>()).counters['kernel.flows_over_limit']!;
    expect(over).toBeGreaterThan(0);
    expect(atBackend('echo') - reached).toBeLessThanOrEqual(3000 - over);
  });

  it('ends the flows of an agent that is revoked, at the service', async () => {
    const { v4 } = await network.virtual('web');
    const download = await Download.start(network, `http://${v4}:8080`, 200_000_000, '10M');
    const open = (): string =>
      run(['ip', 'netns', 'exec', network.topology.backend.namespace, 'ss', '-Htn', 'state', 'established']);
    expect(open()).toContain(':8080');
    await network.must('revoke', 'alice', '--dir', network.operatorFolder);
    cpSync(join(network.operatorFolder, 'operator', 'policy.json'), join(network.relay.dir, 'policy.json'));
    network.relay.process.signal('SIGHUP');
    await pollUntil('the service to have no connection', () => !open().includes(':8080'));
    await download.cancel();
  });

  it('takes everything away at its end, and after a kill at the next start', async () => {
    const { service } = network.topology;
    await network.connector.kill();
    expect(run(['ip', 'netns', 'exec', service.namespace, 'nft', 'list', 'tables'])).toContain(TABLE);
    await startKernelMode();
    const { status } = await network.connector.stop();
    expect(status.code).toBe(0);
    expect(network.connector.leftovers).toEqual([]);
    expect(state()).toBe(before);
  });

  it('does not start where it may not or cannot, and says why', async () => {
    const { service } = network.topology;
    const refusal = async (wrapper: readonly string[]): Promise<string> => {
      const role = network.role('office', service, ['connector', '--mode', 'kernel'], wrapper);
      const { code } = await role.start().exited;
      expect(code).toBe(1);
      expect(role.leftovers).toEqual([]);
      return role.process.stderr;
    };
    expect(await refusal(['setpriv', '--bounding-set', '-net_admin'])).toMatch(/not permitted.*--mode engine/);
    expect(await refusal(['env', 'PATH=/nowhere'])).toMatch(/"nft" was not found.*install nftables/);
    service.ip('route', 'add', '100.64.0.0/10', 'dev', 'lo');
    expect(await refusal([])).toMatch(/100\.64\.0\.0\/10 is already routed to lo/);
    service.ip('route', 'delete', '100.64.0.0/10', 'dev', 'lo');
    expect(state()).toBe(before);
  });
});
