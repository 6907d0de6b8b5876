/** One run: a new laboratory, one subject in it, every row of the asked links measured once, everything removed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeError, SallyportError } from '../src/base/error.js';
import { Seconds } from '../src/base/time.js';
import type { ImpairedLink } from '../test/lab/impaired-link.js';
import { Lab } from '../test/lab/lab.js';
import type { LabProcess } from '../test/lab/process.js';
import { program, startIperf, startTcp } from '../test/lab/services.js';
import { impairUplink, standardTopology } from '../test/lab/topology.js';
import { Lockstep } from './lockstep.js';
import { commitOf, loadAverage, otherLoad } from './machine.js';
import { deviceBytes } from './measure/device.js';
import { measureTcp, measureUdp, type UdpRun } from './measure/iperf.js';
import { measurePing, type PingResult } from './measure/ping.js';
import { groupUsage, machineTicks, ownTicks, stolenTicks, TICKS_PER_SECOND } from './measure/usage.js';
import * as plans from './plan.js';
import { cleanId, DIRECTIONS, TCP_FLOWS, TUNNEL_MTU } from './plan.js';
import { jainIndex, quantile } from './statistics.js';
import type { RunningSubject, Subject, SubjectContext } from './subject.js';

const IPERF_PORT = 5201;
const ECHO_PORT = 7;
const READY_TIMEOUT = Seconds(60);
const BYTES_PER_GB = 1e9;
/** Of the asked rate: a sender that is slower has not tried what the row says, so nothing is said about loss. */
const OFFERED_SHARE = 0.9;
/** The user's device towards the router, in the standard topology. */
const UNDERLAY = 'to-net';

export interface RunRecord {
  readonly subject: string;
  readonly round: number;
  readonly commit: string;
  readonly startedAt: string;
  readonly loadAverage: number;
  /** Cores that others kept busy just before. */
  readonly otherLoad: number;
  /** Cores that others kept busy during the run, on average; the kernel's own threads count too. */
  loadDuring: number;
  /** Cores that the hypervisor took away during the run, on average. */
  steal: number;
  /** Subjects that ran at the same time, each in a laboratory of its own. */
  readonly beside?: readonly string[];
  /** Row id → value; a row that could not be measured is missing. */
  readonly values: Record<string, number>;
  /** What went wrong, by row id (`start` for the subject itself). */
  readonly errors: Record<string, string>;
}

/** A run while its subject runs. */
interface Measuring {
  readonly context: SubjectContext;
  readonly running: RunningSubject;
  readonly record: RunRecord;
  readonly lockstep: Lockstep | undefined;
}

/** Cores that others may keep busy, before and during a run, without making it one that does not count. */
const TOLERATED_LOAD = 0.35;

/** True when the machine had other things to do: the run is kept in the record and left out of the medians. */
export function isDisturbed(run: RunRecord): boolean {
  return run.otherLoad > TOLERATED_LOAD || run.loadDuring > TOLERATED_LOAD;
}

/** Measures subjects over lossy `links` at the same time, row by row together. */
export async function runBeside(
  subjects: readonly Subject[],
  plan: plans.Plan,
  links: readonly plans.Link[],
  round: number,
): Promise<RunRecord[]> {
  const lockstep = new Lockstep(subjects.length);
  const runs = subjects.map(async (subject) => {
    const others = subjects.filter((one) => one !== subject).map(({ name }) => name);
    try {
      return { ...(await runOnce(subject, plan, links, round, lockstep)), beside: others };
    } finally {
      lockstep.leave();
    }
  });
  return Promise.all(runs);
}

