/**
 * The engine alone beside its peers: throughput of one flow and of eight, round trips under half the load, bursts of datagrams.
 *
 *   programs ─ TUN, MTU 1400 ─ subject ─ sockets ─ veth, MTU 1500 ─ server        sallyport, sing-box: in the programs' own namespace
 *   programs ─ TAP in a namespace of theirs ─ subject ─ …                         slirp4netns, pasta: as they are meant to be used
 *
 * Subjects run in turns, so that a busy moment of the machine hits all; every run builds its namespaces anew.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { askLocal } from '../src/os/local-control.js';
import { type Host, run } from '../test/lab/host.js';
import { Lab } from '../test/lab/lab.js';
import type { LabProcess } from '../test/lab/process.js';
import { REPOSITORY, startIperf, startUdpEcho } from '../test/lab/services.js';
import { describeMachine, otherLoad } from './machine.js';
import { measureTcp } from './measure/iperf.js';
import { goPrograms } from './subjects/go-module.js';

const MTU = 1400;
const SERVER = '10.50.0.1';
const [IPERF, ECHO, STORM] = [5201, 7, 9];
const PROBES = 2000;
const STORM_FLOWS = 100;
const STORM_COUNT = 1000;

interface Figures {
  readonly [name: string]: number;
}

/** Where the programs run, and the server; what of the subject is to be ended is the laboratory's. */
interface Place {
  readonly lab: Lab;
  readonly folder: string;
  /** Has the way to the server. */
  readonly user: Host;
  readonly server: Host;
}

interface Subject {
  readonly name: string;
  /** Its version. Throws when it cannot run here. */
  prepare(): Promise<string>;
  /** Resolves to where the programs run, and what the subject says of itself at the end. */
  start(place: Place): Promise<{ readonly programs: Host; readonly end?: () => Promise<Figures> }>;
}

const subjects: readonly Subject[] = [
  {
    name: 'none',
    prepare: async () => 'the same namespaces',
    start: async ({ user }) => ({ programs: user }),
  },
  {
    name: 'sallyport',
    prepare: async () => describeMachine().commit,
    start: async ({ user, folder }) => {
      const dir = join(folder, 'state');
      const argv = ['tun2socks', '--tun', 'bench0', '--mtu', String(MTU), '--direct', '--routes', '--dir', dir];
      const role = user.spawn([process.execPath, join(REPOSITORY, 'dist', 'cli', 'main.js'), ...argv]);
      await said(role, 'tun2socks started');
      return {
        programs: user,
        end: async () => {
          const { metrics } = (await askLocal(dir, { command: 'status' })) as {
            readonly metrics: { readonly values: Figures };
          };
          return metrics.values;
        },
      };
    },
  },
  {
    name: 'sing-box',
    prepare: async () => {
      const { folder, version } = await goPrograms('github.com/sagernet/sing-box', ['cmd/sing-box'], ['with_gvisor']);
      singBox = join(folder, 'sing-box');
      return `${version}, gvisor stack`;
    },
    start: async ({ user, folder }) => {
      const settings = join(folder, 'sing-box.json');
      writeFileSync(
        settings,
        JSON.stringify({
          log: { level: 'warn' },
          inbounds: [
            {
              type: 'tun',
              tag: 'in',
              interface_name: 'bench0',
              address: ['10.83.0.1/30'],
              mtu: MTU,
              auto_route: false,
              stack: 'gvisor',
            },
          ],
          outbounds: [{ type: 'direct', tag: 'out', bind_interface: 'to-server' }],
        }),
      );
      user.spawn([singBox, 'run', '-c', settings]);
      await hasDevice(user, 'bench0');
      for (const half of ['0.0.0.0/1', '128.0.0.0/2', '192.0.0.0/3']) user.ip('route', 'add', half, 'dev', 'bench0');
      return { programs: user };
    },
  },
  {
    name: 'slirp4netns',
    prepare: async () => installed('slirp4netns'),
    start: async (place) => {
      const inner = place.lab.host('inner');
      const path = `/run/netns/${inner.namespace}`;
      place.user.spawn(['slirp4netns', '--configure', `--mtu=${MTU}`, '--netns-type=path', path, 'bench0']);
      await hasDevice(inner, 'bench0');
      return { programs: inner };
    },
  },
  {
    name: 'pasta',
    prepare: async () => installed('pasta'),
    start: async (place) => {
      const inner = place.lab.host('inner');
      const path = `/run/netns/${inner.namespace}`;
      const flags = ['--config-net', '--foreground', '--mtu', String(MTU), '--ns-ifname', 'bench0', '--runas', '0'];
      place.user.spawn(['pasta', ...flags, '--netns', path]);
      await hasDevice(inner, 'bench0');
      return { programs: inner };
    },
  },
];
let singBox = '';

