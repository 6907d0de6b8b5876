/** Round-trip times of ICMP echo, from every single answer. */
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';

export interface PingResult {
  readonly sent: number;
  /** Round-trip time of every answer in milliseconds, in order of arrival; duplicates left out. */
  readonly rtts: readonly number[];
}

/** Sends `count` echo requests, one each `intervalMs`. */
export async function measurePing(user: Host, address: string, count: number, intervalMs: number): Promise<PingResult> {
  const argv = ['ping', '-n', '-c', String(count), '-i', String(intervalMs / 1000), '-W', '2', address];
  const timeout = Seconds((count * intervalMs) / 1000 + 15);
  const { stdout } = await user.exec(argv, { timeout, check: false });
  return { sent: count, rtts: roundTrips(stdout) };
}

/** The times in ping's output. */
export function roundTrips(text: string): number[] {
  return text
    .split('\n')
    .filter((line) => !line.includes('DUP!'))
    .flatMap((line) => {
      const match = /icmp_seq=\d+ .*time=([\d.]+) ms/.exec(line);
      return match === null ? [] : [Number(match[1])];
    });
}