/** Measures one subject over `links`: the clean one, or any number of lossy ones. */
export async function runOnce(
  subject: Subject,
  plan: plans.Plan,
  links: readonly plans.Link[],
  round: number,
  lockstep?: Lockstep,
): Promise<RunRecord> {
  const record: RunRecord = {
    subject: subject.name,
    round,
    commit: commitOf(),
    startedAt: new Date().toISOString(),
    loadAverage: loadAverage(),
    otherLoad: await otherLoad(),
    loadDuring: 0,
    steal: 0,
    values: {},
    errors: {},
  };
  // The load of the others is known before the first of them begins.
  await lockstep?.arrive();
  const started = { at: performance.now(), stolen: stolenTicks(), all: machineTicks(), own: ownTicks() };
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
  const lab = new Lab();
  try {
    const topology = standardTopology(lab, { serviceClosed: false });
    const lossy = links.filter((link) => link.profile !== undefined);
    // Tunnels are made over a perfect link; what is lost then is a matter of luck, not of the row.
    const wire = lossy.length === 0 ? undefined : await impairUplink(topology, 'user', {});
    const context = { topology, mtu: TUNNEL_MTU, folder, iperfPort: IPERF_PORT, echoPort: ECHO_PORT };
    await startIperf(topology.service, { port: IPERF_PORT });
    await startTcp(topology.service, 'echo', { port: ECHO_PORT });
    const begun = performance.now();
    const running = await subject.start(context);
    try {
      await firstByte(context, running);
      const ready = performance.now() - begun;
      checkMtu(running, record);
      const run = { context, running, record, lockstep };
      if (wire === undefined) {
        record.values[cleanId('ready')] = ready;
        await measureClean(run, plan.clean);
      } else {
        for (const link of lossy) await measure(run, link.id, () => measureLossy(run, wire, link, plan.lossy));
      }
      for (const [role, one] of Object.entries(running.processes)) {
        if (!one.running) record.errors[role] = `ended during the run: ${lastWords(one).split('\n').at(-1) ?? ''}`;
      }
    } finally {
      await running.stop();
    }
  } catch (error) {
    record.errors['start'] = describeError(error);
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
    // What the others' programs have used is known when they have ended.
    await lockstep?.arrive();
    const seconds = (performance.now() - started.at) / 1000;
    record.steal = (stolenTicks() - started.stolen) / TICKS_PER_SECOND / seconds;
    const others = machineTicks() - started.all - (ownTicks() - started.own);
    record.loadDuring = Math.max(0, others) / TICKS_PER_SECOND / seconds;
  }
  return record;
}

async function measureClean(run: Measuring, times: plans.Times): Promise<void> {
  const { context, running, record } = run;
  const groups = Object.values(running.processes).map((started) => started.pid);
  const { values } = record;
  await measure(run, cleanId('rtt-first-p50'), async () => {
    values[cleanId('rtt-first-p50')] = quantile((await pings(context, running, times)).rtts, 0.5);
  });
  const before = { own: groupUsage(groups).cpuSeconds, all: machineTicks() };
  const bytes = await measureTcpRows(run, plans.CLEAN, times);
  if (bytes > 0) {
    values[cleanId('cpu-gb')] = (groupUsage(groups).cpuSeconds - before.own) / (bytes / BYTES_PER_GB);
    values[cleanId('cpu-gb-all')] = (machineTicks() - before.all) / TICKS_PER_SECOND / (bytes / BYTES_PER_GB);
  }
  await measureUdpRows(run, plans.CLEAN, times);
  await measureSmallDatagrams(run, times);
  await measure(run, cleanId('rtt-p50'), async () => {
    const { sent, rtts } = await pings(context, running, times);
    values[cleanId('rtt-lost')] = (1 - rtts.length / sent) * 100;
    for (const [row, q] of [
      ['rtt-p50', 0.5],
      ['rtt-p95', 0.95],
      ['rtt-p99', 0.99],
    ] as const) {
      values[cleanId(row)] = quantile(rtts, q);
    }
  });
  values[cleanId('rss')] = groupUsage(groups).peakBytes / 1e6;
}

/** Throws when none is answered. */
async function pings(context: SubjectContext, running: RunningSubject, times: plans.Times): Promise<PingResult> {
  const result = await measurePing(context.topology.user, running.target, times.pings, times.pingIntervalMs);
  if (result.rtts.length === 0) throw new SallyportError('peer', 'BENCH_MEASUREMENT_FAILED', 'no ping was answered');
  return result;
}

async function measureLossy(run: Measuring, wire: ImpairedLink, link: plans.Link, times: plans.Times): Promise<void> {
  await wire.set(link.profile ?? {}, run.record.round + 1);
  await measureTcpRows(run, link, times);
  await measureUdpRows(run, link, times);
}

/** Returns how many payload bytes arrived. */
async function measureTcpRows(run: Measuring, link: plans.Link, times: plans.Times): Promise<number> {
  const { context, running, record, lockstep } = run;
  const { user } = context.topology;
  const target = { user, address: running.target, port: context.iperfPort };
  let bytes = 0;
  const passed = carried(context, running);
  for (const flows of TCP_FLOWS) {
    for (const direction of DIRECTIONS) {
      const row = plans.tcpId(link.id, flows, direction);
      await lockstep?.arrive();
      await measure(run, row, async () => {
        const { congestion } = link;
        const result = await measureTcp(target, { flows, direction, seconds: times.tcpSeconds, congestion });
        record.values[row] = result.mbits;
        if (flows > 1) record.values[plans.fairId(link.id, flows, direction)] = jainIndex(result.flows);
        bytes += result.bytes;
      });
    }
  }
  const problem = passed(bytes);
  if (problem !== undefined) record.errors[`${link.id}/carried`] = problem;
  return bytes;
}

