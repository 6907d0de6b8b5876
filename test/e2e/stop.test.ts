/**
 * Every role ends soon after SIGTERM, with flows open too, and leaves nothing behind: no process, no device, no route, no lock, no
 * socket.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { startHttp, startTcp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network } from './network.js';
import { milliseconds, type Role } from './role.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const BYTES = 200_000_000;
const RATE = '10M';
/** What the README and the command line promise; the harness waits longer and says by how much it was missed. */
const PROMISED_MS = 2000;

describe.skipIf(Lab.unavailable() !== undefined)('stopping', () => {
  let network: Network;
  let url: string;
  let before: Record<string, string>;

  beforeAll(async () => {
    network = await Network.make({
      services: { web: `tcp://${BACKEND}:8080`, stall: `tcp://${BACKEND}:9` },
      agent: false,
    });
    before = hosts();
    const agent = await network.newAgent('alice', network.topology.user);
    await network.startAgent(agent);
    await startHttp(network.topology.backend);
    await startTcp(network.topology.backend, 'stall', { port: 9 });
    url = `http://${(await network.virtual('web')).v4}:8080`;
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  /** Links, addresses and routes of every host that a role runs on. */
  const hosts = (): Record<string, string> => {
    const { user, service, relay } = network.topology;
    return Object.fromEntries(
      [user, service, relay].map((host) => [
        host.name,
        [
          host.ip('-o', 'link', 'show'),
          host.ip('-o', 'address', 'show'),
          host.ip('-4', 'route', 'show', 'table', 'all'),
          host.ip('-6', 'route', 'show', 'table', 'all'),
          host.ip('rule', 'show'),
        ]
          .join('\n')
          // What counts time or use, not configuration.
          .replace(/ (expires|valid_lft|preferred_lft|hoplimit|pref) \S+/g, ''),
      ]),
    );
  };

  const stops = async (role: Role): Promise<void> => {
    const namespace = role.host.namespace;
    const { pid } = role;
    const { status, took } = await role.stop();
    console.log(`${role.name} stopped in ${milliseconds(took)}`);
    expect(status).toEqual({ code: 0, signal: undefined });
    expect(took / 1000).toBeLessThan(PROMISED_MS + 3000);
    expect(role.leftovers).toEqual([]);
    expect(run(['ip', 'netns', 'pids', namespace]).split('\n')).not.toContain(String(pid));
  };

  it('agent, with a download under way', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    await stops(network.agent);
    expect(hosts()[network.topology.user.name]).toBe(before[network.topology.user.name]);
    await download.cancel();
    await network.startAgent();
  });

  it('connector, with a download under way and a backend that reads nothing', async () => {
    const stalled = network.topology.user.spawn([
      'sh',
      '-c',
      `head -c 10000000 /dev/zero | curl -sS -T - "telnet://${(await network.virtual('stall')).v4}:9"`,
    ]);
    const download = await Download.start(network, url, BYTES, RATE);
    await stops(network.connector);
    expect(await download.outcome()).toBe('broken');
    await stalled.stop('SIGKILL');
    await network.startConnector();
  });

  it('relay, with a download under way', async () => {
    await network.agent.waitForStatus<{ services: { available: boolean }[] }>(
      'the service to be back',
      ({ services }) => services.every((one) => one.available),
    );
    const download = await Download.start(network, url, BYTES, RATE);
    await stops(network.relay);
    await download.cancel();
  });

  it('agent and connector while the relay is away', async () => {
    await stops(network.agent);
    await stops(network.connector);
    expect(hosts()).toEqual(before);
  });
});
