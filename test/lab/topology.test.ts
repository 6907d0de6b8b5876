/** The standard topology: who reaches whom, and the services that run in it. */
import { afterEach, describe, expect, it } from 'vitest';
import { acceptOnlyFrom, closeInbound } from './firewall.js';
import type { Host } from './host.js';
import { Lab } from './lab.js';
import { contentHash } from './programs/content.mjs';
import { program, startDns, startHttp, startIperf, startSsh, startTcp, startUdpEcho } from './services.js';
import { ADDRESSES, impairUplink, type StandardOptions, type StandardTopology, standardTopology } from './topology.js';

const unavailable = Lab.unavailable();

const labs: Lab[] = [];
const build = (options: StandardOptions = {}): StandardTopology => {
  const lab = new Lab();
  labs.push(lab);
  return standardTopology(lab, options);
};
const reaches = async (from: Host, address: string): Promise<boolean> =>
  (await from.exec(['ping', '-c', '1', '-W', '1', address], { check: false })).code === 0;

afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.destroy();
});

describe.skipIf(unavailable !== undefined)('the standard topology', () => {
  it.each(['v4', 'v6'] as const)(
    'lets over %s reach the relay, but nobody the service or its backend',
    async (family) => {
      const { user, relay, service, backend } = build();
      expect(await reaches(user, ADDRESSES.relay[family])).toBe(true);
      expect(await reaches(service, ADDRESSES.relay[family])).toBe(true);
      expect(await reaches(service, ADDRESSES.backend[family])).toBe(true);
      expect(await reaches(backend, ADDRESSES.servicePrivate[family])).toBe(true);
      expect(await reaches(user, ADDRESSES.service[family])).toBe(false);
      expect(await reaches(relay, ADDRESSES.service[family])).toBe(false);
      expect(await reaches(user, ADDRESSES.backend[family])).toBe(false);
      expect(await reaches(relay, ADDRESSES.backend[family])).toBe(false);
    },
  );

  it.each(['v4', 'v6'] as const)('opens the service over %s when asked to', async (family) => {
    const { user, service, relay } = build({ serviceClosed: false });
    expect(await reaches(user, ADDRESSES.service[family])).toBe(true);
    acceptOnlyFrom(service, [ADDRESSES.user.v4, ADDRESSES.user.v6]);
    expect(await reaches(user, ADDRESSES.service[family])).toBe(true);
    expect(await reaches(relay, ADDRESSES.service[family])).toBe(false);
    closeInbound(service);
    expect(await reaches(user, ADDRESSES.service[family])).toBe(false);
    expect(await reaches(service, ADDRESSES.user[family])).toBe(true);
  });

  it.each(['v4', 'v6'] as const)('shows over %s the home router, not the user behind it', async (family) => {
    const { net, user, relay, service } = build({ user: 'masquerade', service: 'masquerade' });
    await startHttp(relay);
    // Even with a route to the inside, the router lets nothing new in.
    net.ip('route', 'add', family === 'v4' ? '192.168.1.0/24' : 'fd00:1::/64', 'via', ADDRESSES.user[family]);
    const at = family === 'v4' ? ADDRESSES.relay.v4 : `[${ADDRESSES.relay.v6}]`;
    const peer = async (from: Host): Promise<string> =>
      JSON.parse((await from.exec(['curl', '-sSf', `http://${at}:8080/peer`])).stdout).address;
    expect(await peer(user)).toContain(ADDRESSES.user[family]);
    expect(await peer(service)).toContain(ADDRESSES.service[family]);
    expect(await reaches(relay, ADDRESSES.userInside[family])).toBe(false);
  });

  it('has uplinks that can be made bad, also behind a home router', async () => {
    const topology = build({ user: 'masquerade' });
    const link = await impairUplink(topology, 'user', { profile: { delay: 20 } });
    for (const family of ['v4', 'v6'] as const) {
      const answer = await topology.user.exec(['ping', '-c', '1', '-W', '2', ADDRESSES.relay[family]]);
      expect(Number(/time=([\d.]+) ms/.exec(answer.stdout)?.[1])).toBeGreaterThanOrEqual(40);
    }
    await link.set({ down: true });
    expect(await reaches(topology.user, ADDRESSES.relay.v4)).toBe(false);
  });

  it('has hosts with public addresses behind routers that only forward, whose uplinks can be made bad too', async () => {
    const topology = build({ user: 'routed', service: 'routed', serviceClosed: false });
    const { user, service, relay } = topology;
    for (const family of ['v4', 'v6'] as const) expect(await reaches(relay, ADDRESSES.user[family])).toBe(true);
    await impairUplink(topology, 'user', { profile: { delay: 20 } });
    await startHttp(service);
    for (const family of ['v4', 'v6'] as const) {
      expect(await reaches(service, ADDRESSES.user[family])).toBe(true);
      const at = family === 'v4' ? ADDRESSES.service.v4 : `[${ADDRESSES.service.v6}]`;
      const { stdout } = await user.exec(['curl', '-sSf', `http://${at}:8080/peer`]);
      expect(JSON.parse(stdout).address).toContain(ADDRESSES.user[family]);
    }
    expect(user.ip('-o', 'link', 'show', 'type', 'tun')).toBe('');
  });
});