async function measureUdpRows(run: Measuring, link: plans.Link, times: plans.Times): Promise<void> {
  for (const rate of times.udpRates) {
    const rows = { delivered: plans.udpId(link.id, rate, 'delivered'), loss: plans.udpId(link.id, rate, 'loss') };
    await measureDatagrams(run, rows, { rate, size: plans.UDP_SIZE, seconds: times.udpSeconds }, 1);
  }
}

async function measureSmallDatagrams(run: Measuring, times: plans.Times): Promise<void> {
  const rows = { delivered: plans.smallId('delivered'), loss: plans.smallId('loss') };
  const thousand = plans.SMALL_SIZE * 8e-3;
  const udp = { rate: plans.SMALL_RATE * thousand, size: plans.SMALL_SIZE, seconds: times.udpSeconds };
  await measureDatagrams(run, rows, udp, thousand);
}

/** `unit`: Mbit/s that one of the row's unit is. */
async function measureDatagrams(
  run: Measuring,
  rows: Readonly<Record<'delivered' | 'loss', string>>,
  udp: UdpRun,
  unit: number,
): Promise<void> {
  const { context, running, record, lockstep } = run;
  const { user } = context.topology;
  await lockstep?.arrive();
  await measure(run, rows.delivered, async () => {
    const result = await measureUdp({ user, address: running.target, port: context.iperfPort }, udp);
    record.values[rows.delivered] = result.deliveredMbits / unit;
    if (result.offeredMbits < udp.rate * OFFERED_SHARE) {
      const message = `the sender managed ${result.offeredMbits.toFixed(0)} of ${udp.rate} Mbit/s`;
      throw new SallyportError('environment', 'BENCH_MEASUREMENT_FAILED', message);
    }
    record.values[rows.loss] = result.lossPercent;
  });
}

async function measure(run: Measuring, row: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    run.record.errors[row] = describeError(error).split('\n')[0]!;
  }
}

/** Until the end: whether the payload went through the tunnel's device and over the wire, and not some other way. */
function carried(context: SubjectContext, running: RunningSubject): (payload: number) => string | undefined {
  const { user } = context.topology;
  const devices = [{ host: user, name: UNDERLAY }, ...(running.device === undefined ? [] : [running.device])];
  const before = devices.map(({ host, name }) => deviceBytes(host, name));
  return (payload) => {
    const short = devices.filter(({ host, name }, index) => deviceBytes(host, name) - before[index]! < payload);
    if (short.length === 0) return undefined;
    return `${payload} bytes arrived, but fewer went through ${short.map(({ name }) => name).join(' and ')}`;
  };
}

/** A tunnel with larger packets than the others' would win for that alone. */
function checkMtu(running: RunningSubject, record: RunRecord): void {
  if (running.device === undefined) return;
  const { host, name } = running.device;
  const mtu = Number(/ mtu (\d+) /.exec(host.ip('-o', 'link', 'show', 'dev', name))?.[1]);
  if (mtu !== TUNNEL_MTU) record.errors['mtu'] = `the tunnel's MTU is ${mtu}, not ${TUNNEL_MTU}`;
}

/** Until one byte has gone to the service through the subject and come back. Throws when one of its programs ends. */
async function firstByte(context: SubjectContext, running: RunningSubject): Promise<void> {
  const { user } = context.topology;
  const seconds = String(READY_TIMEOUT / Seconds(1));
  const client = user.spawn(program('first-byte', running.target, String(context.echoPort), '--seconds', seconds));
  const roles = Object.entries(running.processes);
  const ends = roles.map(async ([role, started]) => {
    await started.exited;
    throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', `${role} ended: ${lastWords(started)}`);
  });
  try {
    const { code } = await Promise.race([client.exited, ...ends]);
    if (code === 0) return;
    const said = roles.map(([role, started]) => `${role}: ${lastWords(started)}`).join('\n');
    throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', `no byte through ${running.target}\n${said}`);
  } finally {
    await client.stop();
  }
}

function lastWords(started: LabProcess): string {
  return (started.stderr.trim() || started.stdout.trim()).slice(-500);
}
