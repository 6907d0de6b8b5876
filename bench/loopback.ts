/**
 * Small figures of Sallyport alone, everything on one host's loopback: started by loopback.mjs, `--json` for machines.
 *
 *   client ─ TUN ─ agent ══ relay ══ connector ─ server      all of it on 127.0.0.1 of one network namespace
 *
 * Echo of 64 bytes with and without the tunnel, datagrams that really arrived per second, mutual-TLS handshakes, and how long
 * nothing passes when a role is killed and started again.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Lab } from '../test/lab/lab.js';
import { pollUntil } from '../test/lab/process.js';
import { startIperf, startUdpEcho } from '../test/lab/services.js';
import { helpFirst } from './arguments.js';
import { Figures } from './figures.js';
import { measureHandshakes } from './handshake.js';
import { measureUdp } from './measure/iperf.js';
import { GAP_MS, longestGap, roundTrips } from './measure/probe.js';
import { summarize } from './statistics.js';
import { type RoleName, SallyportNetwork, VIRTUAL_IP } from './subjects/sallyport-network.js';

const ECHO_PORT = 7;
const IPERF_PORT = 5201;
const LOOPBACK = '127.0.0.1';
const ECHOES = 5000;
const SPACED_ECHOES = 300;
/** Between spaced echoes, in milliseconds: long enough for every thread to have gone to sleep. */
const PAUSE = 10;
const HANDSHAKES = 2000;
/** Payload of the datagrams that are counted, and how many are offered a second. */
const SIZE = 1000;
const OFFERED = [100_000, 200_000, 300_000, 400_000];
const SECONDS = 3;
const RESTARTS = 3;
const RESTART_SECONDS = 6;

helpFirst(`node bench/loopback.mjs [--json] [--out FILE]   (root; about two minutes)
  --json  prints the JSON document instead of the table
  --out   where the JSON document goes`);
const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, out: { type: 'string' } },
});
const figures = new Figures(options);
const add = figures.add.bind(figures);

const handshakes = await measureHandshakes(HANDSHAKES);
add('handshake-p50', 'mutual-TLS handshake, both ends on one core, p50', 'µs', handshakes.p50);
add('handshake-p95', 'mutual-TLS handshake, both ends on one core, p95', 'µs', handshakes.p95);

const folder = mkdtempSync(join(tmpdir(), 'sallyport-loopback-'));
const lab = new Lab();
try {
  const host = lab.host('all');
  await startUdpEcho(host, { port: ECHO_PORT });
  await startIperf(host, { port: IPERF_PORT });
  const places = { user: host, relay: host, service: host, relayAddress: LOOPBACK, serviceAddress: LOOPBACK };
  const network = await SallyportNetwork.start(places, folder);
  const passes = async (): Promise<boolean> =>
    (await longestGap(host, VIRTUAL_IP, ECHO_PORT, 0.2).catch(() => ({ received: 0 }))).received > 0;
  await pollUntil('the first echo', passes);

  for (const [id, what, address] of [
    ['none', 'without a tunnel', LOOPBACK],
    ['tunnel', 'through agent, relay and connector', VIRTUAL_IP],
  ] as const) {
    await roundTrips(host, address, ECHO_PORT, ECHOES / 5);
    const busy = await roundTrips(host, address, ECHO_PORT, ECHOES);
    add(`echo-${id}-p50`, `UDP echo of 64 bytes, ${what}, one after the other, p50`, 'µs', busy.p50);
    add(`echo-${id}-p95`, `UDP echo of 64 bytes, ${what}, one after the other, p95`, 'µs', busy.p95);
    const spaced = await roundTrips(host, address, ECHO_PORT, SPACED_ECHOES, PAUSE);
    add(`echo-spaced-${id}-p50`, `UDP echo of 64 bytes, ${what}, every ${PAUSE} ms, p50`, 'µs', spaced.p50);
    let best = 0;
    for (const offered of OFFERED) {
      const rate = (offered * SIZE * 8) / 1e6;
      const target = { user: host, address, port: IPERF_PORT };
      const { deliveredMbits } = await measureUdp(target, { rate, size: SIZE, seconds: SECONDS });
      best = Math.max(best, (deliveredMbits * 1e6) / 8 / SIZE);
    }
    add(`datagrams-${id}`, `datagrams of ${SIZE} bytes that arrived, ${what}, best rate`, '/s', best);
  }

  for (const role of ['agent', 'relay', 'connector'] as const) {
    const gaps: number[] = [];
    for (let round = 0; round < RESTARTS; round++) gaps.push(await gapOf(network, role));
    add(
      `restart-${role}`,
      `${role} killed and started again: nothing passes for (median)`,
      'ms',
      summarize(gaps)!.median,
    );
  }
  await network.stop();

  async function gapOf(running: SallyportNetwork, role: RoleName): Promise<number> {
    const probing = longestGap(host, VIRTUAL_IP, ECHO_PORT, RESTART_SECONDS);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await running.restart(role);
    const { longestGap: gap } = await probing;
    await pollUntil('an echo again', passes);
    return gap - GAP_MS;
  }
} finally {
  await lab.destroy();
  rmSync(folder, { recursive: true, force: true });
}
figures.finish('node bench/loopback.mjs');
