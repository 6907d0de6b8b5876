/** Traces that agent, connector and relay take of their own paths, asked for on their local sockets. */
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RoleTraceAnswer, RoleTraceHistory } from '../../src/cli/trace/role-traces.js';
import type { CompatibleResult } from '../../src/trace/compatible.js';
import { Lab } from '../lab/lab.js';
import { startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network } from './network.js';
import { type Role, sallyport } from './role.js';

const NOBODY = 65_534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all', '--'];
const PROXY = ['--mode', 'proxy', '--http', 'off'];

describe.skipIf(Lab.unavailable() !== undefined)('traces of a running role', () => {
  let network: Network;
  /** In proxy mode, without any privilege, on the user's machine. */
  let proxy: Role;

  beforeAll(async () => {
    network = await Network.make({
      agent: ['--mode', 'tun', '--path', 'relay'],
      services: {
        web: `tcp://${ADDRESSES.backend.v4}:8080`,
        all: 'any://10.20.0.0/24',
        host: `any://${ADDRESSES.backend.v4}`,
      },
    });
    await startHttp(network.topology.backend);
    await startUdpEcho(network.topology.backend, { port: 7 });
    proxy = await network.newAgent('bob', network.topology.user, PROXY, AS_NOBODY);
    chmodSync(network.folder, 0o755);
    mkdirSync(proxy.dir, { mode: 0o700 });
    chownSync(proxy.dir, NOBODY, NOBODY);
    await network.startAgent(proxy);
  });
  afterAll(() => network?.destroy());
  beforeEach((context) => network.reportFailure(context));

  const run = (role: Role, ...argv: readonly string[]) =>
    role.host.exec(sallyport('trace', ...argv, '--dir', role.dir), { check: false });
  const ask = async <T = RoleTraceAnswer>(role: Role, ...argv: readonly string[]): Promise<T> => {
    const { code, stdout, stderr } = await run(role, ...argv);
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout) as T;
  };
  const toRelay = { path: 'relay', target: ADDRESSES.relay.v4, port: 4433 };

  it('an agent shows the way to its relay, and through the tunnel to a service', async () => {
    const { agent } = network;
    const outer = { ...toRelay, protocol: 'quic', reached: true, hops: ['192.0.2.1', ADDRESSES.relay.v4] };
    expect(await ask(agent, '--path', 'relay')).toMatchObject({ notes: [], traces: [outer] });
    const { v4 } = await network.virtual('web');
    const inner = { path: 'service web', target: v4, port: 8080, protocol: 'tcp', reached: true, hops: [v4] };
    expect(await ask(agent, '--service', 'web')).toMatchObject({ notes: [], traces: [inner, outer] });
    const session = await ask(agent, '--path', 'office');
    expect(session).toMatchObject({ notes: [expect.stringContaining('goes by the relay')], traces: [outer] });
    const history = await ask<RoleTraceHistory>(agent, '--history');
    expect(history.paths.map(({ path, entries }) => [path, entries.length])).toEqual([
      ['service web', 1],
      ['relay', 3],
    ]);
    expect(new Set(history.paths[1]!.entries.map(({ path_id }) => path_id)).size).toBe(1);
  });

  it('any trace goes through the agent’s own device, as other tracers find it', async () => {
    const { user } = network.topology;
    const { v4, v6 } = await network.virtual('host');
    for (const target of [v4, v6]) {
      for (const argv of [
        ['-P', 'icmp'],
        ['-P', 'tcp', '-p', '8080'],
        ['-P', 'udp', '-p', '7'],
      ]) {
        const { stdout } = await user.exec(
          sallyport('trace', ...argv, '-q', '1', '-Q', '5', '--timeout', '1000', target),
        );
        const { traceroute, e2e_probe: series } = JSON.parse(stdout) as CompatibleResult;
        const hops = traceroute.runs![0]!.hops.map((hop) => hop.ip_address);
        expect([...argv, hops, series.packets_received], stdout).toEqual([...argv, [target], 5]);
      }
      const { stdout } = await user.exec(['traceroute', '-n', '-I', '-q', '1', '-w', '1', target]);
      expect(stdout.split('\n').flatMap((line) => /^ *\d+ +(\S+)/.exec(line)?.[1] ?? [])).toEqual([target]);
    }
    const { stdout } = await user.exec(sallyport('trace', '-P', 'icmp', '-q', '1', '-Q', '0', '10.20.0.2'));
    expect(JSON.parse(stdout)).toMatchObject({ traceroute: { hop_count: { avg: 1 } } });
  });

  it('a change of the way is told, in the answer and in status', async () => {
    const { agent, topology } = network;
    const [before] = (await ask(agent, '--path', 'relay')).traces;
    expect(before!.changed).toBe(false);
    // The router now answers by another of its addresses.
    topology.net.ip('address', 'add', '192.0.2.77/24', 'dev', 'to-user');
    topology.net.ip('route', 'replace', '192.0.2.0/24', 'dev', 'to-user', 'proto', 'kernel', 'src', '192.0.2.77');
    const [after] = (await ask(agent, '--path', 'relay')).traces;
    expect(after).toMatchObject({ changed: true, hops: ['192.0.2.77', ADDRESSES.relay.v4] });
    expect(after!.path_id).not.toBe(before!.path_id);
    const { traces } = await agent.status<{ traces: { path: string; path_id: string; changed: boolean }[] }>();
    expect(traces.at(-1)).toMatchObject({ path: 'relay', path_id: after!.path_id, changed: true });
    const { stdout } = await agent.host.exec(sallyport('status', '--dir', agent.dir));
    expect(stdout).toMatch(/TRACED .*\n(?:.*\n)*relay .* changed/);
  });

  it('a connector shows the way to a backend, a relay the way to its nodes', async () => {
    const { backend, user, service } = ADDRESSES;
    expect(await ask(network.connector, '--service', 'web')).toMatchObject({
      traces: [{ target: backend.v4, port: 8080, protocol: 'tcp', hops: [backend.v4], reached: true }],
    });
    expect(await ask(network.relay, '--path', 'alice')).toMatchObject({
      traces: [{ path: 'agent alice', target: user.v4, protocol: 'icmp', reached: true }],
    });
    // A firewall before the connector answers nothing: the path ends at the last router, which is a result.
    const both = await ask(network.relay, '--path', 'alice/office', '--timeout', '300', '-Q', '3');
    expect(both.traces.map(({ path, target, reached }) => [path, target, reached])).toEqual([
      ['agent alice', user.v4, true],
      ['connector office', service.v4, false],
    ]);
  });

  it('without privileges it is what an ordinary user may see; into a proxy’s tunnel nothing goes, and it says so', async () => {
    const answer = await ask(proxy, '--service', 'web', '--timeout', '300');
    expect(answer.notes).toEqual([expect.stringContaining('proxy mode')]);
    const [trace] = answer.traces;
    expect(trace).toMatchObject({
      ...toRelay,
      protocol: 'icmp',
      reached: true,
      hops: [expect.anything(), toRelay.target],
    });
    expect(trace!.result.traceroute.runs![0]).toMatchObject({ privilege: 'unprivileged' });
    proxy.host.sysctl({ 'net.ipv4.ping_group_range': '1 0' });
    const [udp] = (await ask(proxy, '--path', 'relay', '--timeout', '300')).traces;
    // A relay takes a datagram that is no QUIC for noise.
    expect(udp).toMatchObject({
      ...toRelay,
      protocol: 'udp',
      reached: false,
      changed: false,
      hops: [expect.anything()],
    });
  });

  it('what cannot be traced is one line, and what was asked wrongly too', async () => {
    const failures: [Role, string[], number, RegExp][] = [
      [network.agent, ['--path', 'nobody'], 1, /there is no session nobody \(paths of this agent: relay, office\)/],
      [network.agent, ['--service', 'nothing'], 1, /there is no service nothing \(services: web, all, host\)/],
      [network.agent, ['--service', 'all'], 1, /all is a whole network \(10\.20\.0\.0\/24\) \(trace an address/],
      [network.relay, ['--service', 'web'], 1, /a relay has no way to services/],
      [network.agent, ['--path', 'relay', '--proto', 'sctp'], 1, /unknown protocol: "sctp"/],
    ];
    for (const [role, argv, status, text] of failures) {
      const { code, stdout, stderr } = await run(role, ...argv);
      expect([code, stdout], argv.join(' ')).toEqual([status, '']);
      expect(stderr).toMatch(text);
      expect(stderr.trim().split('\n')).toHaveLength(1);
    }
    const { code, stderr } = await network.agent.host.exec(sallyport('trace', '--path', 'relay', '--dir', '/nowhere'), {
      check: false,
    });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^sallyport: Nothing is running on \/nowhere/)]);
  });
});
