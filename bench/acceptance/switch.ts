/**
 * `switch`: in the middle of a UDP stream, at the highest rate that the relay's way carries here without loss, packets leave the relay for
 * a direct link, a direct link for the relay because the operator wants it, or a relay that stops for a farther one. Of the two ways one is
 * always 40 ms longer: what overtakes is put in order by whoever cares, and nothing may be lost.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Seconds } from '../../src/base/time.js';
import { cutDirectPath } from '../../test/e2e/direct-path.js';
import type { AgentThreadStatus, Network } from '../../test/e2e/network.js';
import type { Host } from '../../test/lab/host.js';
import { type ImpairedLink, impairedLink } from '../../test/lab/impaired-link.js';
import { defaultRoutes } from '../../test/lab/lab.js';
import { startIperf } from '../../test/lab/services.js';
import { impairUplink, type StandardTopology } from '../../test/lab/topology.js';
import { roomyBuffers } from '../measure/iperf.js';
import { goesBy, makeScene, startPing } from './scene.js';
import type { Case, Hold } from './suite.js';

/** Mbit/s, best first. */
const RATES = [500, 300, 200, 100, 50, 20, 10] as const;
/** One way, on the own link of the relay that is farther away, which packets through it cross twice; milliseconds. */
const DELAY = 20;
/** Bytes of a datagram. */
const SIZE = 1200;
/** Seconds of a rate's trial, and of the stream in which the switch happens: a round of punches comes every few seconds. */
const TRIAL = 3;
const STREAM = 40;
/** A relay that is told to stop is gone within a few seconds. */
const DRAIN_STREAM = 20;
/** Milliseconds from the stream's beginning until the direct path opens. */
const OPENS = 3000;

export const SWITCH_CASES: readonly Case[] = [
  { name: 'relay to direct, under load', peers: '', run: toDirect },
  { name: 'direct to relay, under load', peers: '', run: toRelay },
  { name: 'relay that stops to a farther one, under load', peers: '', run: drain },
];

interface Stream {
  readonly packets: number;
  readonly lost: number;
  /** Of these, what had arrived and the receiving program was too slow for: nobody's loss on the way. */
  readonly overrun: number;
}

async function toDirect(hold: Hold): Promise<string> {
  const network = await makeScene(hold, { topology: { serviceClosed: false } });
  await impairUplink(network.topology, 'relay', { profile: { delay: DELAY } });
  await startIperf(network.topology.backend);
  cutDirectPath(network, 'both');
  const ping = await startPing(network);
  await goesBy(network, 'relay');
  const rate = await bestRate(network);
  const streaming = stream(network, rate, STREAM);
  await delay(OPENS);
  await goesBy(network, 'relay');
  cutDirectPath(network, 'none');
  await goesBy(network, 'direct', Seconds(STREAM));
  await ping.stop();
  return verdict(await streaming, rate);
}

async function toRelay(hold: Hold): Promise<string> {
  const network = await makeScene(hold, { topology: { serviceClosed: false } });
  await impairUplink(network.topology, 'relay', { profile: { delay: DELAY } });
  await startIperf(network.topology.backend);
  const ping = await startPing(network);
  wantPath(network, 'relay');
  await goesBy(network, 'relay');
  const rate = await bestRate(network);
  wantPath(network, 'auto');
  await goesBy(network, 'direct');
  const streaming = stream(network, rate, DRAIN_STREAM);
  await delay(OPENS);
  await goesBy(network, 'direct');
  wantPath(network, 'relay');
  const { link } = await goesBy(network, 'relay');
  if (link?.why !== 'operator') throw new Error(`packets go by the relay, but for ${link?.why}`);
  await ping.stop();
  return verdict(await streaming, rate);
}

/** The operator writes it to the agent's configuration, and has that read again. */
function wantPath({ agent }: Network, path: 'relay' | 'auto'): void {
  writeFileSync(join(agent.dir, 'sallyport.json'), JSON.stringify({ path }));
  agent.process.signal('SIGHUP');
}

