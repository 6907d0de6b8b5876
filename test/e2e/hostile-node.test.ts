/**
 * An enrolled node that means harm (programs/hostile-node.ts), with real sockets and certificates, on the real relay and connector: what
 * it does is refused and counted by who sees it, and an agent beside it notices nothing: its download is whole, each of its datagrams is
 * answered.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PEER_BURST } from '../../src/base/line-limits.js';
import { Seconds } from '../../src/base/time.js';
import { dnsName } from '../../src/policy/names.js';
import { enrolCrowd } from '../lab/enrolled.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { program, REPOSITORY, startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import {
  type AgentThreadStatus,
  anotherUser,
  type ConnectorThreadStatus,
  Network,
  type RelayThreadStatus,
} from './network.js';
import type { Flood, HostileEvent, HostileInput } from './programs/hostile-node.js';
import { told as toldBy, toldOften } from './told.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const RELAY = `${ADDRESSES.relay.v4}:4433`;
const HOSTILE = 'crowd-0';
/** Under way after half a second, and longer than a flood. */
const BYTES = 12_000_000;
const RATE = '4M';
const PINGS = 100;
const GAP_MILLISECONDS = 10;

type Counts = Readonly<Record<string, number>>;

describe.skipIf(Lab.unavailable() !== undefined)('an enrolled node that means harm', () => {
  let network: Network;
  let hostile: LabProcess;
  let url: string;
  let echo: string;

  beforeAll(async () => {
    network = await Network.make({
      topology: { serviceClosed: false },
      services: { web: `tcp://${BACKEND}:8080`, echo: `udp://${BACKEND}:7` },
    });
    await startHttp(network.topology.backend);
    await startUdpEcho(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
    echo = (await network.virtual('echo')).v4;
    const folders = { operatorFolder: network.operatorFolder, relayFolder: network.relay.dir };
    const { policyKey: _unused, ...crowd } = await enrolCrowd({ count: 1, group: 'staff', ...folders });
    const nodes = [network.agent, network.connector].map(
      async (role) => (await role.status<ConnectorThreadStatus>()).relay.observed!,
    );
    const { overlay } = await network.agent.status<AgentThreadStatus>();
    const input: HostileInput = {
      crowd,
      relay: RELAY,
      nodes: await Promise.all(nodes),
      service: 'web',
      connectorName: dnsName(crowd.network, 'connector', 'office'),
      other: overlay[0]!.split('/')[0]!,
      target: echo,
    };
    const argv = ['--import', join(REPOSITORY, 'test', 'lab', 'typescript.mjs')];
    const file = join(REPOSITORY, 'test', 'e2e', 'programs', 'hostile-node.ts');
    const host = anotherUser(network, 'mallory', 1);
    hostile = host.spawn([process.execPath, ...argv, file], { interactive: true });
    hostile.write(`${JSON.stringify(input)}\n`);
    await events('linked', 1);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => {
    network.reportFailure(context);
    context.onTestFailed(() => console.error(`${hostile.stdout.slice(-4000)}${hostile.stderr.slice(-4000)}`));
  });

  const told = (event: HostileEvent['event']) => toldBy<HostileEvent>(hostile, event);
  const events = (event: HostileEvent['event'], count: number) =>
    toldOften<HostileEvent>(hostile, event, count, Seconds(60));

  /** Harm of this kind, beside a download and a ping every few milliseconds that must not notice. */
  const flood = async (kind: Flood): Promise<HostileEvent> => {
    const download = await Download.start(network, url, BYTES, RATE);
    const counts = ['--count', String(PINGS), '--gap', String(GAP_MILLISECONDS)];
    const pings = network.topology.user.exec(program('udp-client', echo, '7', ...counts));
    const before = told('done').length;
    hostile.write(`${kind}\n`);
    const done = (await events('done', before + 1))[before]!;
    expect(done.flood).toBe(kind);
    expect(JSON.parse((await pings).stdout)).toMatchObject({ sent: PINGS, received: PINGS, corrupted: 0 });
    expect(await download.outcome()).toBe('complete');
    for (const role of [network.agent, network.connector]) expect(role.logged('relay-lost')).toEqual([]);
    const { sessions } = await network.agent.status<AgentThreadStatus>();
    expect(sessions.map(({ state, reconnects }) => [state, reconnects])).toEqual([['live', 0]]);
    return done;
  };
  const relay = (): Promise<RelayThreadStatus> => network.relay.status<RelayThreadStatus>();
  const connector = (): Promise<ConnectorThreadStatus> => network.connector.status<ConnectorThreadStatus>();
  const grown = (before: Counts, after: Counts, name: string): number => (after[name] ?? 0) - (before[name] ?? 0);

  it('malformed packets and packets of others on its link: dropped by the connector, each with its reason', async () => {
    const before = (await connector()).drops;
    const { sent } = await flood('malformed');
    const after = (await connector()).drops;
    const reasons = Object.keys(after).filter((name) => grown(before, after, name) > 0);
    console.log(`${sent} sent: ${reasons.map((name) => `${name} ${grown(before, after, name)}`).join(', ')}`);
    expect(reasons).toEqual(expect.arrayContaining(['malformed', 'reserved_frame', 'source_not_allowed']));
    expect(reasons.reduce((sum, name) => sum + grown(before, after, name), 0)).toBeGreaterThan(sent / 4);
  });

  it('more messages than allowed on its link: the connector ends that link, again and again', async () => {
    const links = told('linked').length;
    const { closed } = await flood('words');
    expect(closed.length).toBeGreaterThanOrEqual(1);
    for (const text of closed) expect(text).toMatch(/messages/);
    await events('linked', links + closed.length);
    expect((await connector()).sessions.map(({ agent }) => agent).sort()).toEqual(['alice', HOSTILE]);
  });

  it('more messages than allowed to the relay: it closes that connection, and says why', async () => {
    const { closed } = await flood('messages');
    expect(closed.length).toBeGreaterThanOrEqual(1);
    for (const text of closed) expect(text).toBe('too many control messages');
    const lost = network.relay.logged('node-lost');
    expect(lost.map((line) => line['node'])).toEqual(lost.map(() => `agent/${HOSTILE}`));
    // On a fast machine it comes back more often than lines of one peer are logged.
    expect(lost.length).toBeGreaterThanOrEqual(Math.min(closed.length, PEER_BURST));
  });

  it('more channels than allowed: refused and counted by the relay', async () => {
    const before = await relay();
    const { sent, closed } = await flood('opens');
    const after = await relay();
    expect(closed).toEqual([]);
    // Every fourth is for a service that is not granted.
    expect(grown(before.counters, after.counters, 'openRefused')).toBeGreaterThan(sent / 4);
    const refused = network.relay.logged('open-refused');
    expect(new Set(refused.map((line) => line['agent']))).toEqual(new Set([HOSTILE]));
    expect(refused.map((line) => line['code'])).toEqual(expect.arrayContaining(['DENIED', 'BUSY']));
  });

  it('frames of nobody to the relay and to the other nodes: counted, and answered by none', async () => {
    const nodes = [network.agent, network.connector];
    const drops = (): Promise<Counts[]> =>
      Promise.all(nodes.map(async (role) => (await role.status<AgentThreadStatus>()).drops));
    const [before, at] = [await relay(), await drops()];
    const { sent } = await flood('frames');
    const [after, now] = [await relay(), await drops()];
    // A third for each victim, and of that a third of each type.
    const each = sent / 9;
    expect(grown(before.drops, after.drops, 'unknown_frame')).toBeGreaterThan(each / 2);
    expect(grown(before.drops, after.drops, 'unknown_channel')).toBeGreaterThan(each / 2);
    expect(grown(before.counters, after.counters, 'probes')).toBeLessThan(each / 2);
    nodes.forEach((_, index) => {
      expect(grown(at[index]!, now[index]!, 'unknown_source')).toBeGreaterThan((3 * each) / 2);
    });
  });

  it('and no process met a bug', () => {
    for (const role of [network.agent, network.connector, network.relay]) {
      expect(role.log.filter((line) => line.level >= 50)).toEqual([]);
      expect(role.process.running).toBe(true);
    }
  });

  it('a stranger’s requests fill no disk: a burst is logged, the rest counted and told in one line', async () => {
    const requests = 3 * PEER_BURST;
    const before = (await relay()).counters;
    const url = `https://${ADDRESSES.relay.v4}:8443/none[1-${requests}]`;
    await network.topology.user.exec(['curl', '-sk', '-o', '/dev/null', url]);
    const logged = (): number => network.relay.logged('no such resource').length;
    await network.relay.waitForLog('no such resource', undefined, { skip: PEER_BURST - 1 });
    const suppressed = grown(before, (await relay()).counters, 'log.suppressed');
    expect(suppressed).toBeGreaterThan(PEER_BURST);
    await network.relay.stop();
    expect(logged() + suppressed).toBe(requests);
    // The hostile node's coming and going may have lines of their own, and a report may come while curl runs.
    const summaries = network.relay.logged('lines suppressed').filter((line) => line['kind'] === 'NOT_FOUND');
    expect(summaries.map((line) => line['mostOf'])).toEqual(summaries.map(() => ADDRESSES.user.v4));
    expect(summaries.reduce((sum, line) => sum + Number(line['suppressed']), 0)).toBe(suppressed);
  });
});
