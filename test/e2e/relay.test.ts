/** The relay's own program: it drains on SIGTERM, hurries when told twice, holds its limits, and names a port that is taken. */
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network, type RelayThreadStatus } from './network.js';
import { type Role, sallyport } from './role.js';
import { Download } from './transfer.js';

const BYTES = 200_000_000;
const RATE = '5M';

describe.skipIf(Lab.unavailable() !== undefined)('a relay', () => {
  let network: Network;
  let url: string;
  /** The same relay with another time to drain. */
  const patient = (seconds: number): Role => {
    const argv = ['relay', '--listen', '0.0.0.0:4433', '--control', '0.0.0.0:8443', '--drain', String(seconds)];
    const role = network.role(`patient-${seconds}`, network.topology.relay, argv);
    cpSync(network.relay.dir, role.dir, {
      recursive: true,
      filter: (path) => !['control.sock', 'lock'].includes(basename(path)),
    });
    return role;
  };
  const running = async (role: Role): Promise<Role> => {
    role.start();
    await role.waitForLog('relay ready', undefined, { timeout: Seconds(30) });
    await network.agent.waitForStatus<{ relay: { state: string }; services: { available: boolean }[] }>(
      'the service to be back',
      ({ relay, services }) => relay.state === 'ready' && services.every((one) => one.available),
      Seconds(30),
    );
    return role;
  };

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${ADDRESSES.backend.v4}:8080` } });
    await startHttp(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  it('whose port is taken says so and what to do, and leaves nothing running', async () => {
    const second = patient(1);
    const { code, stderr } = await network.topology.relay.exec(
      sallyport('relay', '--listen', '0.0.0.0:4433', '--control', '0.0.0.0:9443', '--dir', second.dir),
      { check: false },
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/0\.0\.0\.0:4433.*in use|in use.*0\.0\.0\.0:4433/s);
    const other = await network.topology.relay.exec(
      sallyport('relay', '--listen', '0.0.0.0:4444', '--control', '0.0.0.0:8443', '--dir', second.dir),
      { check: false },
    );
    expect(other.code).toBe(1);
    expect(other.stderr).toContain('choose one with --control');
    expect(second.leftovers).toEqual([]);
  });

  it('keeps where its nodes are while it runs, and nothing when it has said goodbye', async () => {
    const file = join(network.relay.dir, 'nodes.json');
    await network.relay.waitForStatus<RelayThreadStatus>(
      'both nodes to be kept',
      () => existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as unknown[]).length === 2,
    );
    // Nothing passes: there is nothing to drain.
    await network.relay.stop();
    expect(network.relay.logged('drained')).toHaveLength(1);
    expect(existsSync(file)).toBe(false);
  });

  it('drains on SIGTERM: the nodes are told, the download goes on meanwhile and after its return', async () => {
    // Another time than that of the relay before, whose farewell is in the same logs.
    const relay = await running(patient(4));
    const download = await Download.start(network, url, BYTES / 10, RATE);
    const stopped = relay.stop();
    for (const node of [network.agent, network.connector]) {
      await node.waitForLog('relay-drains', (line) => line['seconds'] === 4);
    }
    const { drainingSeconds } = await relay.status<RelayThreadStatus>();
    expect(drainingSeconds).toBeGreaterThan(0);
    await download.progress();
    expect((await stopped).status).toEqual({ code: 0, signal: undefined });
    expect(relay.leftovers).toEqual([]);
    await running(network.relay);
    expect(await download.outcome()).toBe('complete');
    await network.relay.stop();
  });

  it('is told a second time: it ends at once, whatever passes', async () => {
    const relay = await running(patient(600));
    const download = await Download.start(network, url, BYTES, RATE);
    relay.process.signal('SIGTERM');
    await network.agent.waitForLog('relay-drains', (line) => line['seconds'] === 600);
    const { status } = await relay.stop();
    expect(status).toEqual({ code: 0, signal: undefined });
    expect(relay.logged('drained')).toEqual([]);
    await download.cancel();
  });
});
