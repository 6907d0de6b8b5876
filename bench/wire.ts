/** What the program that makes lossy links carries by itself, so that it never is the limit of a row: started by wire.mjs. */
import { Lab } from '../test/lab/lab.js';
import { startIperf } from '../test/lab/services.js';
import { ADDRESSES, impairUplink, standardTopology } from '../test/lab/topology.js';
import { measureTcp, measureUdp } from './measure/iperf.js';
import { measurePing } from './measure/ping.js';
import { LOSSY_RATE } from './plan.js';
import { quantile } from './statistics.js';

const PORT = 5201;
const SECONDS = 3;
/** Payload of the datagrams: what tunnels of 1400 bytes put on the wire, about. */
const SIZE = 1450;
const PROFILES = [{}, { rate: LOSSY_RATE, delay: 10 }];

const lab = new Lab();
try {
  const topology = standardTopology(lab, { serviceClosed: false });
  const wire = await impairUplink(topology, 'user', {});
  await startIperf(topology.service, { port: PORT });
  const target = { user: topology.user, address: ADDRESSES.service.v4, port: PORT };
  for (const profile of PROFILES) {
    await wire.set(profile);
    console.log(`link ${JSON.stringify(profile)}`);
    for (const rate of [0.9 * (LOSSY_RATE / 1e6), 1.5 * (LOSSY_RATE / 1e6), 3 * (LOSSY_RATE / 1e6)]) {
      const { deliveredMbits, lossPercent } = await measureUdp(target, { rate, size: SIZE, seconds: SECONDS });
      console.log(
        `  UDP ${rate} Mbit/s offered: ${deliveredMbits.toFixed(0)} delivered, ${lossPercent.toFixed(2)} % lost`,
      );
    }
    for (const direction of ['up', 'down'] as const) {
      const { mbits } = await measureTcp(target, { flows: 1, direction, seconds: SECONDS });
      console.log(`  TCP ${direction}: ${mbits.toFixed(0)} Mbit/s`);
    }
    const { rtts } = await measurePing(topology.user, ADDRESSES.service.v4, 100, 20);
    console.log(`  ping: p50 ${quantile(rtts, 0.5).toFixed(2)} ms, p95 ${quantile(rtts, 0.95).toFixed(2)} ms`);
  }
} finally {
  await lab.destroy();
}
