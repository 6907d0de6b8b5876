/** The main job: programs on the user's machine use services that nobody but the connector reaches. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { type SshServer, startDns, startHttp, startIperf, startSsh } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, type ConnectorThreadStatus, Network, type RelayThreadStatus } from './network.js';

const BACKEND = ADDRESSES.backend.v4;
const PAGE = { bytes: 10_000, seed: 3 };
const FILE = { bytes: 50 * 1024 * 1024, seed: 5 };

describe.skipIf(Lab.unavailable() !== undefined)('the main job', () => {
  let network: Network;
  let ssh: SshServer;
  const folder = mkdtempSync(join(tmpdir(), 'spl-e2e-files-'));

  beforeAll(async () => {
    network = await Network.make({
      services: {
        web: `tcp://${BACKEND}:8080`,
        shell: `tcp://${BACKEND}:22`,
        speed: `tcp://${BACKEND}:5201`,
        dns: `tcp+udp://${BACKEND}:53`,
        host: `any://${BACKEND}`,
      },
    });
    const { backend } = network.topology;
    await Promise.all([startHttp(backend), startDns(backend, { 'db.internal': ['10.20.0.9'] }), startIperf(backend)]);
    ssh = await startSsh(backend);
  });
  afterAll(async () => {
    ssh?.cleanUp();
    rmSync(folder, { recursive: true, force: true });
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  /** Runs a shell command on the user's machine; `$1`, `$2` … are its arguments. */
  const asUser = async (script: string, ...argv: readonly string[]): Promise<string> =>
    (await network.topology.user.exec(['sh', '-c', script, 'sh', ...argv])).stdout;

  it('is needed: the user’s machine reaches neither the backend nor the connector by itself', async () => {
    const { user, service } = network.topology;
    const direct = (address: string, patience: string, from = user) =>
      from.exec(['curl', '-sS', '--max-time', patience, `http://${address}:8080/bytes/1`], { check: false });
    expect((await direct(BACKEND, '30', service)).code).toBe(0);
    const unreached = [BACKEND, ADDRESSES.service.v4, `[${ADDRESSES.service.v6}]`];
    const codes = await Promise.all(unreached.map(async (address) => (await direct(address, '2')).code));
    expect(codes).not.toContain(0);
  });

  it.each(['v4', 'v6'] as const)('fetches a page and a large file from the virtual %s address', async (family) => {
    const { [family]: ip } = await network.virtual('web');
    const authority = family === 'v4' ? `${ip}:8080` : `[${ip}]:8080`;
    const fetched = async ({ bytes, seed }: typeof PAGE): Promise<string> =>
      (
        await asUser('curl -sSf --max-time 60 "$1" | sha256sum', `http://${authority}/bytes/${bytes}?seed=${seed}`)
      ).slice(0, 64);
    expect(await fetched(PAGE)).toBe(contentHash(PAGE.seed, PAGE.bytes));
    expect(await fetched(FILE)).toBe(contentHash(FILE.seed, FILE.bytes));
    // The service sees the connector, never the user.
    const peer = JSON.parse(await asUser('curl -sSf "$1"', `http://${authority}/peer`)) as { address: string };
    expect(peer.address).toContain(ADDRESSES.servicePrivate.v4);
  });

  it('uploads a large file', async () => {
    const { v4 } = await network.virtual('web');
    const { bytes, seed } = FILE;
    const source = `http://127.0.0.1:8081/bytes/${bytes}?seed=${seed}`;
    const local = await startHttp(network.topology.user, { port: 8081 });
    const answer = await asUser('curl -sSf "$1" | curl -sSf -T - "$2"', source, `http://${v4}:8080/hash`);
    expect(JSON.parse(answer)).toEqual({ bytes, sha256: contentHash(seed, bytes) });
    await local.stop();
  });

  it.each([
    ['to the service', []],
    ['from the service', ['-R']],
  ] as const)('carries iperf3 %s', async (_name, direction) => {
    const { v4 } = await network.virtual('speed');
    const argv = ['iperf3', '-c', v4, '-n', '100M', '-J', ...direction];
    const { stdout } = await network.topology.user.exec(argv, { timeout: Seconds(60) });
    const { end } = JSON.parse(stdout) as { end: { sum_sent: { bytes: number }; sum_received: IperfSum } };
    expect(end.sum_sent.bytes).toBeGreaterThanOrEqual(100 * 1024 * 1024);
    expect(end.sum_received.bytes).toBeGreaterThan(0.95 * end.sum_sent.bytes);
    console.log(
      `iperf3 ${direction.length === 0 ? 'up' : 'down'}: ${(end.sum_received.bits_per_second / 1e6).toFixed(0)} Mbit/s`,
    );
  });

  it('carries ssh and scp', async () => {
    const { v4 } = await network.virtual('shell');
    const { user } = network.topology;
    const said = await user.exec([...ssh.client, v4, 'ip', '-o', '-4', 'address', 'show']);
    expect(said.stdout).toContain(`${BACKEND}/`);
    const bytes = 3_000_000;
    const url = `http://${(await network.virtual('web')).v4}:8080/bytes/${bytes}?seed=8`;
    await asUser('curl -sSf -o "$1" "$2"', join(folder, 'sent'), url);
    const scp = ['scp', ...ssh.client.slice(1)];
    await user.exec([...scp, join(folder, 'sent'), `${v4}:${join(folder, 'there')}`]);
    await user.exec([...scp, `${v4}:${join(folder, 'there')}`, join(folder, 'back')]);
    expect((await user.exec(['sha256sum', join(folder, 'back')])).stdout.slice(0, 64)).toBe(contentHash(8, bytes));
  });

  it('resolves names over UDP and TCP', async () => {
    const { v4, v6 } = await network.virtual('dns');
    const ask = (server: string, ...more: string[]): Promise<string> =>
      asUser('dig +short +tries=1 +time=20 "$@"', `@${server}`, ...more, 'db.internal', 'A');
    expect((await ask(v4)).trim()).toBe('10.20.0.9');
    expect((await ask(v6)).trim()).toBe('10.20.0.9');
    expect((await ask(v4, '+tcp')).trim()).toBe('10.20.0.9');
  });

  it.each(['v4', 'v6'] as const)('answers ping to the virtual %s address', async (family) => {
    const { [family]: ip } = await network.virtual('host');
    const { stdout } = await network.topology.user.exec(['ping', '-c', '5', '-i', '0.2', '-W', '3', ip]);
    expect(stdout).toContain('5 packets transmitted, 5 received, 0% packet loss');
  });

  it('tells the same story in every role’s status', async () => {
    const read = async <S>(dir: string): Promise<S> =>
      JSON.parse(await network.must('status', '--json', '--dir', dir)) as S;
    const agent = await read<AgentThreadStatus>(network.agent.dir);
    const connector = await read<ConnectorThreadStatus>(network.connector.dir);
    const relay = await read<RelayThreadStatus>(network.relay.dir);
    expect(agent.sessions).toMatchObject([{ connector: 'office', state: 'live', link: { via: 'relay' } }]);
    expect(connector.sessions).toMatchObject([{ agent: 'alice', denied: 0, session: agent.sessions[0]!.session }]);
    expect(relay.nodes.map((one) => one.name).sort()).toEqual(['alice', 'office']);
    expect(relay.channels).toMatchObject([{ agent: 'alice', connector: 'office' }]);
    const { fromAgent, fromConnector } = relay.channels[0]!.bytes;
    // Two large files down and one up, and iperf3 both ways, went through here.
    expect(fromConnector).toBeGreaterThan(2 * FILE.bytes + 100 * 1024 * 1024);
    expect(fromAgent).toBeGreaterThan(FILE.bytes + 100 * 1024 * 1024);
    const text = await network.must('status', '--dir', network.agent.dir);
    expect(text).toContain('agent alice in network lab');
    expect(text).toMatch(/web\s+10\.100\.\S+\s+tcp\s+8080\s+available/);
  });
});

interface IperfSum {
  readonly bytes: number;
  readonly bits_per_second: number;
}