async function drain(hold: Hold): Promise<string> {
  const network = await makeScene(hold, { topology: { serviceClosed: false }, path: 'relay' });
  const { topology } = network;
  // Both relays are as far away until the rate is found: what a cable carries depends on its delay.
  const nearCable = await impairUplink(topology, 'relay', { profile: { delay: DELAY } });
  await startIperf(topology.backend);
  const far = await farHost(topology);
  const second = await network.addRelay('r2', { quic: 4435, control: 8445 }, far);
  const ping = await startPing(network);
  await network.agent.waitForStatus<AgentThreadStatus>(
    'a link through each relay',
    ({ sessions }) => sessions[0]?.links.filter(({ state }) => state !== 'handshaking').length === 2,
    Seconds(60),
  );
  const rate = await bestRate(network);
  const carrier = (await goesBy(network, 'relay')).link!.relay;
  const [stops, other] = carrier === 'r2' ? [second, 'relay'] : [network.relay, 'r2'];
  await (carrier === 'r2' ? far.cable : nearCable).set({});
  const streaming = stream(network, rate, DRAIN_STREAM);
  await delay(OPENS);
  await stops.stop();
  await network.agent.waitForStatus<AgentThreadStatus>(
    'packets to go by the other relay',
    ({ sessions }) => sessions[0]?.link?.relay === other,
  );
  await ping.stop();
  return verdict(await streaming, rate);
}

interface FarHost {
  readonly host: Host;
  readonly at: string;
  readonly cable: ImpairedLink;
}

/** A host for a second relay. Its network is of the benchmarking prefix (RFC 2544). */
async function farHost({ lab, net }: StandardTopology): Promise<FarHost> {
  const host = lab.host('far-relay');
  const at = '198.18.9.2';
  const left = { host, device: 'to-net', addresses: [`${at}/24`] };
  const right = { host: net, device: 'to-far-relay', addresses: ['198.18.9.1/24'] };
  const cable = await impairedLink(lab, left, right, { profile: { delay: DELAY } });
  defaultRoutes(host, ['198.18.9.1']);
  return { host, at, cable };
}

function verdict({ packets, lost, overrun }: Stream, rate: number): string {
  const late = overrun > 0 ? `; ${overrun} came and found the receiver's buffer full` : '';
  if (lost > overrun) throw new Error(`${lost} of ${packets} packets lost at ${rate} Mbit/s${late}`);
  const tried = rate === RATES[0] ? '' : `; no higher rate of ${RATES.join(', ')} passes the relay here without loss`;
  return `${packets} packets of ${SIZE} bytes at ${rate} Mbit/s, none lost${late}${tried}`;
}

/** The highest rate that the present way carries whole. */
async function bestRate(network: Network): Promise<number> {
  for (const rate of RATES) {
    const { lost } = await stream(network, rate, TRIAL);
    if (lost === 0) return rate;
  }
  throw new Error(`not even ${RATES.at(-1)} Mbit/s pass the relay without loss`);
}

async function stream(network: Network, rate: number, seconds: number): Promise<Stream> {
  const { v4 } = await network.virtual('perf');
  const argv = [
    'iperf3',
    '-c',
    v4,
    '-u',
    '-b',
    `${rate}M`,
    '-l',
    String(SIZE),
    '-t',
    String(seconds),
    ...roomyBuffers(),
    '--json',
  ];
  const { user, backend } = network.topology;
  const before = await overruns(backend);
  const { stdout } = await user.exec(argv, { timeout: Seconds(seconds + 30) });
  const { end } = JSON.parse(stdout) as { end: { sum: { packets: number; lost_packets: number } } };
  return { packets: end.sum.packets, lost: end.sum.lost_packets, overrun: (await overruns(backend)) - before };
}

/** Datagrams that a host's programs had no room for so far (`RcvbufErrors`). */
async function overruns(host: Host): Promise<number> {
  const { stdout } = await host.exec(['cat', '/proc/net/snmp']);
  const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Udp:'));
  return Number(values!.split(' ')[names!.split(' ').indexOf('RcvbufErrors')]);
}
