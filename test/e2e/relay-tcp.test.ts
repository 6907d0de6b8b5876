/**
 * The relay over TCP with the real programs: where no UDP reaches the relay packets go through its control listener, straight or through
 * an HTTP proxy, and by UDP again as soon as it passes.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { REPOSITORY, startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';

const BACKEND = ADDRESSES.backend.v4;
const BYTES = 3_000_000;
const PROXY_PORT = 3128;

describe.skipIf(Lab.unavailable() !== undefined)('the relay over TCP', () => {
  let network: Network;
  let url: string;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${BACKEND}:8080` } });
    await startHttp(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const fetches = async (): Promise<void> => {
    const argv = ['sh', '-c', 'curl -sSf --max-time 30 "$1" | sha256sum', 'sh', `${url}/bytes/${BYTES}?seed=2`];
    const { stdout } = await network.topology.user.exec(argv);
    expect(stdout.slice(0, 64)).toBe(contentHash(2, BYTES));
  };
  /** What of the user's packets to the relay is lost; '' = nothing. */
  const drop = (match: string): void => {
    network.topology.net.nft(`
      table inet lab_cut
      delete table inet lab_cut
      table inet lab_cut {
        chain forward {
          type filter hook forward priority 0; policy accept;
          ${match === '' ? '' : `ip saddr ${ADDRESSES.user.v4} ip daddr ${ADDRESSES.relay.v4} ${match} drop`}
        }
      }`);
  };
  const goesOver = (over: 'udp' | 'tcp') =>
    network.agent.waitForStatus<AgentThreadStatus>(
      `the relay to be reached over ${over}`,
      ({ relay }) => relay.state === 'ready' && relay.over === over,
      Seconds(40),
    );

  it('carries a running agent when UDP is blocked, and gives way to UDP when it passes', async () => {
    await goesOver('udp');
    await fetches();
    drop('meta l4proto udp');
    const { relay } = await goesOver('tcp');
    expect(relay.address).toMatch(/^127\.0\.0\.1:/);
    await fetches();
    expect(await network.must('status', '--dir', network.agent.dir)).toContain('over TCP');
    drop('');
    await goesOver('udp');
    await fetches();
  });

  it('lets an agent start where UDP is blocked, also when TCP has to go through a proxy', async () => {
    drop('meta l4proto udp');
    await network.agent.stop();
    network.agent.start();
    await goesOver('tcp');
    await fetches();

    await network.agent.stop();
    drop('');
    const proxy = network.topology.relay.spawn([
      process.execPath,
      `${REPOSITORY}/test/lab/programs/connect-proxy.mjs`,
      `${PROXY_PORT}`,
    ]);
    await proxy.waitForPort('tcp', PROXY_PORT);
    drop(`meta l4proto { udp, tcp } th dport != ${PROXY_PORT}`);
    const environment = { HTTPS_PROXY: `http://alice:secret@${ADDRESSES.relay.v4}:${PROXY_PORT}` };
    network.agent.start(environment);
    await goesOver('tcp');
    await fetches();
    expect(proxy.stdout).toContain(`CONNECT ${ADDRESSES.relay.v4}:8443`);
    expect(network.agent.describe()).not.toContain('secret');
    await network.agent.stop();

    // One that has yet to enrol goes the same way.
    const other = await network.newAgent('carol', network.topology.user);
    other.start(environment);
    await other.waitForStatus<AgentThreadStatus>('to be there', ({ relay }) => relay.state === 'ready', Seconds(40));
    await fetches();
    await other.stop();
    drop('');
  });

  it('is not tried by an agent that is told so', async () => {
    await network.agent.stop();
    drop('meta l4proto udp');
    const other = await network.newAgent('bob', network.topology.user, [
      '--mode',
      'proxy',
      '--relay-tcp',
      'never',
      '--http',
      'off',
    ]);
    other.start();
    await other.waitForStatus<AgentThreadStatus>(
      'a few attempts over UDP',
      ({ relay }) => relay.problem !== '' && relay.state !== 'ready',
      Seconds(40),
    );
    expect(other.describe()).not.toContain('over TCP');
    drop('');
    await other.stop();
  });
});
