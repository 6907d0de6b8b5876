/** One run: a new laboratory, one subject in it, every row measured once, everything removed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeError, SallyportError } from '../src/base/error.js';
import { Seconds } from '../src/base/time.js';
import { Lab } from '../test/lab/lab.js';
import { type LabProcess, pollUntil } from '../test/lab/process.js';
import { program, startIperf, startTcp } from '../test/lab/services.js';
import { standardTopology } from '../test/lab/topology.js';
import { loadAverage, otherLoad } from './machine.js';
import { measureTcp, measureUdp } from './measure/iperf.js';
import { measurePing } from './measure/ping.js';
import { groupUsage, machineTicks, stolenTicks, TICKS_PER_SECOND } from './measure/usage.js';
import { type Plan, TUNNEL_MTU, tcpId, UDP_SIZE, udpId } from './plan.js';
import { quantile } from './statistics.js';
import type { RunningSubject, Subject, SubjectContext } from './subject.js';

const IPERF_PORT = 5201;
const ECHO_PORT = 7;
const READY_TIMEOUT = Seconds(60);
const BYTES_PER_GB = 1e9;

export interface RunRecord {
  readonly subject: string;
  readonly round: number;
  readonly startedAt: string;
  readonly loadAverage: number;
  /** Cores that others kept busy just before. */
  readonly otherLoad: number;
  /** Cores that the hypervisor took away during the run, on average. */
  steal: number;
  /** Row id → value; a row that could not be measured is missing. */
  readonly values: Record<string, number>;
  /** What went wrong, by row id (`start` for the subject itself). */
  readonly errors: Record<string, string>;
}

export async function runOnce(subject: Subject, plan: Plan, round: number): Promise<RunRecord> {
  const record: RunRecord = {
    subject: subject.name,
    round,
    startedAt: new Date().toISOString(),
    loadAverage: loadAverage(),
    otherLoad: await otherLoad(),
    steal: 0,
    values: {},
    errors: {},
  };
  const started = { at: performance.now(), stolen: stolenTicks() };
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
  const lab = new Lab();
  try {
    const topology = standardTopology(lab, { serviceClosed: false });
    const context = { topology, mtu: TUNNEL_MTU, folder, iperfPort: IPERF_PORT, echoPort: ECHO_PORT };
    await startIperf(topology.service, { port: IPERF_PORT });
    await startTcp(topology.service, 'echo', { port: ECHO_PORT });
    const begun = performance.now();
    const running = await subject.start(context);
    try {
      await firstByte(context, running);
      record.values['ready'] = performance.now() - begun;
      checkMtu(running, record);
      await measureAll(context, running, plan, record);
    } finally {
      await running.stop();
    }
  } catch (error) {
    record.errors['start'] = describeError(error);
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
    const seconds = (performance.now() - started.at) / 1000;
    record.steal = (stolenTicks() - started.stolen) / TICKS_PER_SECOND / seconds;
  }
  return record;
}

async function measureAll(
  context: SubjectContext,
  running: RunningSubject,
  plan: Plan,
  record: RunRecord,
): Promise<void> {
  const { user } = context.topology;
  const target = { user, address: running.target, port: context.iperfPort };
  const groups = Object.values(running.processes).map((started) => started.pid);
  const { values } = record;

  await measure(record, 'rtt-p50', async () => {
    const { sent, rtts } = await measurePing(user, running.target, plan.pings, plan.pingIntervalMs);
    values['rtt-lost'] = (1 - rtts.length / sent) * 100;
    if (rtts.length === 0) throw new SallyportError('peer', 'BENCH_MEASUREMENT_FAILED', 'no ping was answered');
    for (const [row, q] of [
      ['rtt-p50', 0.5],
      ['rtt-p95', 0.95],
      ['rtt-p99', 0.99],
    ] as const) {
      values[row] = quantile(rtts, q);
    }
  });

  let bytes = 0;
  const before = { own: groupUsage(groups).cpuSeconds, all: machineTicks() };
  for (const flows of plan.tcpFlows) {
    for (const direction of ['up', 'down'] as const) {
      await measure(record, tcpId(flows, direction), async () => {
        const result = await measureTcp(target, { flows, direction, seconds: plan.tcpSeconds });
        values[tcpId(flows, direction)] = result.mbits;
        bytes += result.bytes;
      });
    }
  }
  if (bytes > 0) {
    values['cpu-gb'] = (groupUsage(groups).cpuSeconds - before.own) / (bytes / BYTES_PER_GB);
    values['cpu-gb-all'] = (machineTicks() - before.all) / TICKS_PER_SECOND / (bytes / BYTES_PER_GB);
  }

  for (const rate of plan.udpRates) {
    await measure(record, udpId(rate, 'delivered'), async () => {
      const result = await measureUdp(target, { rate, size: UDP_SIZE, seconds: plan.udpSeconds });
      values[udpId(rate, 'delivered')] = result.deliveredMbits;
      values[udpId(rate, 'loss')] = result.lossPercent;
    });
  }
  values['rss'] = groupUsage(groups).peakBytes / 1e6;
  for (const [role, started] of Object.entries(running.processes)) {
    if (!started.running)
      record.errors[role] = `ended during the run: ${started.stderr.trim().split('\n').at(-1) ?? ''}`;
  }
}

async function measure(record: RunRecord, row: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    record.errors[row] = describeError(error).split('\n')[0]!;
  }
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
  const argv = program('tcp-client', running.target, String(context.echoPort), '--bytes', '1');
  const roles = Object.entries(running.processes);
  const tryOnce = async (): Promise<boolean> => {
    for (const [role, started] of roles) {
      if (started.running) continue;
      throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', `${role} ended: ${lastWords(started)}`);
    }
    // The client ends with an error soon where nothing answers; where packets vanish, this does.
    const attempt = await context.topology.user.exec(['timeout', '2', ...argv], { check: false });
    return attempt.code === 0 && (JSON.parse(attempt.stdout) as { received: number }).received === 1;
  };
  try {
    await pollUntil(`the first byte through ${running.target}`, tryOnce, READY_TIMEOUT);
  } catch (cause) {
    const said = roles.map(([role, started]) => `${role}: ${lastWords(started)}`).join('\n');
    throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', `${describeError(cause)}\n${said}`, { cause });
  }
}

function lastWords(started: LabProcess): string {
  return (started.stderr.trim() || started.stdout.trim()).slice(-500);
}
