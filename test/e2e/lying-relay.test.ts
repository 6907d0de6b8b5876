/**
 * A real relay that lies to its nodes (programs/lying-relay.mjs): the end that can see it refuses and counts it, status and log say what
 * it was, and a download and datagrams of an agent that was there before go on, whole.
 */
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Lab } from '../lab/lab.js';
import { program, REPOSITORY, startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, type ConnectorThreadStatus, Network } from './network.js';
import type { Role } from './role.js';
import { CURL, Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const SOCKS = '127.0.0.1:1081';
const PROXY = ['--mode', 'proxy', '--socks', SOCKS, '--http', 'off'];
/** Long enough for the lie of each test to be told meanwhile. */
const BYTES = 12_000_000;
const RATE = '10M';
const PINGS = 100;
const GAP_MILLISECONDS = 10;

describe.skipIf(Lab.unavailable() !== undefined)('a relay that lies', () => {
  let network: Network;
  let bob: Role;
  /** Alice’s download and datagrams, begun before the lie. */
  let others: { readonly download: Download; readonly pings: Promise<{ stdout: string }> };

  beforeAll(async () => {
    network = await Network.make({
      services: { web: `tcp://${BACKEND}:8080`, echo: `udp://${BACKEND}:7` },
      relayEnv: (folder) => ({
        SALLYPORT_PROGRAM: join(REPOSITORY, 'dist', 'cli', 'main.js'),
        NODE_OPTIONS: `--import=${join(REPOSITORY, 'test', 'e2e', 'programs', 'lying-relay.mjs')}`,
        SALLYPORT_LIE: join(folder, 'lie.json'),
      }),
    });
    await startHttp(network.topology.backend);
    await startUdpEcho(network.topology.backend);
    bob = await network.newAgent('bob', network.topology.user, PROXY);
    await network.startAgent(bob);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach(async (context) => {
    network.reportFailure(context);
    const [web, echo] = [await network.virtual('web'), await network.virtual('echo')];
    const download = await Download.start(network, `http://${web.v4}:8080`, BYTES, RATE);
    const counts = ['--count', String(PINGS), '--gap', String(GAP_MILLISECONDS)];
    others = { download, pings: network.topology.user.exec(program('udp-client', echo.v4, '7', ...counts)) };
  });
  afterEach(() => rmSync(lieFile(), { force: true }));

  const lieFile = (): string => join(network.folder, 'lie.json');
  /** From now on the relay says this. */
  const lie = (what: object): void => {
    // The relay reads it whenever it speaks: it is there whole, or not at all.
    writeFileSync(`${lieFile()}.new`, JSON.stringify(what));
    renameSync(`${lieFile()}.new`, lieFile());
  };
  const liesSeenBy = async (role: Role): Promise<number> => (await role.status<AgentThreadStatus>()).relay.lies;
  const othersNoticeNothing = async (): Promise<void> => {
    expect(await others.download.outcome()).toBe('complete');
    expect(JSON.parse((await others.pings).stdout)).toMatchObject({ sent: PINGS, received: PINGS, corrupted: 0 });
    expect(network.agent.logged('relay-lost')).toEqual([]);
  };
  /** A new process of bob’s: it has no session yet. */
  const bobAgain = async (): Promise<void> => {
    await bob.kill();
    await network.startAgent(bob);
  };
  const bobAsks = (patience: string) => {
    const argv = ['curl', '-sS', '--max-time', patience, '-o', '/dev/null', '-x', `socks5h://${SOCKS}`];
    return network.topology.user.exec([...argv, 'http://web:8080/bytes/100'], { check: false });
  };
  /** The operator adds a service, and the relay has the policy that says so. */
  const newPolicy = async (service: string): Promise<number> => {
    const invite = ['invite', 'connector', 'depot', '--service', `${service}=tcp://${BACKEND}:81`, '--allow', 'staff'];
    await network.must(...invite, '--dir', network.operatorFolder);
    const file = join(network.operatorFolder, 'operator', 'policy.json');
    copyFileSync(file, join(network.relay.dir, 'policy.json'));
    await network.must('reload', '--dir', network.relay.dir);
    return (await network.relay.status<{ policyVersion: number }>()).policyVersion;
  };

  it('a channel to another agent than it named: the connector takes only the one that was named', async () => {
    lie({ type: 'channel', set: { agent: 'alice' } });
    expect((await bobAsks('1')).code).not.toBe(CURL.done);
    await network.connector.waitForLog(
      'link-refused',
      (line) => line['agent'] === 'bob' && line['code'] === 'OTHER_AGENT',
    );
    const { relay, sessions } = await network.connector.status<ConnectorThreadStatus>();
    expect(relay.lies).toBeGreaterThanOrEqual(1);
    expect(sessions.map(({ agent }) => agent)).toEqual(['alice']);
    await othersNoticeNothing();
    expect(await liesSeenBy(network.agent)).toBe(0);
  });

  it('another connector than the one asked for: the agent does not follow', async () => {
    await bobAgain();
    lie({ type: 'opened', set: { connector: 'elsewhere' } });
    expect((await bobAsks('1')).code).not.toBe(CURL.done);
    await bob.waitForStatus<AgentThreadStatus>(
      'the lie to be seen, and told',
      ({ relay, sessions }) => relay.lies >= 1 && sessions[0]?.problem.includes('another connector') === true,
    );
    await othersNoticeNothing();
  });

  it('another virtual address than the operator signed: the connector takes the service for not registered', async () => {
    const before = await liesSeenBy(network.connector);
    lie({ type: 'registered', service: 'echo', set: { virtualIp4: '10.100.0.99' } });
    // A new policy makes it register again.
    await newPolicy('more');
    const { services, relay } = await network.connector.waitForStatus<ConnectorThreadStatus>('the conflict', (status) =>
      status.services.some((one) => one.registration === 'conflict'),
    );
    expect(Object.fromEntries(services.map(({ id, registration }) => [id, registration]))).toEqual({
      web: 'ok',
      echo: 'conflict',
    });
    expect(relay.lies).toBe(before + 1);
    await othersNoticeNothing();
  });

  it('a policy that has been replaced: both ends refuse it and keep the newer one', async () => {
    const old = JSON.parse(readFileSync(join(network.relay.dir, 'policy.json'), 'utf8')) as unknown;
    const nodes = [network.agent, network.connector];
    const before = await Promise.all(nodes.map(liesSeenBy));
    const version = await newPolicy('newer');
    for (const node of nodes) {
      await node.waitForStatus<AgentThreadStatus>('the policy', (status) => status.policyVersion === version);
    }
    lie({ type: 'policy', set: { envelope: old } });
    await newPolicy('newest');
    for (const [index, node] of nodes.entries()) {
      const { relay, policyVersion } = await node.waitForStatus<AgentThreadStatus>(
        'the lie to be seen',
        (status) => status.relay.lies > before[index]!,
      );
      expect(policyVersion).toBe(version);
      expect(relay.problem).toContain('POLICY_');
      expect(node.logged('policy-refused').length).toBeGreaterThanOrEqual(1);
    }
    await othersNoticeNothing();
  });
});
