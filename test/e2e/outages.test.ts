/**
 * What breaks between running programs: bursts, rapid restarts, a NAT that changes a node's address in mid-download, a connector that
 * dies, an outage under load, a process that was stopped. Each limit that is a time is tested in virtual time; here the real
 * programs meet it, and what they took is printed.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { type LabProcess, pollUntil } from '../lab/process.js';
import { contentHash } from '../lab/programs/content.mjs';
import { program, startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network, type VirtualAddresses } from './network.js';
import type { Role } from './role.js';
import { CURL, Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const BYTES = 40_000_000;
const RATE = '10M';
/** How long an outage lasts and the load meanwhile; for figures: 60 s and 20,833 datagrams of 1,200 bytes (200 Mbit/s). */
const OUTAGE_MS = Number(process.env['SALLYPORT_OUTAGE_MS'] ?? 5_000);
const OUTAGE_RATE = process.env['SALLYPORT_OUTAGE_RATE'] ?? '4000';
const STOPPED_MS = Number(process.env['SALLYPORT_STOPPED_MS'] ?? 5_000);
/** What a role may hold more after an outage than before, MB. */
const MOST_MORE_MB = 50;
const RECONNECTS = 5;
/** 65,535 less the headers of IPv4 and UDP. */
const LARGEST = 65_507;
/** What a node sends first from its new address is lost for so long. */
const FIRST_LOST_MS = 300;

