/**
 * UDP through the whole path: datagrams of every size come back unchanged, flows of several agents do not mix, and a flow that
 * rested still works. The relay is reached over IPv6 here.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { program, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { anotherUser, Network, type VirtualAddresses } from './network.js';
import type { Role } from './role.js';

/** Inner MTU 1400 less the headers: the largest datagrams that travel in one packet. */
const LARGEST = { v4: 1400 - 20 - 8, v6: 1400 - 40 - 8 };
const FRAGMENTED = 8_000;
/** Longer than NATs and careless flow tables keep a silent UDP flow. */
const REST_MILLISECONDS = 31_000;
const FLOWS = 5;

interface FlowReport {
  readonly port: number;
  readonly sent: number;
  readonly received: number;
  readonly wrong: number;
  readonly lost: readonly number[];
}

/** Flows of one machine; `send` resolves when every echo has come or its time is over. */
class FlowProgram {
  readonly #process: LabProcess;
  #answers = 0;

  constructor(host: Host, ip: string, label: string) {
    const argv = program('udp-flows', ip, '7', '--flows', String(FLOWS), '--label', label);
    this.#process = host.spawn(argv, { interactive: true });
  }

  async send(sizes: readonly number[]): Promise<FlowReport[]> {
    await this.#process.waitForLine(/^ready$/);
    this.#process.write(`${JSON.stringify({ sizes })}\n`);
    const line = await this.#process.waitFor('a report', { timeout: Seconds(60) }, () =>
      this.#process.stdout
        .split('\n')
        .slice(0, -1)
        .filter((one) => one.startsWith('{'))
        .at(this.#answers),
    );
    this.#answers++;
    return (JSON.parse(line) as { flows: FlowReport[] }).flows;
  }
}

describe.skipIf(Lab.unavailable() !== undefined)('UDP', () => {
  let network: Network;
  let echo: VirtualAddresses;
  const others: { readonly host: Host; readonly agent: Role }[] = [];
  /** A flow that rests while the other tests run. */
  let resting: FlowProgram;
  let restingSince = 0;

  beforeAll(async () => {
    network = await Network.make({ family: 'v6', services: { echo: `udp://${ADDRESSES.backend.v4}:7` } });
    await startUdpEcho(network.topology.backend);
    for (const [index, name] of ['bob', 'carol'].entries()) {
      const host = anotherUser(network, name, index + 1);
      const agent = await network.newAgent(name, host);
      await network.startAgent(agent);
      others.push({ host, agent });
    }
    echo = await network.virtual('echo');
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  it('begins with a flow that will rest', async () => {
    resting = new FlowProgram(network.topology.user, echo.v4, 'resting');
    expect(await resting.send([100])).toEqual(allEchoed(1));
    restingSince = performance.now();
  });

  it.each(['v4', 'v6'] as const)('echoes datagrams of every size over %s', async (family) => {
    const flows = new FlowProgram(network.topology.user, echo[family], `sizes-${family}`);
    const largest = LARGEST[family];
    const sizes = [0, 1, largest - 1, largest, largest + 1, FRAGMENTED];
    expect(await flows.send(sizes)).toEqual(allEchoed(sizes.length));
  });

  it('keeps five flows of each of three agents apart', async () => {
    const hosts = [network.topology.user, ...others.map((one) => one.host)];
    const programs = hosts.map((host, index) => new FlowProgram(host, echo.v4, `agent-${index}`));
    const sizes = Array.from({ length: 40 }, (_, index) => 1 + ((index * 97) % LARGEST.v4));
    const reports = await Promise.all(programs.map((one) => one.send(sizes)));
    for (const report of reports) expect(report).toEqual(allEchoed(sizes.length));
  });

  it('still knows a flow after more than 30 s of silence', async () => {
    await until(restingSince + REST_MILLISECONDS);
    expect(await resting.send([100, LARGEST.v4])).toEqual(allEchoed(2));
  });
});

const allEchoed = (count: number): object[] =>
  Array.from({ length: FLOWS }, () =>
    expect.objectContaining({ sent: count, received: count, wrong: 0, lost: [] }),
  ) as object[];

/** The silence itself is what is tested: nothing can announce its end but time. */
async function until(time: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, time - performance.now())));
}