const option = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : process.argv[at + 1]!;
};
const rounds = Number(option('--rounds', '3'));
const seconds = Number(option('--seconds', '5'));
const only = option('--only', '').split(',').filter(Boolean);

async function said(process: LabProcess, text: string): Promise<void> {
  await process.waitFor(text, {}, () => (`${process.stdout}${process.stderr}`.includes(text) ? true : undefined));
}

async function hasDevice(host: Host, device: string): Promise<void> {
  for (let n = 0; n < 100; n++) {
    const { code, stdout } = await host.exec(['ip', '-4', 'address', 'show', 'dev', device], { check: false });
    if (code === 0 && stdout.includes('inet ')) return;
    await delay(50);
  }
  throw new Error(`${device} does not appear`);
}

function installed(name: string): string {
  const path = [`/usr/bin/${name}`, `/usr/sbin/${name}`].find((one) => existsSync(one));
  if (path === undefined) throw new Error(`${name} is not installed (apt-get install slirp4netns passt)`);
  return 'of the distribution';
}

async function measure(subject: Subject): Promise<Figures> {
  const folder = mkdtempSync(join(tmpdir(), 'tun2socks-bench-'));
  const lab = new Lab();
  try {
    const user = lab.host('user');
    const server = lab.host('server');
    lab.link({ host: user, addresses: ['10.1.0.1/24'] }, { host: server, addresses: ['10.1.0.2/24'] });
    server.ip('address', 'add', `${SERVER}/32`, 'dev', 'lo');
    user.ip('route', 'add', 'default', 'via', '10.1.0.2');
    await startIperf(server, { address: SERVER });
    await startUdpEcho(server, { address: SERVER, port: ECHO });
    const storm = server.spawn(
      [process.execPath, join(REPOSITORY, 'bench/programs/udp-storm.mjs'), 'server', String(STORM)],
      {
        interactive: true,
      },
    );
    await said(storm, 'listening');
    const { programs, end } = await subject.start({ lab, folder, user, server });
    return { ...(await figures(programs, server, storm)), ...slowTurns(await end?.()) };
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function figures(programs: Host, server: Host, storm: LabProcess): Promise<Figures> {
  const target = { user: programs, address: SERVER, port: IPERF };
  const found: Record<string, number> = {};
  for (const flows of [1, 8]) {
    for (const direction of ['up', 'down'] as const) {
      const { mbits } = await measureTcp(target, { flows, direction, seconds });
      found[`${direction} ${flows} Mbit/s`] = mbits;
    }
  }
  const idle = await roundTrips(programs);
  // Half of what one flow got, while the questions are asked.
  const half = Math.round(found['up 1 Mbit/s']! / 2);
  const load = programs.spawn(['iperf3', '-c', SERVER, '-b', `${half}M`, '-t', '60']);
  await delay(1000);
  const loaded = await roundTrips(programs);
  load.killGroup();
  await load.exited;
  found['idle p50 µs'] = idle.p50;
  found['idle p99 µs'] = idle.p99;
  found['half load p50 µs'] = loaded.p50;
  found['half load p99 µs'] = loaded.p99;
  return { ...found, ...(await bursts(programs, server, storm)) };
}

async function roundTrips(programs: Host): Promise<{ readonly p50: number; readonly p99: number }> {
  const argv = [
    join(REPOSITORY, 'bench/programs/udp-probe.mjs'),
    SERVER,
    String(ECHO),
    '--count',
    String(PROBES),
    '--pause',
    '1',
  ];
  const { stdout } = await programs.exec([process.execPath, ...argv]);
  return JSON.parse(stdout) as { p50: number; p99: number };
}

async function bursts(programs: Host, server: Host, storm: LabProcess): Promise<Figures> {
  const before = receiveErrors(server);
  const argv = ['send', SERVER, String(STORM), '--flows', String(STORM_FLOWS), '--count', String(STORM_COUNT)];
  const script = join(REPOSITORY, 'bench/programs/udp-storm.mjs');
  const { stdout } = await programs.exec([process.execPath, script, ...argv]);
  const { sent } = JSON.parse(stdout) as { sent: number };
  await delay(1500);
  storm.write('\n');
  await said(storm, 'received');
  const { received } = JSON.parse(storm.stdout.split('\n').find((line) => line.startsWith('{'))!) as {
    received: number;
  };
  return {
    'datagrams sent': sent,
    'datagrams delivered': received,
    'lost at the server’s socket': receiveErrors(server) - before,
    'lost before the device': droppedByDevice(programs),
  };
}

/** Datagrams for which the server's socket had no room (RFC 4113: udpInErrors and Linux' RcvbufErrors). */
function receiveErrors(server: Host): number {
  const text = run(['ip', 'netns', 'exec', server.namespace, 'cat', '/proc/net/snmp']);
  const [names, values] = text.split('\n').filter((line) => line.startsWith('Udp:'));
  return Number(values!.split(' ')[names!.split(' ').indexOf('RcvbufErrors')]);
}

function droppedByDevice(programs: Host): number {
  const device = programs.ip('-o', 'link', 'show').includes('bench0') ? 'bench0' : 'to-server';
  const [link] = JSON.parse(programs.ip('-j', '-s', 'link', 'show', 'dev', device)) as [
    { readonly stats64: { readonly tx: { readonly dropped: number } } },
  ];
  return link.stats64.tx.dropped;
}

function slowTurns(values: Figures | undefined): Figures {
  if (values === undefined) return {};
  const drops = Object.entries(values)
    .filter(([name]) => name.startsWith('drops') || name.startsWith('backpressure') || name === 'udp_send_errors')
    .reduce((sum, [, value]) => sum + value, 0);
  return {
    'counted drops': drops,
    turns: values['turns']!,
    'turns over 5 ms': values['slow_turns{over=5}']!,
    'longest turn µs': Math.round(values['longest_turn_microseconds']!),
  };
}

const results: Record<string, Figures[]> = {};
const versions: Record<string, string> = {};
for (const subject of subjects) {
  if (only.length > 0 && !only.includes(subject.name)) continue;
  try {
    versions[subject.name] = await subject.prepare();
    results[subject.name] = [];
  } catch (error) {
    console.error(`${subject.name} is left out: ${(error as Error).message}`);
  }
}
const busy = await otherLoad();
for (let round = 0; round < rounds; round++) {
  for (const subject of subjects.filter(({ name }) => name in results)) {
    try {
      results[subject.name]!.push(await measure(subject));
      console.error(`round ${round + 1}: ${subject.name} done`);
    } catch (error) {
      console.error(`round ${round + 1}: ${subject.name} failed: ${(error as Error).message}`);
    }
  }
}
print();
const file = option('--json', '');
if (file !== '') {
  writeFileSync(
    file,
    `${JSON.stringify({ machine: describeMachine(), busy, seconds, versions, results }, undefined, 2)}\n`,
  );
  console.error(`written: ${file} (${readFileSync(file).length} bytes)`);
}

function print(): void {
  const names = Object.keys(results);
  const rows = [...new Set(names.flatMap((name) => results[name]!.flatMap((one) => Object.keys(one))))];
  console.log(`| | ${names.join(' | ')} |`);
  console.log(`|---|${names.map(() => '---:|').join('')}`);
  for (const row of rows) {
    const cells = names.map((name) => {
      const values = results[name]!.map((one) => one[row]).filter((value) => value !== undefined);
      values.sort((a, b) => a - b);
      const middle = values[values.length >> 1];
      return middle === undefined
        ? ''
        : `${Math.round(middle)} (${Math.round(values[0]!)}–${Math.round(values.at(-1)!)})`;
    });
    console.log(`| ${row} | ${cells.join(' | ')} |`);
  }
  for (const [name, version] of Object.entries(versions)) console.log(`${name}: ${version}`);
}
