/**
 * A direct path that dies under traffic, with the real programs: a download goes on and is whole, and a ping every 10 ms shows how
 * long nothing came; then the path is back, and is used again.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { program, startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type Cut, cutDirectPath } from './direct-path.js';
import { type AgentThreadStatus, Network, type VirtualAddresses } from './network.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const BYTES = 30_000_000;
const RATE = '10M';
/** Pings before, during and after the cut: as long as the download. */
const PINGS = 400;
const GAP_MILLISECONDS = 10;

interface Pings {
  readonly sent: number;
  readonly received: number;
  readonly duplicates: number;
  readonly corrupted: number;
  readonly longestGapMs: number;
}

describe.skipIf(Lab.unavailable() !== undefined)('a direct path that dies under traffic', () => {
  let network: Network;
  let echo: VirtualAddresses;
  let url: string;

  beforeAll(async () => {
    const services = { web: `tcp://${BACKEND}:8080`, echo: `udp://${BACKEND}:7` };
    network = await Network.make({ path: 'auto', services });
    await startHttp(network.topology.backend);
    await startUdpEcho(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
    echo = await network.virtual('echo');
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const goesBy = (via: 'relay' | 'direct') =>
    network.agent.waitForStatus<AgentThreadStatus>(
      `packets to go by ${via}`,
      ({ sessions }) => sessions[0]?.link?.via === via,
      Seconds(40),
    );

  it.each<Cut>(['both', 'to the connector', 'to the agent'])('%s: nothing breaks, and it comes back', async (cut) => {
    const wakeUp = program('udp-client', echo.v4, '7', '--count', '1');
    await network.topology.user.exec(wakeUp);
    await goesBy('direct');
    const argv = program(
      'udp-client',
      echo.v4,
      '7',
      '--count',
      String(PINGS),
      '--gap',
      String(GAP_MILLISECONDS),
      '--linger',
      '1000',
    );
    const pinging = network.topology.user.exec(argv);
    const download = await Download.start(network, url, BYTES, RATE);
    cutDirectPath(network, cut);
    expect(await download.outcome()).toBe('complete');
    const pings = JSON.parse((await pinging).stdout) as Pings;
    const { sessions } = await goesBy('relay');
    expect(sessions[0]!.link!.why).toMatch(/three_missed|heavy_loss|large_lost/);
    expect(pings).toMatchObject({ sent: PINGS, duplicates: 0, corrupted: 0 });
    console.info(
      `cut ${cut}: ${pings.sent - pings.received} of ${pings.sent} pings lost, ${Math.round(pings.longestGapMs)} ms without an answer`,
    );
    cutDirectPath(network, 'none');
    await goesBy('direct');
  });
});
