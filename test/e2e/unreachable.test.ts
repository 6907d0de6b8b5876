/**
 * What cannot be reached is said at once, and counted; what does not answer holds up nobody else.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ExecResult } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { program, startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, type ConnectorThreadStatus, Network } from './network.js';
import { CURL } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const CLOSED_PORT = 8099;
/** A port where the backend's firewall swallows everything. */
const SILENT_PORT = 8098;
const NO_HOST = '10.20.0.77';
/** Only what says nothing at all lasts so long (seconds). */
const PATIENCE = '20';

describe.skipIf(Lab.unavailable() !== undefined)('what cannot be reached', () => {
  let network: Network;

  beforeAll(async () => {
    network = await Network.make({
      services: {
        web: `tcp://${BACKEND}:8080`,
        closed: `tcp://${BACKEND}:${CLOSED_PORT}`,
        silent: `tcp://${BACKEND}:${SILENT_PORT}`,
        absent: `tcp://${NO_HOST}:80`,
      },
      closedServices: { secret: `tcp://${BACKEND}:8080,virtualIp=10.100.7.7` },
    });
    await startHttp(network.topology.backend);
    network.topology.backend.nft(`
      table inet lab_silent {
        chain input { type filter hook input priority 10; tcp dport ${SILENT_PORT} drop; }
      }`);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const curl = (authority: string, patience = PATIENCE): Promise<ExecResult> => {
    const argv = ['curl', '-sS', '--max-time', patience, '-o', '/dev/null', `http://${authority}/bytes/100`];
    return network.topology.user.exec(argv, { check: false });
  };
  /** So many connections of one program, which begin at once; the code with which each was given up. */
  const giveUp = async (count: number, url: string): Promise<number[]> => {
    const together = ['--parallel', '--parallel-immediate', '--parallel-max', String(count), '--max-time', '4'];
    const each = Array.from({ length: count }, () => ['-o', '/dev/null', url]).flat();
    const argv = ['curl', '-s', ...together, '-w', '%{exitcode}\\n', ...each];
    const { stdout } = await network.topology.user.exec(argv, { check: false });
    return stdout.trim().split('\n').map(Number);
  };
  const agentDrops = async (): Promise<Record<string, number>> =>
    (await network.agent.status<AgentThreadStatus>()).drops;
  const connectorCounters = async (): Promise<Record<string, number>> =>
    (await network.connector.status<ConnectorThreadStatus>()).counters;

  it.each([
    ['a virtual address without a service', '10.100.200.200:80', 'destination_not_allowed'],
    ['a service that was not granted', '10.100.7.7:8080', 'destination_not_allowed'],
  ])('refuses %s at once, and counts it', async (_what, authority, reason) => {
    const before = (await agentDrops())[reason] ?? 0;
    expect(await curl(authority)).toMatchObject({ code: CURL.cannotConnect });
    expect((await agentDrops())[reason]).toBeGreaterThan(before);
  });

  it('refuses a port outside the service at once, and counts it', async () => {
    const { v4, v6 } = await network.virtual('web');
    const before = (await agentDrops())['port_not_allowed'] ?? 0;
    expect(await curl(`${v4}:22`)).toMatchObject({ code: CURL.cannotConnect });
    expect(await curl(`[${v6}]:22`)).toMatchObject({ code: CURL.cannotConnect });
    expect((await agentDrops())['port_not_allowed']).toBeGreaterThanOrEqual(before + 2);
  });

  it('passes on a refused connection', async () => {
    const { v4 } = await network.virtual('closed');
    expect(await curl(`${v4}:${CLOSED_PORT}`)).toMatchObject({ code: CURL.cannotConnect });
    // What a program gets is ECONNREFUSED, not just an error.
    const client = program('tcp-client', v4, String(CLOSED_PORT));
    const { stderr } = await network.topology.user.exec(client, { check: false });
    expect(stderr).toContain('ECONNREFUSED');
    expect((await connectorCounters())['tcp_dial_refused']).toBeGreaterThan(0);
  });

  it('passes on that the backend’s host is not there', async () => {
    const { v4 } = await network.virtual('absent');
    expect(await curl(`${v4}:80`)).toMatchObject({ code: CURL.cannotConnect });
    expect((await connectorCounters())['tcp_dial_unreachable']).toBeGreaterThan(0);
  });

  it('serves others while a backend does not answer, and forgets who gave up', async () => {
    const silent = await network.virtual('silent');
    const web = await network.virtual('web');
    const waiting = giveUp(20, `http://${silent.v4}:${SILENT_PORT}/`);
    await network.connector.waitForStatus<ConnectorThreadStatus>(
      'dials to the silent backend',
      ({ sessions }) => sessions[0]!.flows.tcp >= 20,
    );
    const answers = await Promise.all(Array.from({ length: 5 }, () => curl(`${web.v4}:8080`)));
    expect(answers.map((one) => one.code)).toEqual(Array(5).fill(CURL.done));
    expect(await waiting).toEqual(Array(20).fill(CURL.timedOut));
    await network.connector.waitForStatus<ConnectorThreadStatus>(
      'the dials to end',
      ({ sessions }) => sessions[0]!.flows.tcp === 0,
    );
  });
});