describe.skipIf(Lab.unavailable() !== undefined)('outages', () => {
  let network: Network;
  let url: string;
  let sink: VirtualAddresses;
  let burstServer: LabProcess;

  beforeAll(async () => {
    network = await Network.make({
      topology: { user: 'masquerade', service: 'masquerade' },
      services: { web: `tcp://${BACKEND}:8080`, burst: `udp://${BACKEND}:9` },
    });
    await startHttp(network.topology.backend);
    burstServer = network.topology.backend.spawn(program('udp-burst', 'server', '9'));
    await burstServer.waitForLine(/^listening /);
    url = `http://${(await network.virtual('web')).v4}:8080`;
    sink = await network.virtual('burst');
    // A session that opens holds 64 packets: bursts want one that is open.
    await fetches();
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const fetches = async (): Promise<void> => {
    const argv = ['sh', '-c', 'curl -sSf --max-time 30 "$1" | sha256sum', 'sh', `${url}/bytes/100000?seed=2`];
    const { stdout } = await network.topology.user.exec(argv);
    expect(stdout.slice(0, 64)).toBe(contentHash(2, 100_000));
  };
  const available = () =>
    network.agent.waitForStatus<AgentThreadStatus>(
      'the services to be back',
      ({ relay, services }) => relay.state === 'ready' && services.every((one) => one.available),
    );

  describe.each(['v4', 'v6'] as const)('bursts over %s arrive whole', (family) => {
    it.each(['up', 'down'] as const)('%s', async (way) => {
      const cases = [
        ['50', 'zeros'],
        ['50', 'sequential'],
        ['1000', 'ones'],
        ['1000', 'random'],
      ] as const;
      for (const [count, kind] of cases) {
        const argv = program('udp-burst', way, sink[family], '9', '--count', count, '--kind', kind);
        const { stdout } = await network.topology.user.exec(argv);
        expect([kind, JSON.parse(stdout)]).toEqual([kind, { sent: Number(count), received: Number(count), wrong: 0 }]);
      }
    });
  });

  it.each(['up', 'down'] as const)('the largest datagrams there are, %s; a larger one never leaves', async (way) => {
    const run = (size: number) =>
      network.topology.user.exec(
        program('udp-burst', way, sink.v4, '9', '--count', '2', '--kind', 'random', '--size', String(size)),
        { check: false },
      );
    expect(JSON.parse((await run(LARGEST)).stdout)).toEqual({ sent: 2, received: 2, wrong: 0 });
    if (way === 'up') expect(JSON.parse((await run(LARGEST + 1)).stdout)).toMatchObject({ received: 0 });
  });

  it.each(['agent', 'connector'] as const)(
    '%s behind a NAT that gives it another address: the download goes on',
    async (who) => {
      const download = await Download.start(network, url, BYTES, RATE);
      const edge = network.topology.edges[who === 'agent' ? 'user' : 'service'];
      const before = download.arrived;
      const at = performance.now();
      await otherAddress(edge, who === 'agent' ? ADDRESSES.user.v4 : ADDRESSES.service.v4);
      await pollUntil('more of the download', () => download.arrived > before + 3_000_000);
      console.log(`${who} moved: ${(performance.now() - at).toFixed(0)} ms until 3 MB more had arrived`);
      expect(network.agent.logged('relay-lost')).toEqual([]);
      expect(await download.outcome()).toBe('complete');
    },
  );

  it('an outage under load: memory stays, and traffic goes on when it ends', async () => {
    const sender = network.topology.user.spawn(program('udp-burst', 'stream', sink.v4, '9', '--rate', OUTAGE_RATE));
    await sender.waitForLine(/^streaming$/);
    await delay(1000);
    const roles = [network.agent, network.relay, network.connector];
    const before = roles.map(residentMegabytes);
    const edge = network.topology.edges.user;
    const peak = [...before];
    blackout(edge);
    for (const end = performance.now() + OUTAGE_MS; performance.now() < end; await delay(500)) {
      roles.forEach((role, i) => {
        peak[i] = Math.max(peak[i]!, residentMegabytes(role));
      });
    }
    const lines = pauses(burstServer).length;
    const ended = Date.now();
    lightUp(edge);
    await burstServer.waitFor('traffic to go on', {}, () => pauses(burstServer)[lines]);
    const { resumed } = pauses(burstServer)[lines]!;
    const more = peak.map((megabytes, i) => megabytes - before[i]!);
    console.log(
      `outage of ${OUTAGE_MS} ms: traffic ${resumed - ended} ms after its end; agent, relay, connector +${more.join(', +')} MB`,
    );
    for (const one of more) expect(one).toBeLessThanOrEqual(MOST_MORE_MB);
    await sender.stop('SIGKILL');
    await fetches();
  });

  it.each(['agent', 'connector'] as const)(
    '%s stopped for a while, as by a sleep: the download goes on',
    async (who) => {
      const download = await Download.start(network, url, BYTES, RATE);
      network[who].process.signal('SIGSTOP');
      await delay(STOPPED_MS);
      network[who].process.signal('SIGCONT');
      const at = performance.now();
      await download.progress();
      console.log(
        `${who} stopped for ${STOPPED_MS} ms: progress ${(performance.now() - at).toFixed(0)} ms after its end`,
      );
      expect(await download.outcome()).toBe('complete');
    },
  );

  it('a connector that was killed: new connections are refused, status says why, until it is back', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    await network.connector.kill();
    const { sessions } = await network.agent.waitForStatus<AgentThreadStatus>(
      'the connector to be known gone',
      (status) => status.sessions[0]!.state !== 'live',
    );
    expect(sessions[0]!.problem).toMatch(/silent|NO_CONNECTOR|gone/);
    const at = performance.now();
    const argv = ['curl', '-sS', '--max-time', '10', '-o', '/dev/null', `${url}/bytes/100`];
    expect(await network.topology.user.exec(argv, { check: false })).toMatchObject({ code: CURL.cannotConnect });
    console.log(`refused after ${(performance.now() - at).toFixed(0)} ms`);
    await network.startConnector();
    expect(await download.outcome()).toBe('broken');
    await available();
    await fetches();
  });

  it(`${RECONNECTS} rapid restarts of the agent`, async () => {
    for (let i = 0; i < RECONNECTS; i++) {
      await network.agent.kill();
      network.agent.start();
      await network.agent.waitForLog('relay-ready', undefined, { timeout: Seconds(30) });
    }
    await available();
    await fetches();
  });

  it('a program that only reads is told when its agent was killed, and when it stops', async () => {
    for (const how of ['kill', 'stop'] as const) {
      const download = await Download.start(network, url, 10 * BYTES, RATE);
      await network.agent[how]();
      if (how === 'kill') await network.startAgent();
      expect(await download.outcome()).toBe('broken');
    }
    await network.startAgent();
    await fetches();
  });
});

/** The router's public address changes, which ends all its mappings, and what is sent first from the new one is lost. */
async function otherAddress(router: Host, address: string): Promise<void> {
  const next = address.replace(/\d+$/, '33');
  router.sysctl({ 'net.ipv4.conf.all.promote_secondaries': 1, 'net.ipv4.conf.to-net.promote_secondaries': 1 });
  blackout(router);
  router.ip('address', 'add', `${next}/24`, 'dev', 'to-net');
  router.ip('address', 'del', `${address}/24`, 'dev', 'to-net');
  await delay(FIRST_LOST_MS);
  lightUp(router);
}

/** Nothing passes this router any more. */
function blackout(router: Host): void {
  router.nft(`
    table inet lab_dark {
      chain forward { type filter hook forward priority -10; policy drop; }
    }`);
}

function lightUp(router: Host): void {
  router.nft('delete table inet lab_dark');
}

interface Pause {
  readonly resumed: number;
}

/** Where runs of datagrams paused, as their receiver saw it. */
function pauses(server: LabProcess): Pause[] {
  const lines = server.stdout.split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Pause);
}

function residentMegabytes(role: Role): number {
  const status = readFileSync(`/proc/${role.pid}/status`, 'latin1');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) / 1024);
}
