/** Throughput by iperf3, counted where the bytes arrive. */

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';

export interface IperfTarget {
  readonly user: Host;
  readonly address: string;
  readonly port: number;
}

export interface TcpRun {
  readonly flows: number;
  /** `up`: from the user to the service. */
  readonly direction: 'up' | 'down';
  readonly seconds: number;
  /** Of the kernel's sockets at both ends; undefined: the machine's default. */
  readonly congestion?: string | undefined;
}

export interface UdpRun {
  /** Offered payload rate in Mbit/s, from the user to the service. */
  readonly rate: number;
  /** Payload bytes of a datagram. */
  readonly size: number;
  readonly seconds: number;
}

export interface TcpResult {
  /** Payload at the receiver, in Mbit/s. */
  readonly mbits: number;
  readonly bytes: number;
  /** Payload at the receiver, in bytes, of each flow. */
  readonly flows: readonly number[];
}

export interface UdpResult {
  readonly deliveredMbits: number;
  /** Of the datagrams that the sender handed to its kernel, how many did not arrive, in percent. */
  readonly lossPercent: number;
  readonly offeredMbits: number;
}

interface Sum {
  readonly bytes: number;
  readonly seconds: number;
  readonly bits_per_second: number;
  readonly packets?: number;
}

interface IperfReport {
  readonly error?: string;
  readonly end?: {
    readonly sum_sent?: Sum;
    readonly sum_received?: Sum;
    readonly streams?: readonly { readonly receiver?: Sum }[];
  };
}

/** What a run may take beyond its own time: the control connection meets the same losses as the data. */
const GRACE_SECONDS = 20;
const ATTEMPTS = 3;
const ROOMY_BYTES = 4 * 1024 * 1024;
const RETRY_PAUSE_MS = 1000;

export async function measureTcp(target: IperfTarget, run: TcpRun): Promise<TcpResult> {
  const flags = ['-P', String(run.flows), ...(run.direction === 'down' ? ['-R'] : [])];
  if (run.congestion !== undefined) flags.push('-C', run.congestion);
  return tcpResult(await iperf(target, run.seconds, flags));
}

export async function measureUdp(target: IperfTarget, run: UdpRun): Promise<UdpResult> {
  const flags = ['-u', '-b', `${run.rate}M`, '-l', String(run.size), ...roomyBuffers()];
  return udpResult(await iperf(target, run.seconds, flags), run.size);
}

/**
 * Options for sockets that hold as much as this machine allows, 4 MB at most: with the kernel's default the receiver loses what
 * comes while its program waits for a processor, which says nothing about the way.
 */
export function roomyBuffers(): string[] {
  const limits = ['rmem_max', 'wmem_max'].map((name) => Number(readFileSync(`/proc/sys/net/core/${name}`, 'utf8')));
  return ['-w', String(Math.min(ROOMY_BYTES, ...limits))];
}

/** Reads the JSON report of a TCP run. Throws BENCH_MEASUREMENT_FAILED. */
export function tcpResult(text: string): TcpResult {
  const { received, flows } = sums(text);
  return { mbits: received.bits_per_second / 1e6, bytes: received.bytes, flows };
}

/** Reads the JSON report of a UDP run whose client sent. Throws BENCH_MEASUREMENT_FAILED. */
export function udpResult(text: string, size: number): UdpResult {
  const { sent, received } = sums(text);
  const packets = sent.packets ?? 0;
  // iperf3's own loss misses datagrams lost after the last that arrived, so it is counted from both ends.
  return {
    deliveredMbits: received.bits_per_second / 1e6,
    lossPercent: packets === 0 ? 100 : Math.max(0, (1 - received.bytes / size / packets) * 100),
    offeredMbits: sent.bits_per_second / 1e6,
  };
}

async function iperf(target: IperfTarget, seconds: number, flags: readonly string[]): Promise<string> {
  const argv = ['iperf3', '-c', target.address, '-p', String(target.port), '-t', String(seconds), '-J', ...flags];
  const timeout = Seconds(seconds + GRACE_SECONDS);
  for (let attempt = 1; ; attempt++) {
    try {
      const { stdout } = await target.user.exec(argv, { timeout, check: false });
      // The server takes one client at a time; over a lossy link it may still be taking leave of the one before, and listens anew after one that ended badly.
      if (attempt === ATTEMPTS || !/"error":\s*"[^"]*(busy|reset by peer|refused)/.test(stdout)) return stdout;
      await delay(RETRY_PAUSE_MS);
    } catch (error) {
      // It asks for its stream of datagrams with one datagram that it never sends again: where that is lost it waits until it is ended.
      const late = error instanceof SallyportError && error.code === 'LAB_TIMEOUT';
      if (!late || attempt === ATTEMPTS || !flags.includes('-u')) throw error;
    }
  }
}

function sums(text: string): { sent: Sum; received: Sum; flows: number[] } {
  let report: IperfReport;
  try {
    report = JSON.parse(text) as IperfReport;
  } catch {
    report = { error: `no report: ${text.slice(0, 200)}` };
  }
  const sent = report.end?.sum_sent;
  const received = report.end?.sum_received;
  if (report.error !== undefined || sent === undefined || received === undefined) {
    const message = `iperf3: ${report.error ?? 'report without sums'}`;
    throw new SallyportError('environment', 'BENCH_MEASUREMENT_FAILED', message);
  }
  const flows = (report.end?.streams ?? []).map((stream) => stream.receiver?.bytes ?? 0);
  return { sent, received, flows };
}
