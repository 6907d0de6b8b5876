/** Questions to a UDP echo server, by programs/udp-probe.mjs. */
import { join } from 'node:path';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';
import { REPOSITORY } from '../../test/lab/services.js';

export interface RoundTrips {
  readonly sent: number;
  readonly received: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface Gap {
  readonly sent: number;
  readonly received: number;
  /** The longest time without an answer, in milliseconds; at most GAP_MS of it is the probe's own interval. */
  readonly longestGap: number;
}

export const GAP_MS = 5;

/** One question after the other's answer; `pause`: milliseconds in between. */
export async function roundTrips(
  host: Host,
  address: string,
  port: number,
  count: number,
  pause = 0,
): Promise<RoundTrips> {
  const result = (await probe(host, address, port, ['--count', String(count), '--pause', String(pause)])) as RoundTrips;
  if (result.received === 0) throw new SallyportError('peer', 'BENCH_MEASUREMENT_FAILED', 'no datagram was answered');
  return result;
}

/** A question every GAP_MS, for `seconds`. */
export async function longestGap(host: Host, address: string, port: number, seconds: number): Promise<Gap> {
  return (await probe(host, address, port, ['--seconds', String(seconds), '--gap', String(GAP_MS)])) as Gap;
}

async function probe(host: Host, address: string, port: number, more: readonly string[]): Promise<object> {
  const file = join(REPOSITORY, 'bench', 'programs', 'udp-probe.mjs');
  const argv = [process.execPath, file, address, String(port), '--size', '64', ...more];
  const { stdout } = await host.exec(argv, { timeout: Seconds(300) });
  return JSON.parse(stdout) as object;
}
