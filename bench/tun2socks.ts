/**
 * The engine alone beside its peers: throughput of one flow and of eight, round trips under half the load, bursts of datagrams,
 * and bursts beside eight flows; of Sallyport also how late the turns of its loop begin.
 *
 *   programs ─ TUN, MTU 1400 ─ subject ─ sockets ─ veth, MTU 1500 ─ server        sallyport, sing-box: in the programs' own namespace
 *   programs ─ TAP in a namespace of theirs ─ subject ─ …                         slirp4netns, pasta: as they are meant to be used
 *
 * Subjects run in turns, so that a busy moment of the machine hits all; every run builds its namespaces anew.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SallyportError } from '../src/base/error.js';
import { LAG_BOUNDS } from '../src/engine/loop-lag.js';
import { askLocal } from '../src/os/local-control.js';
import { type Host, run } from '../test/lab/host.js';
import { Lab } from '../test/lab/lab.js';
import type { LabProcess } from '../test/lab/process.js';
import { program, REPOSITORY, startIperf, startQuicFile, startUdpEcho } from '../test/lab/services.js';
import { quicKeys } from '../test/quic/harness.js';
import { asProgram } from './arguments.js';
import { describeMachine, otherLoad } from './machine.js';
import { measureTcp } from './measure/iperf.js';
import { goPrograms } from './subjects/go-module.js';
import { type Options, parseOptions } from './tun2socks-options.js';
import { type RunFigures as Figures, type Tun2socksReport, tun2socksTable } from './tun2socks-report.js';

const MTU = 1400;
const SERVER = '10.50.0.1';
const [IPERF, ECHO, STORM] = [5201, 7, 9];
const PROBES = 2000;
/** Of the upload that says what half the load is. */
const LOAD_SECONDS = 2;
const STORM_FLOWS = 100;
const STORM_COUNT = 1000;
const QUIC = `${SERVER}:4433`;
const QUIC_BYTES = 200e6;

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
  /** Resolves to where the programs run, and the subject's own counters when asked. */
  start(place: Place): Promise<{ readonly programs: Host; readonly counters?: () => Promise<Figures> }>;
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
      const role = user.spawn([process.execPath, join(REPOSITORY, 'program', 'cli', 'main.js'), ...argv]);
      await said(role, 'tun2socks started');
      return {
        programs: user,
        counters: async () => {
          const { metrics } = (await status(dir)) as { readonly metrics: { readonly values: Figures } };
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

async function said(process: LabProcess, text: string): Promise<void> {
  await process.waitFor(text, {}, () => (`${process.stdout}${process.stderr}`.includes(text) ? true : undefined));
}

/** Asks again for a while: the role answers a moment after it says that it has started. */
async function status(dir: string): Promise<unknown> {
  for (let left = 100; ; left--) {
    try {
      return await askLocal(dir, { command: 'status' });
    } catch (error) {
      if (left === 0) throw error;
      await delay(50);
    }
  }
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

async function measure(subject: Subject, options: Options): Promise<Figures> {
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
    const { programs, counters } = await subject.start({ lab, folder, user, server });
    const found: Record<string, number> = {};
    for (const part of options.parts) {
      const before = await counters?.();
      if (part === 'tcp') Object.assign(found, await streams(programs, options.seconds));
      else if (part === 'ping') Object.assign(found, await pings(programs, found['up 1 Mbit/s']));
      else if (part === 'bursts') Object.assign(found, await bursts(programs, server));
      else if (part === 'mixed') Object.assign(found, await mixed(programs, server, options.seconds));
      else Object.assign(found, await quic(programs, server, folder));
      if (part === 'tcp' || part === 'mixed') Object.assign(found, loopLag(part, before, await counters?.()));
    }
    return { ...found, ...slowTurns(await counters?.()) };
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function streams(programs: Host, seconds: number): Promise<Figures> {
  const target = { user: programs, address: SERVER, port: IPERF };
  const found: Record<string, number> = {};
  for (const flows of [1, 8]) {
    for (const direction of ['up', 'down'] as const) {
      const { mbits } = await measureTcp(target, { flows, direction, seconds });
      found[`${direction} ${flows} Mbit/s`] = mbits;
    }
  }
  return found;
}

/** @param upload Mbit/s of one flow, half of which is the load; measured here when absent. */
async function pings(programs: Host, upload: number | undefined): Promise<Figures> {
  const target = { user: programs, address: SERVER, port: IPERF };
  const whole = upload ?? (await measureTcp(target, { flows: 1, direction: 'up', seconds: LOAD_SECONDS })).mbits;
  const idle = await roundTrips(programs);
  // The first of them find code that no compiler has seen yet.
  const later = await roundTrips(programs);
  const load = programs.spawn(['iperf3', '-c', SERVER, '-b', `${Math.round(whole / 2)}M`, '-t', '60']);
  await delay(1000);
  const loaded = await roundTrips(programs);
  load.killGroup();
  await load.exited;
  return {
    'idle p50 µs': idle.p50,
    'idle p99 µs': idle.p99,
    [`idle p50 µs, the next ${PROBES}`]: later.p50,
    [`idle p99 µs, the next ${PROBES}`]: later.p99,
    'half load p50 µs': loaded.p50,
    'half load p99 µs': loaded.p99,
  };
}

/** A download over QUIC: what a program's datagrams get through. */
async function quic(programs: Host, server: Host, folder: string): Promise<Figures> {
  const keys = join(folder, 'keys.json');
  writeFileSync(keys, JSON.stringify(await quicKeys()));
  await startQuicFile(server, QUIC, keys);
  const { stdout } = await programs.exec(
    program('quic-file', 'get', QUIC, '--keys', keys, '--bytes', String(QUIC_BYTES)),
  );
  const { bytes, seconds } = JSON.parse(stdout) as { readonly bytes: number; readonly seconds: number };
  return { 'QUIC down Mbit/s': (bytes * 8) / seconds / 1e6 };
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

async function bursts(programs: Host, server: Host): Promise<Figures> {
  const script = join(REPOSITORY, 'bench/programs/udp-storm.mjs');
  const storm = server.spawn([process.execPath, script, 'server', String(STORM)], { interactive: true });
  await said(storm, 'listening');
  const before = receiveErrors(server);
  const argv = ['send', SERVER, String(STORM), '--flows', String(STORM_FLOWS), '--count', String(STORM_COUNT)];
  const { stdout } = await programs.exec([process.execPath, script, ...argv]);
  const { sent, seconds } = JSON.parse(stdout) as { readonly sent: number; readonly seconds: number };
  await delay(1500);
  storm.write('\n');
  await said(storm, 'received');
  const arrived = JSON.parse(storm.stdout.split('\n').find((line) => line.startsWith('{'))!) as {
    readonly received: number;
    readonly seconds: number;
  };
  storm.killGroup();
  await storm.exited;
  return {
    'datagrams sent': sent,
    'datagrams sent/s': sent / seconds,
    'datagrams delivered': arrived.received,
    'datagrams delivered/s': arrived.seconds > 0 ? arrived.received / arrived.seconds : 0,
    'lost at the server’s socket': receiveErrors(server) - before,
    'lost before the device': droppedByDevice(programs),
  };
}

/** Eight flows down, and the bursts while they run. */
async function mixed(programs: Host, server: Host, seconds: number): Promise<Figures> {
  const target = { user: programs, address: SERVER, port: IPERF };
  const flows = measureTcp(target, { flows: 8, direction: 'down', seconds: seconds + 1 });
  // A failure is seen below, when the bursts are over.
  flows.catch(() => {});
  await delay(500);
  const found = await bursts(programs, server);
  const { mbits } = await flows;
  const named = Object.entries(found).map(([name, value]) => [`mixed: ${name}`, value] as const);
  return { 'mixed: down 8 Mbit/s': mbits, ...Object.fromEntries(named) };
}

/** Between two looks at the counters: the bound that so many of the turns did not exceed, and how many turns there were. */
function loopLag(part: string, before: Figures | undefined, after: Figures | undefined): Figures {
  if (before === undefined || after === undefined) return {};
  const more = (name: string): number => after[name]! - before[name]!;
  const turns = more('turns');
  const atMost = (share: number): number =>
    LAG_BOUNDS.find((bound) => more(`late_turns{over=${bound / 1_000}}`) <= (1 - share) * turns) ?? Number.NaN;
  return {
    [`${part}: turns`]: turns,
    [`${part}: loop lag p50 at most µs`]: atMost(0.5),
    [`${part}: loop lag p99 at most µs`]: atMost(0.99),
    [`${part}: turns over 5 ms late`]: more('late_turns{over=5}'),
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
    'longest turn µs': values['longest_turn_microseconds']!,
    'longest loop lag µs': values['loop_lag_microseconds{quantile=1}']!,
  };
}

const results: Record<string, Figures[]> = {};
const versions: Record<string, string> = {};
await asProgram(async () => {
  const options = parseOptions(subjects.map(({ name }) => name));
  if (options === undefined) return 0;
  const reason = Lab.unavailable();
  if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
  for (const subject of subjects.filter(({ name }) => options.subjects.includes(name))) {
    try {
      versions[subject.name] = await subject.prepare();
      results[subject.name] = [];
    } catch (error) {
      versions[subject.name] = `left out: ${(error as Error).message.split('\n')[0]}`;
      console.error(`${subject.name} is ${versions[subject.name]}`);
    }
  }
  const busy = await otherLoad();
  let failures = 0;
  for (let round = 1; round <= options.rounds; round++) {
    for (const subject of subjects.filter(({ name }) => name in results)) {
      try {
        results[subject.name]!.push(await measure(subject, options));
        console.error(`round ${round}: ${subject.name} done`);
      } catch (error) {
        failures++;
        console.error(`round ${round}: ${subject.name} failed: ${(error as Error).message}`);
      }
    }
  }
  const { seconds, parts } = options;
  const command = ['node bench/tun2socks.mjs', ...process.argv.slice(2)].join(' ');
  const date = new Date().toISOString();
  const document: Tun2socksReport = {
    date,
    command,
    machine: describeMachine(),
    busy,
    seconds,
    parts,
    versions,
    results,
  };
  const text = `${JSON.stringify(document, undefined, 2)}\n`;
  if (options.json) process.stdout.write(text);
  else console.log(tun2socksTable(document));
  if (options.out !== undefined) {
    writeFileSync(options.out, text);
    console.error(`written to ${options.out}`);
  }
  return failures === 0 && Object.keys(results).length > 0 ? 0 : 1;
});
