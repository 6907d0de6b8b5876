/**
 * A relay that is killed and started again, with a crowd of real nodes on it that have nothing to say: each is told that it is back,
 * connects anew, and gets its channel back; a download through the same relay goes on.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { enrolCrowd } from '../lab/enrolled.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { REPOSITORY, startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network, type RelayThreadStatus } from './network.js';
import type { RelayNodesEvent, RelayNodesInput } from './programs/relay-nodes.js';
import { told as toldBy, toldOften } from './told.js';
import { Download } from './transfer.js';

const NODES = 100;
const WITH_CHANNEL = 5;
/** The crowd, the agent and the connector. */
const CONNECTED = NODES + 2;
const BYTES = 20_000_000;
const RATE = '8M';

describe.skipIf(Lab.unavailable() !== undefined)('a crowd on a relay that is killed', () => {
  let network: Network;
  let crowd: LabProcess;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${ADDRESSES.backend.v4}:8080` } });
    await startHttp(network.topology.backend);
    const { policyKey: _unused, ...enrolled } = await enrolCrowd({
      count: NODES,
      group: 'staff',
      operatorFolder: network.operatorFolder,
      relayFolder: network.relay.dir,
    });
    const relay = `${ADDRESSES.relay.v4}:4433`;
    const input: RelayNodesInput = { crowd: enrolled, relay, withChannel: WITH_CHANNEL, service: 'web' };
    const programs = join(REPOSITORY, 'test', 'e2e', 'programs');
    const loader = join(REPOSITORY, 'test', 'lab', 'typescript.mjs');
    const argv = [process.execPath, '--import', loader, join(programs, 'relay-nodes.ts')];
    crowd = network.topology.user.spawn(argv, { input: JSON.stringify(input) });
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => {
    network.reportFailure(context);
    context.onTestFailed(() => console.error(`${crowd.stdout.slice(-4000)}${crowd.stderr.slice(-4000)}`));
  });

  const told = (event: RelayNodesEvent['event']) => toldBy<RelayNodesEvent>(crowd, event);
  const times = (event: RelayNodesEvent['event'], count: number) =>
    toldOften<RelayNodesEvent>(crowd, event, count, Seconds(30));
  const nodesOf = (events: readonly RelayNodesEvent[]): Set<string> => new Set(events.map(({ node }) => node));

  it(`${NODES} idle nodes are told of its return, and are back`, async () => {
    await times('ready', NODES);
    await times('channel', WITH_CHANNEL);
    // Connections that have lasted, on a relay that has written down where they are.
    const file = join(network.relay.dir, 'nodes.json');
    await network.relay.waitForStatus<RelayThreadStatus>(
      'the nodes to be settled and kept',
      ({ nodes }) =>
        nodes.length === CONNECTED &&
        nodes.every(({ secondsConnected }) => secondsConnected >= 6) &&
        existsSync(file) &&
        (JSON.parse(readFileSync(file, 'utf8')) as unknown[]).length === CONNECTED,
    );
    const url = `http://${(await network.virtual('web')).v4}:8080`;
    const download = await Download.start(network, url, BYTES, RATE);
    await network.relay.kill();
    expect(told('lost')).toEqual([]);

    const started = Date.now();
    await network.startRelay();
    const returned = Number(network.relay.logged('relay ready')[0]!['time']);
    const back = (await times('ready', 2 * NODES)).slice(NODES);
    const lost = told('lost');
    const last = (events: readonly RelayNodesEvent[]): number => Math.max(...events.map(({ time }) => time)) - returned;
    console.log(
      `${NODES} idle nodes: relay ready ${returned - started} ms after its start, ` +
        `${last(lost)} ms later all have been told, ${last(back)} ms later all are back`,
    );
    expect(nodesOf(lost).size).toBe(NODES);
    expect(lost).toHaveLength(NODES);
    expect(nodesOf(back).size).toBe(NODES);

    expect(nodesOf((await times('channel', 2 * WITH_CHANNEL)).slice(WITH_CHANNEL)).size).toBe(WITH_CHANNEL);
    const { nodes } = await network.relay.waitForStatus<RelayThreadStatus>(
      'every channel to be back',
      ({ channels }) => channels.length === WITH_CHANNEL + 1,
    );
    expect(nodes).toHaveLength(CONNECTED);
    expect(await download.outcome()).toBe('complete');
    expect(told('lost')).toHaveLength(NODES);
  });
});
