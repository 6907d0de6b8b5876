import { describe, expect, it } from 'vitest';
import { FULL, QUICK, rowsOf } from '../../bench/plan.js';
import { type Report, renderTable, significant, summarizeRows, TABLE_WIDTH } from '../../bench/report.js';
import type { RunRecord } from '../../bench/run.js';

const record = (subject: string, round: number, values: Record<string, number>, errors = {}): RunRecord => ({
  subject,
  round,
  startedAt: '2026-01-01T00:00:00.000Z',
  loadAverage: 1,
  otherLoad: 0.5,
  steal: 0,
  values,
  errors,
});

const runs = [
  record('none', 0, { 'tcp-1-up': 10_000 }),
  record('wireguard-go', 0, { 'tcp-1-up': 1000, 'rtt-p50': 0.2, 'udp-100-loss': 0 }),
  record('wireguard-go', 1, { 'tcp-1-up': 1200, 'rtt-p50': 0.3, 'udp-100-loss': 0 }),
  record('wireguard-go', 2, { 'tcp-1-up': 1100, 'rtt-p50': 0.25, 'udp-100-loss': 0 }),
  record('sallyport', 0, { 'tcp-1-up': 2000, 'rtt-p50': 0.4, 'udp-100-loss': 1 }),
  record('sallyport', 1, { 'tcp-1-up': 2200, 'rtt-p50': 0.5, 'udp-100-loss': 1 }),
  record(
    'sallyport',
    2,
    { 'tcp-1-up': 2100, 'rtt-p50': 0.45, 'udp-100-loss': 1 },
    { 'udp-100-delivered': 'iperf3: refused' },
  ),
];
const report: Report = {
  format: 1,
  date: '2026-01-01T00:00:00.000Z',
  command: 'npm run bench',
  machine: {
    cpu: 'A processor with a name that goes on and on, so that the line has to be wrapped somewhere @ 3 GHz',
    cores: 2,
    memoryGiB: 4,
    kernel: '6.18.44-something-long',
    node: 'v20.20.2',
    iperf3: 'iperf 3.12',
    commit: '0123456789ab',
    modified: true,
  },
  plan: QUICK,
  tunnelMtu: 1400,
  subjects: ['none', 'wireguard-go', 'sallyport'].map((name) => ({ name, version: 'v1' })),
  rows: summarizeRows(rowsOf(QUICK), runs, 'sallyport', 'wireguard-go'),
  runs,
};

describe('the report', () => {
  it('compares medians, shows losing rows, and leaves out nothing that failed', () => {
    const row = (id: string) => report.rows.find((one) => one.id === id)!;
    expect(row('tcp-1-up')).toMatchObject({ verdict: 'better' });
    expect(row('tcp-1-up').ratio).toBeCloseTo(2100 / 1100);
    expect(row('rtt-p50')).toMatchObject({ verdict: 'worse' });
    expect(row('udp-100-loss')).toMatchObject({ verdict: 'worse' });
    expect(row('udp-100-loss').ratio).toBeUndefined();
    expect(row('tcp-8-up')).toMatchObject({ verdict: 'unknown', subjects: {} });
    const table = renderTable(report, 'sallyport', 'wireguard-go');
    expect(table).toMatch(/TCP 1 flow up.*10000.*1100 ±9%.*2100 ±5%.*1\.91 better/);
    expect(table).toMatch(/ping p50.*0\.250 ±20%.*0\.450 ±11%.*1\.80 worse/);
    expect(table).toContain('! sallyport, round 3, udp-100-delivered: iperf3: refused');
  });

  it('fits its width whatever it says', () => {
    const huge = runs.map((run) => ({
      ...run,
      values: Object.fromEntries(rowsOf(FULL).map((row) => [row.id, 123_456.789 * (run.round + 1)])),
      errors: { start: 'x'.repeat(300) },
    }));
    const rows = summarizeRows(rowsOf(FULL), huge, 'sallyport', 'wireguard-go');
    for (const one of [report, { ...report, runs: huge, rows }]) {
      for (const line of renderTable(one, 'sallyport', 'wireguard-go').split('\n')) {
        expect(line.length).toBeLessThanOrEqual(TABLE_WIDTH);
      }
    }
  });

  it('writes three significant digits', () => {
    expect([0, 0.0123, 1.234, 12.34, 123.4, 12_345].map(significant)).toEqual([
      '0',
      '0.012',
      '1.23',
      '12.3',
      '123',
      '12345',
    ]);
  });

  it('has a quick plan that fits four minutes', () => {
    const tcp = QUICK.tcpFlows.length * 2 * QUICK.tcpSeconds;
    const udp = QUICK.udpRates.length * QUICK.udpSeconds;
    const ping = (QUICK.pings * QUICK.pingIntervalMs) / 1000;
    const subjects = 3;
    const setUpSeconds = 9;
    expect((tcp + udp + ping + setUpSeconds) * QUICK.rounds * subjects).toBeLessThanOrEqual(240);
  });
});
