/**
 * What the packet threads of agent, relay and connector allocate per inner packet of a TCP flow each way, by function, from V8's
 * sampling heap profiler; and the share of their CPU that collecting it takes, measured before the profiler runs.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SallyportError } from '../src/base/error.js';
import { Lab } from '../test/lab/lab.js';
import { startIperf } from '../test/lab/services.js';
import { ADDRESSES, standardTopology } from '../test/lab/topology.js';
import type { HeapReport, HeapRow } from './heap-report.js';
import { describeMachine } from './machine.js';
import { measureTcp } from './measure/iperf.js';
import { measurePing } from './measure/ping.js';
import { type RoleName, SallyportNetwork, VIRTUAL_IP } from './subjects/sallyport-network.js';

const PORT = 5201;
const SECONDS = 6;
/** TCP payload of an inner packet: 1400 less IPv4, TCP and timestamps. */
const PAYLOAD = 1348;
/** Functions listed per role and direction: those with at least so many bytes per packet. */
const LEAST_BYTES = 0.25;
const ROLES: readonly RoleName[] = ['agent', 'relay', 'connector'];
const POLLS = 100;
const POLL_MS = 100;

interface ProfileNode {
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly selfSize: number;
  readonly children: readonly ProfileNode[];
}

interface RoleProfile {
  readonly pauseMs: number;
  readonly cpuSeconds: number;
  readonly head: ProfileNode;
}

const preload = fileURLToPath(new URL('programs/heap-profile.mjs', import.meta.url));
const rows: HeapRow[] = [];
for (const direction of ['up', 'down'] as const) rows.push(...(await measure(direction)));
const report: HeapReport = {
  bench: 'heap',
  date: new Date().toISOString(),
  command: 'node bench/heap.mjs',
  machine: describeMachine(),
  rows,
};
const out = process.argv.indexOf('--out');
if (out > 0) writeFileSync(process.argv[out + 1]!, `${JSON.stringify(report, null, 1)}\n`);
if (process.argv.includes('--json')) console.log(JSON.stringify(report));
else for (const row of rows) print(row);

async function measure(direction: 'up' | 'down'): Promise<HeapRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-heap-'));
  process.env['BENCH_HEAP'] = folder;
  const lab = new Lab();
  try {
    const topology = standardTopology(lab, { serviceClosed: false });
    await startIperf(topology.service, { port: PORT });
    const { user, relay, service } = topology;
    const places = { user, relay, service, relayAddress: ADDRESSES.relay.v4, serviceAddress: ADDRESSES.service.v4 };
    const network = await SallyportNetwork.start(places, folder, ['--import', preload]);
    await until(async () => (await measurePing(user, VIRTUAL_IP, 1, 10)).rtts.length > 0);
    const target = { user, address: VIRTUAL_IP, port: PORT };
    const run = () => measureTcp(target, { flows: 1, direction, seconds: SECONDS });
    await run();
    writeFileSync(join(folder, 'start'), '');
    await run();
    writeFileSync(join(folder, 'sample'), '');
    const { bytes } = await run();
    writeFileSync(join(folder, 'stop'), '');
    const packets = bytes / PAYLOAD;
    const files = ROLES.map((role) => join(folder, `${role}.json`));
    await until(async () => files.every((file) => existsSync(file)));
    await network.stop();
    return ROLES.map((role, i) =>
      rowOf(role, direction, JSON.parse(readFileSync(files[i]!, 'utf8')) as RoleProfile, packets),
    );
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let poll = 0; poll < POLLS; poll++) {
    if (await isSo()) return;
    await delay(POLL_MS);
  }
  throw new SallyportError('peer', 'BENCH_MEASUREMENT_FAILED', 'the network or its profiles did not come');
}

/** A built-in function is listed under its caller. */
function rowOf(role: RoleName, direction: 'up' | 'down', profile: RoleProfile, packets: number): HeapRow {
  const sizes = new Map<string, number>();
  let total = 0;
  const walk = (node: ProfileNode, caller: string): void => {
    const { functionName, url } = node.callFrame;
    const file = url.includes('/dist/') ? url.split('/dist/')[1]!.replace(/\.js$/, '') : '';
    const name = functionName || '(anonymous)';
    const own = file === '' ? `${caller} › ${name}` : `${file} ${name}`;
    if (node.selfSize > 0) {
      sizes.set(own, (sizes.get(own) ?? 0) + node.selfSize);
      total += node.selfSize;
    }
    for (const child of node.children) walk(child, file === '' ? caller : own);
  };
  walk(profile.head, 'node');
  const functions = [...sizes]
    .map(([name, size]) => ({ name, bytesPerPacket: size / packets }))
    .filter((one) => one.bytesPerPacket >= LEAST_BYTES)
    .sort((a, b) => b.bytesPerPacket - a.bytesPerPacket);
  const collection = profile.pauseMs / 10 / profile.cpuSeconds;
  return { role, direction, bytesPerPacket: total / packets, collection, functions };
}

function print(row: HeapRow): void {
  const { role, direction, bytesPerPacket, collection } = row;
  console.log(
    `${role}, ${direction}: ${bytesPerPacket.toFixed(1)} bytes per packet, collection ${collection.toFixed(2)} % of its CPU`,
  );
  for (const one of row.functions) console.log(`  ${one.bytesPerPacket.toFixed(2).padStart(7)}  ${one.name}`);
}
