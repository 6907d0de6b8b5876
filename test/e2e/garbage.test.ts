/**
 * Random, mutated and replayed packets at every UDP socket of the product, also from the relay's own address: counted, dropped, and
 * everything works afterwards; nothing stays half open.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { program, startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, type ConnectorThreadStatus, Network, type RelayThreadStatus } from './network.js';
import type { Role } from './role.js';

const PACKETS = 100_000;
const RELAY_PORT = 4433;
const SHORT = Seconds(60);
/** Packets of a real conversation that mutation starts from. */
const CAPTURED = 600;
/** Bytes of the pcap file header and of each record's header (pcap savefile format), and of Ethernet + IPv4 + UDP before the payload. */
const PCAP_HEADER = 24;
const RECORD_HEADER = 16;
const FRAME_HEADERS = 14 + 20 + 8;
const LONGEST = 1472;

describe.skipIf(Lab.unavailable() !== undefined)('garbage', () => {
  let network: Network;
  let corpus: string;
  let url: string;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${ADDRESSES.backend.v4}:8080` } });
    await startHttp(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
    corpus = await capture();
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  /** Handshakes, relayed data and closes of this very network, as the relay's host sees them; a file of base64 texts. */
  const capture = async (): Promise<string> => {
    const file = join(network.folder, 'corpus.pcap');
    const filter = ['-i', 'to-net', '-w', file, '-U', '-Z', 'root', '-c', String(CAPTURED), 'udp', 'and', 'ip'];
    const dump = network.topology.relay.spawn(['tcpdump', ...filter]);
    await dump.waitForLine(/listening on/);
    await network.agent.stop();
    await network.startAgent();
    await works();
    await works();
    await dump.stop('SIGINT');
    const payloads = udpPayloads(readFileSync(file));
    expect(payloads.length).toBeGreaterThan(50);
    const path = join(network.folder, 'corpus.json');
    writeFileSync(path, JSON.stringify(payloads.map((one) => one.toString('base64'))));
    return path;
  };
  const works = async (): Promise<void> => {
    const argv = ['sh', '-c', 'curl -sSf --max-time 30 "$1" | sha256sum', 'sh', `${url}/bytes/1000000?seed=2`];
    expect((await network.topology.user.exec(argv)).stdout.slice(0, 64)).toBe(contentHash(2, 1_000_000));
  };
  const flood = async (from: Host, ip: string, port: number, seed: number, local = 0): Promise<void> => {
    const options = ['--count', String(PACKETS), '--seed', String(seed), '--corpus', corpus, '--from', String(local)];
    const { stdout } = await from.exec(program('udp-garbage', ip, String(port), ...options), { timeout: SHORT });
    const { sent, failed } = JSON.parse(stdout) as { sent: number; failed: number };
    expect(sent + failed).toBe(PACKETS);
    expect(sent).toBeGreaterThan(PACKETS * 0.9);
  };
  /** Everything a role counts about what it did not want. */
  const unwanted = async (role: Role): Promise<number> => {
    const { drops, counters } = await role.status<AgentThreadStatus>();
    const counted = Object.entries(counters).filter(([name]) =>
      /refused|malformed|ignored|dropped|outside/i.test(name),
    );
    return sum(Object.values(drops)) + sum(counted.map(([, value]) => value));
  };
  /** The local port of a node's socket, as the relay sees it: no address translation here. */
  const portOf = async (role: Role): Promise<number> => {
    const { relay } = await role.status<ConnectorThreadStatus>();
    return Number(relay.observed!.split(':').at(-1));
  };

  it('at the relay', async () => {
    const before = await unwanted(network.relay);
    await flood(network.topology.user, ADDRESSES.relay.v4, RELAY_PORT, 1);
    await works();
    const after = await unwanted(network.relay);
    console.log(`relay: ${PACKETS} sent, ${after - before} counted as unwanted`);
    expect(after - before).toBeGreaterThan(1000);
    // Mutated handshakes began connections that nobody goes on with: none stays.
    const { counters, nodes } = await network.relay.waitForStatus<RelayThreadStatus>(
      'handshakes of nobody to be forgotten',
      (status) => (status.counters['quic.handshakes'] ?? 0) === 0 && status.counters['quic.connections'] === 2,
      Seconds(40),
    );
    expect(counters['quic.connections']).toBe(2);
    expect(nodes).toHaveLength(2);
    expect(network.relay.log.filter((line) => line.level >= 50)).toEqual([]);
  });

  it('at the agent and the connector, from anywhere', async () => {
    const { relay, backend } = network.topology;
    const before = [await unwanted(network.agent), await unwanted(network.connector)] as const;
    await flood(relay, ADDRESSES.user.v4, await portOf(network.agent), 2);
    // The service's host takes nothing from outside; its private network may reach the port.
    await flood(backend, ADDRESSES.servicePrivate.v4, await portOf(network.connector), 3);
    await works();
    const after = [await unwanted(network.agent), await unwanted(network.connector)] as const;
    console.log(`agent: ${after[0] - before[0]} counted, connector: ${after[1] - before[1]} counted`);
    expect(after[0] - before[0]).toBeGreaterThan(1000);
    expect(after[1] - before[1]).toBeGreaterThan(1000);
  });

  it('at the agent and the connector, from the relay’s own address', async () => {
    const ports = { agent: await portOf(network.agent), connector: await portOf(network.connector) };
    const before = [await unwanted(network.agent), await unwanted(network.connector)] as const;
    await network.relay.kill();
    await flood(network.topology.relay, ADDRESSES.user.v4, ports.agent, 4, RELAY_PORT);
    await flood(network.topology.relay, ADDRESSES.service.v4, ports.connector, 5, RELAY_PORT);
    const after = [await unwanted(network.agent), await unwanted(network.connector)] as const;
    console.log(`agent: ${after[0] - before[0]} counted, connector: ${after[1] - before[1]} counted`);
    expect(after[0] - before[0]).toBeGreaterThan(1000);
    expect(after[1] - before[1]).toBeGreaterThan(1000);
    await network.startRelay();
    await backAgain();
    await works();
  });

  it('and no process was lost or met a bug', () => {
    for (const role of [network.agent, network.connector, network.relay]) {
      expect(role.log.filter((line) => line.level >= 50)).toEqual([]);
      expect(role.process.running).toBe(true);
    }
  });

  const backAgain = async (): Promise<void> => {
    const isReady = ({ relay }: ConnectorThreadStatus): boolean => relay.state === 'ready';
    await network.connector.waitForStatus('the relay to be back', isReady, SHORT);
    await network.agent.waitForStatus<AgentThreadStatus>(
      'the service to be back',
      ({ services }) => services.every((one) => one.available),
      SHORT,
    );
  };
});

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** UDP payloads of a capture on Ethernet, IPv4 without options; of a segmentation batch the first packet. */
function udpPayloads(pcap: Buffer): Buffer[] {
  const payloads: Buffer[] = [];
  for (let at = PCAP_HEADER; at + RECORD_HEADER <= pcap.length; ) {
    const length = pcap.readUInt32LE(at + 8);
    const frame = pcap.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length);
    if (frame.length > FRAME_HEADERS) payloads.push(frame.subarray(FRAME_HEADERS, FRAME_HEADERS + LONGEST));
    at += RECORD_HEADER + length;
  }
  return payloads;
}