describe.skipIf(unavailable !== undefined)('services of the laboratory', () => {
  it('serve HTTP and TCP bytes that arrive intact', async () => {
    const { service, backend } = build();
    await startHttp(backend);
    const url = `http://${ADDRESSES.backend.v4}:8080`;
    const fetched = await service.exec(['sh', '-c', `curl -sSf ${url}/bytes/1000003?seed=9 | sha256sum`]);
    expect(fetched.stdout.slice(0, 64)).toBe(contentHash(9, 1_000_003));
    const put = await service.exec(['sh', '-c', `head -c 70000 /dev/zero | curl -sSf -T - ${url}/hash`]);
    expect(JSON.parse(put.stdout)).toMatchObject({ bytes: 70_000 });

    const client = async (port: number, ...argv: string[]): Promise<Record<string, unknown>> =>
      JSON.parse((await service.exec(program('tcp-client', ADDRESSES.backend.v6, String(port), ...argv))).stdout);
    await startTcp(backend, 'echo');
    const echoed = await client(7, '--bytes', '3000000', '--seed', '4');
    expect(echoed).toMatchObject({ sent: 3_000_000, received: 3_000_000, receivedSha256: contentHash(4, 3_000_000) });
    await startTcp(backend, 'source', { port: 8, bytes: 200_000, seed: 6 });
    expect(await client(8, '--bytes', '0')).toMatchObject({
      received: 200_000,
      receivedSha256: contentHash(6, 200_000),
    });
    const sink = await startTcp(backend, 'sink', { port: 9 });
    await client(9, '--bytes', '500000');
    expect(sink.stdout).toContain('connection ');
    await startTcp(backend, 'reset', { port: 10 });
    await expect(client(10)).rejects.toThrow(/ECONNRESET|EPIPE/);
  });

  it('echo UDP and answer DNS', async () => {
    const { service, backend } = build();
    await startUdpEcho(backend);
    const echoed = await service.exec(
      program('udp-client', ADDRESSES.backend.v4, '7', '--count', '50', '--size', '1200'),
    );
    expect(JSON.parse(echoed.stdout)).toMatchObject({ sent: 50, received: 50, duplicates: 0, corrupted: 0 });

    await startDns(backend, { 'db.internal': ['10.20.0.9', 'fd00:20::9', '::1'] });
    const ask = async (...question: string[]): Promise<string> =>
      (await service.exec(['dig', '+short', `@${ADDRESSES.backend.v4}`, ...question])).stdout.trim();
    expect(await ask('db.internal', 'A')).toBe('10.20.0.9');
    expect((await ask('DB.internal', 'AAAA')).split('\n').sort()).toEqual(['::1', 'fd00:20::9']);
    expect(await ask('+tcp', 'db.internal', 'A')).toBe('10.20.0.9');
    expect(await ask('db.internal', 'MX')).toBe('');
    const unknown = await service.exec(['dig', `@${ADDRESSES.backend.v4}`, 'other.internal']);
    expect(unknown.stdout).toContain('status: NXDOMAIN');
  });

  it('run iperf3 and ssh', async () => {
    const { service, backend } = build();
    await startIperf(backend);
    const report = await service.exec(['iperf3', '-c', ADDRESSES.backend.v4, '-n', '1M', '-J']);
    expect(JSON.parse(report.stdout).end.sum_sent.bytes).toBeGreaterThanOrEqual(1_000_000);
    const ssh = await startSsh(backend);
    try {
      const said = await service.exec([...ssh.client, ADDRESSES.backend.v4, 'ip', '-o', '-4', 'address', 'show']);
      expect(said.stdout).toContain(ADDRESSES.backend.v4);
    } finally {
      ssh.cleanUp();
    }
  });
});
