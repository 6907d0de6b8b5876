import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { measureTcp, measureUdp, tcpResult, udpResult } from '../../bench/measure/iperf.js';
import { roundTrips } from '../../bench/measure/ping.js';
import { groupUsage, machineTicks } from '../../bench/measure/usage.js';
import { SallyportError } from '../../src/base/error.js';
import type { Host } from '../lab/host.js';

const sum = (bytes: number, packets?: number) => ({ bytes, seconds: 2, bits_per_second: bytes * 4, packets });

describe('iperf3 reports', () => {
  it('count TCP where it arrives', () => {
    const streams = [{ receiver: sum(1_500_000) }, { receiver: sum(500_000) }, {}];
    const text = JSON.stringify({ end: { sum_sent: sum(3_000_000), sum_received: sum(2_000_000), streams } });
    expect(tcpResult(text)).toEqual({ mbits: 8, bytes: 2_000_000, flows: [1_500_000, 500_000, 0] });
  });

  it('count lost datagrams from both ends, those after the last arrival too', () => {
    // 1000 sent, 900 arrived; iperf3 itself saw a gap of 50 only.
    const received = { ...sum(900 * 1372, 950), lost_packets: 50 };
    const result = udpResult(
      JSON.stringify({ end: { sum_sent: sum(1000 * 1372, 1000), sum_received: received } }),
      1372,
    );
    expect(result.lossPercent).toBeCloseTo(10);
    expect(result.deliveredMbits).toBeCloseTo((900 * 1372 * 4) / 1e6);
    const nothing = JSON.stringify({ end: { sum_sent: sum(0, 0), sum_received: sum(0, 0) } });
    expect(udpResult(nothing, 1372).lossPercent).toBe(100);
  });

  it('that are errors or no reports are refused with the reason', () => {
    expect(() => tcpResult('{"error":"unable to connect"}')).toThrow(/unable to connect/);
    expect(() => tcpResult('')).toThrow(/no report/);
    expect(() => tcpResult('{"end":{}}')).toThrow(/without sums/);
  });

  it('that never come are asked for again where a lost datagram may be why', async () => {
    const text = JSON.stringify({ end: { sum_sent: sum(1372, 1), sum_received: sum(1372, 1) } });
    const target = (late: number) => {
      const exec = () =>
        late-- > 0
          ? Promise.reject(new SallyportError('environment', 'LAB_TIMEOUT', 'late'))
          : Promise.resolve({ stdout: text });
      return { user: { exec } as unknown as Host, address: '192.0.2.1', port: 5201 };
    };
    const datagrams = { rate: 1, size: 1372, seconds: 1 };
    expect((await measureUdp(target(2), datagrams)).lossPercent).toBe(0);
    await expect(measureUdp(target(3), datagrams)).rejects.toThrow('late');
    await expect(measureTcp(target(1), { flows: 1, direction: 'up', seconds: 1 })).rejects.toThrow('late');
  });
});

describe('ping output', () => {
  it('gives the time of every answer once', () => {
    const text = [
      'PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.',
      '64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.042 ms',
      '64 bytes from 10.0.0.1: icmp_seq=2 ttl=64 time=12 ms',
      '64 bytes from 10.0.0.1: icmp_seq=2 ttl=64 time=13 ms (DUP!)',
      'From 10.0.0.9 icmp_seq=3 Destination Host Unreachable',
      'rtt min/avg/max/mdev = 0.042/6.0/12/5.9 ms',
    ].join('\n');
    expect(roundTrips(text)).toEqual([0.042, 12]);
    expect(roundTrips('')).toEqual([]);
  });
});

describe('usage', () => {
  it('sees this process group and nothing of an empty list', () => {
    const busyUntil = performance.now() + 60;
    while (performance.now() < busyUntil);
    const group = Number(groupOf(process.pid));
    const usage = groupUsage([group]);
    expect(usage.cpuSeconds).toBeGreaterThan(0);
    expect(usage.peakBytes).toBeGreaterThan(10e6);
    expect(groupUsage([])).toEqual({ cpuSeconds: 0, peakBytes: 0 });
    expect(machineTicks()).toBeGreaterThan(0);
  });
});

function groupOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]!;
}
