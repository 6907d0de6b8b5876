/**
 * What the cases of all suites share: a network with a web server and an echo server behind the connector, and the questions that
 * are asked of it.
 */
import { type Duration, Seconds } from '../../src/base/time.js';
import { type AgentThreadStatus, Network, type NetworkOptions } from '../../test/e2e/network.js';
import { contentHash } from '../../test/lab/programs/content.mjs';
import { startHttp, startUdpEcho } from '../../test/lab/services.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import { SteadyPing } from './ping.js';
import type { Hold } from './suite.js';

const BACKEND = ADDRESSES.backend.v4;
const SEED = 2;

export type Via = 'relay' | 'direct';
type Session = AgentThreadStatus['sessions'][number];

/** A network whose connector serves `web` (HTTP), `echo` (UDP) and `perf` (iperf3, which is not started). */
export async function makeScene(hold: Hold, options: Omit<NetworkOptions, 'services'>): Promise<Network> {
  const network = hold(
    await Network.make({
      path: 'auto',
      ...options,
      services: {
        web: `tcp://${BACKEND}:8080`,
        echo: `udp://${BACKEND}:7`,
        perf: `tcp+udp://${BACKEND}:5201`,
      },
    }),
  );
  await startHttp(network.topology.backend);
  await startUdpEcho(network.topology.backend);
  return network;
}

export async function webUrl(network: Network): Promise<string> {
  return `http://${(await network.virtual('web')).v4}:8080`;
}

export async function startPing(network: Network, gap?: number): Promise<SteadyPing> {
  return new SteadyPing(network, await network.virtual('echo'), gap);
}

/** Fetches so many bytes and checks each; resolves with the seconds it took. */
export async function fetchWhole(network: Network, bytes: number, limit: Duration = Seconds(60)): Promise<number> {
  const url = `${await webUrl(network)}/bytes/${bytes}?seed=${SEED}`;
  const seconds = limit / 1_000_000;
  const script = 'curl -sSf --max-time "$2" "$1" | sha256sum';
  const started = performance.now();
  const { stdout } = await network.topology.user.exec(['sh', '-c', script, 'sh', url, String(seconds)], {
    timeout: (limit + Seconds(5)) as Duration,
  });
  if (stdout.slice(0, 64) !== contentHash(SEED, bytes)) throw new Error('what was fetched is not what was served');
  return (performance.now() - started) / 1000;
}

/** The session with the connector, when its packets go that way. */
export async function goesBy(network: Network, via: Via, limit: Duration = Seconds(30)): Promise<Session> {
  const status = await network.agent.waitForStatus<AgentThreadStatus>(
    `packets to go by ${via}`,
    ({ sessions }) => sessions[0]?.link?.via === via,
    limit,
  );
  return status.sessions[0]!;
}

export async function sessionOf(network: Network): Promise<Session | undefined> {
  return (await network.agent.status<AgentThreadStatus>()).sessions[0];
}

/** How the relay is reached now. */
export async function relayOver(network: Network): Promise<AgentThreadStatus['relay']> {
  return (await network.agent.status<AgentThreadStatus>()).relay;
}

/** Milliseconds from `start` (wall time) to the first line of the agent's log since its start that says packets go this way. */
export function pathSince(network: Network, via: Via, start: number): number | undefined {
  const line = network.agent.logged('path').find((one) => one['via'] === via && Number(one['time']) >= start);
  return line === undefined ? undefined : Number(line['time']) - start;
}
