/**
 * What idle relay connections cost: the relay's own program on loopback, N enrolled agents connected to it from another process,
 * who then do nothing for a while but keep their connections alive. Memory is the relay's resident size, as the kernel counts it.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SallyportError } from '../src/base/error.js';
import { Seconds } from '../src/base/time.js';
import { askLocal } from '../src/os/local-control.js';
import type { RelayThreadStatus } from '../src/relay/thread-protocol.js';
import { enrolCrowd } from '../test/lab/enrolled.js';
import { run } from '../test/lab/host.js';
import { LabProcess } from '../test/lab/process.js';
import { helpFirst } from './arguments.js';
import { Figures } from './figures.js';
import { IdleClients } from './idle-clients.js';
import { groupUsage } from './measure/usage.js';
import { sampleProcess } from './soak/sample.js';
import { PROGRAM } from './subjects/sallyport-network.js';

/** A relay takes no more. */
const MOST = 20_000;
/** From which number on a connection's cost is taken: what the first ones cost is code being compiled. */
const FEW = 100;
/** After connections were made, before memory is read. */
const SETTLE_MS = 2000;

helpFirst(`node bench/relay-idle.mjs [--connections N] [--idle SECONDS] [--json] [--out FILE]
  --connections  how many, ${FEW + 1} to ${MOST} (default 10000)
  --idle         seconds in which nothing happens (default 60)
  --json         prints the JSON document instead of the table
  --out          where the JSON document goes
  --node-option  an option for the relay's Node, for profiles; may be repeated`);
const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '10000' },
    idle: { type: 'string', default: '60' },
    json: { type: 'boolean', default: false },
    out: { type: 'string' },
    /** For the relay's Node; for profiles. */
    'node-option': { type: 'string', multiple: true, default: [] },
  },
});
const connections = whole('connections', values.connections, FEW + 1, MOST);
const idleSeconds = whole('idle', values.idle, 1, 3600);
const figures = new Figures(values);
const add = figures.add.bind(figures);

const folder = mkdtempSync(join(tmpdir(), 'sallyport-idle-'));
let relay: LabProcess | undefined;
try {
  const quic = `127.0.0.1:${await freePort('udp')}`;
  const control = `127.0.0.1:${await freePort('tcp')}`;
  const operate = (...argv: string[]): string => run([process.execPath, PROGRAM, ...argv, '--dir', folder]);
  operate('init', '--name', 'bench', '--relay', quic, '--control', control);
  const service = ['--service', 'web=tcp://127.0.0.1:80', '--allow', 'staff'];
  operate('invite', 'connector', 'office', ...service);
  const dir = join(folder, 'relay');
  const crowd = await enrolCrowd({
    count: connections,
    group: 'staff',
    operatorFolder: folder,
    relayFolder: dir,
    sharedKey: true,
  });
  const listen = ['--listen', quic, '--control', control, '--probe-port', '0', '--allow-operator-key'];
  relay = new LabProcess([process.execPath, ...values['node-option'], PROGRAM, 'relay', '--dir', dir, ...listen]);
  await relay.waitForLine(/"relay ready"/, { timeout: Seconds(30) });
  await measure(relay, dir, new IdleClients(crowd, quic));
} finally {
  await relay?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
figures.finish(`node bench/relay-idle.mjs${connections === 10_000 ? '' : ` --connections ${connections}`}`);

async function measure(process: LabProcess, dir: string, clients: IdleClients): Promise<void> {
  const { pid } = process;
  const residentAt = async (count: number): Promise<number> => {
    await clients.connect(count);
    await delay(SETTLE_MS);
    const { rssBytes } = sampleProcess(pid);
    add(`rss-${count}`, `relay's memory, ${count} connections`, 'MB', rssBytes / 1e6);
    return rssBytes;
  };
  await residentAt(0);
  const few = await residentAt(FEW);
  if (connections > 1000) await residentAt(1000);
  const begun = performance.now();
  const cpuBefore = groupUsage([pid]).cpuSeconds;
  const already = clients.admitted;
  await clients.connect(connections);
  const seconds = (performance.now() - begun) / 1000;
  const cpu = groupUsage([pid]).cpuSeconds - cpuBefore;
  const all = await residentAt(connections);
  add('admission-rate', 'connections admitted, both ends on one machine', '/s', (connections - already) / seconds);
  add('admission-cpu', "relay's CPU time to admit one", 'ms', (cpu / (connections - already)) * 1000);

  const sample = () => ({
    ...sampleProcess(pid),
    ...groupUsage([pid]),
    datagrams: clients.datagrams,
    at: performance.now(),
  });
  const before = sample();
  await delay(idleSeconds * 1000);
  const after = sample();
  const span = (after.at - before.at) / 1000;
  add('rss-idle', `the same after ${idleSeconds} s of keep-alives`, 'MB', after.rssBytes / 1e6);
  const cost = (bytes: number): number => (bytes - few) / (connections - FEW);
  add('bytes', 'memory of one connection, when all have come', 'bytes', cost(all));
  add('bytes-idle', `memory of one connection, after ${idleSeconds} s`, 'bytes', cost(after.rssBytes));
  add('idle-datagrams', 'keep-alives and their answers', 'datagrams/s', (after.datagrams - before.datagrams) / span);
  add('idle-cpu', 'CPU while all are idle', '% of a core', ((after.cpuSeconds - before.cpuSeconds) / span) * 100);
  add('idle-wake-ups', 'wake-ups while all are idle', '/s', (after.wakeUps - before.wakeUps) / span);

  const { nodes } = (await askLocal(dir, { command: 'status' })) as RelayThreadStatus;
  if (nodes.length !== connections || clients.open !== connections) {
    const ends = [...clients.ended].map(([text, count]) => `${count} × ${text}`).join('; ');
    throw new SallyportError(
      'bug',
      'BENCH_CONNECTIONS',
      `${nodes.length} nodes at the relay, ${clients.open} open; ${ends}`,
    );
  }
  const stopping = performance.now();
  const ended = process.stop('SIGTERM', Seconds(10));
  await clients.allClosed();
  const { code } = await ended;
  add('stop', 'SIGTERM until all have been told and the relay is gone', 'ms', performance.now() - stopping);
  // Not 0: on a machine too busy for so many goodbyes in the two seconds that a role has for its end.
  add('stop-status', 'exit status', '', code ?? -1);
  await clients.stop();
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new SallyportError('caller', 'BENCH_USAGE', `--${name} takes a whole number from ${least} to ${most}`);
}

/** A port of loopback that nobody has now. */
async function freePort(protocol: 'udp' | 'tcp'): Promise<number> {
  if (protocol === 'udp') {
    const socket = createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const { port } = socket.address();
    socket.close();
    return port;
  }
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
