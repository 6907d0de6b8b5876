import { describe, expect, it } from 'vitest';
import { parseOptions } from '../../bench/options.js';
import {
  CLEAN,
  DIRECTIONS,
  FULL,
  LOSSY,
  type Plan,
  QUICK,
  QUICK_SUBJECTS,
  rowsOf,
  TCP_FLOWS,
  TUNNEL_MTU,
} from '../../bench/plan.js';
import { mergeReports, type Report, renderTable, significant, TABLE_WIDTH } from '../../bench/report.js';
import type { RunRecord } from '../../bench/run.js';
import { SUBJECTS } from '../../bench/subjects/all.js';
import { summarizeRows } from '../../bench/summary.js';

const record = (subject: string, round: number, values: Record<string, number>, errors = {}): RunRecord => ({
  subject,
  round,
  commit: '0123456789ab',
  startedAt: '2026-01-01T00:00:00.000Z',
  loadAverage: 1,
  otherLoad: 0,
  loadDuring: 0.1,
  steal: 0,
  values: Object.fromEntries(Object.entries(values).map(([id, value]) => [`clean/${id}`, value])),
  errors,
});

const runs = [
  record('none', 0, { 'tcp-1-up': 10_000 }),
  record('wireguard-go', 0, { 'tcp-1-up': 1000, 'rtt-p50': 0.2, 'udp-100-loss': 0 }),
  record('wireguard-go', 1, { 'tcp-1-up': 1200, 'rtt-p50': 0.3, 'udp-100-loss': 0 }),
  record('wireguard-go', 2, { 'tcp-1-up': 1100, 'rtt-p50': 0.25, 'udp-100-loss': 0 }),
  ...[0, 1, 2].map((round) => record('tinc', round, { 'tcp-1-up': 2100 + round, 'rtt-p50': 0.5 })),
  record('sallyport', 0, { 'tcp-1-up': 2000, 'rtt-p50': 0.4, 'udp-100-loss': 1 }),
  record('sallyport', 1, { 'tcp-1-up': 2200, 'rtt-p50': 0.5, 'udp-100-loss': 1 }),
  record(
    'sallyport',
    2,
    { 'tcp-1-up': 2101, 'rtt-p50': 0.45, 'udp-100-loss': 1 },
    { 'udp-100-delivered': 'iperf3: refused' },
  ),
];

const reportOf = (plan: Plan, measured: readonly RunRecord[]): Report => ({
  format: 2,
  date: '2026-01-01T00:00:00.000Z',
  commands: ['npm run bench'],
  machine: {
    cpu: 'A processor with a name that goes on and on, so that the line has to be wrapped somewhere @ 3 GHz',
    cores: 2,
    memoryGiB: 4,
    kernel: '6.18.44-something-long',
    node: 'v20.20.2',
    iperf3: 'iperf 3.12',
    congestion: 'cubic',
    commit: '0123456789ab',
    modified: true,
  },
  tunnelMtu: TUNNEL_MTU,
  plan,
  subjects: [
    ...[...new Set(measured.map((run) => run.subject))].map((name) => ({ name, version: 'v1' })),
    { name: 'openvpn-dco', version: '', unavailable: 'left out: this kernel does not have it' },
  ],
  rows: summarizeRows(rowsOf(plan), measured),
  runs: measured,
});
const report = reportOf(QUICK, runs);

describe('the report', () => {
  it('compares medians with the best peer, shows losing rows, and leaves out nothing that failed', () => {
    const row = (id: string) => report.rows.find((one) => one.id === `clean/${id}`)!;
    expect(row('tcp-1-up')).toMatchObject({ best: 'tinc', verdict: 'same', bestRatio: 1 });
    expect(row('tcp-1-up').ratio).toBeCloseTo(2101 / 1100);
    expect(row('rtt-p50')).toMatchObject({ best: 'wireguard-go', verdict: 'worse' });
    expect(row('udp-100-loss')).toMatchObject({ verdict: 'worse' });
    expect(row('udp-100-loss').ratio).toBeUndefined();
    expect(row('tcp-8-up')).toMatchObject({ verdict: 'unknown', subjects: {} });
    const table = renderTable(report);
    expect(table).toMatch(/TCP 1 flow up.* 10000 +1100 ±9% +2101 ±0%/);
    expect(table).toMatch(/TCP 1 flow up.* 1\.91 +1\.00 tinc same/);
    expect(table).toMatch(/ping p50.* 1\.80 +1\.80 wireguard-go worse/);
    expect(table).toContain('! sallyport, round 3, udp-100-delivered: iperf3: refused');
    expect(table).toContain('openvpn-dco: left out: this kernel does not have it');
  });

  it('fits its width whatever it says', () => {
    const huge = runs.map((run) => ({
      ...run,
      values: Object.fromEntries(rowsOf(FULL).map((row) => [row.id, 123_456.789 * (run.round + 1)])),
      errors: { start: 'x'.repeat(300) },
    }));
    for (const one of [report, reportOf(FULL, huge)]) {
      for (const line of renderTable(one).split('\n')) expect(line.length).toBeLessThanOrEqual(TABLE_WIDTH);
    }
  });

  it('leaves runs on a busy machine out of the medians where there are others', () => {
    const busy = { ...record('wireguard-go', 3, { 'tcp-1-up': 1, 'udp-500-loss': 40 }), loadDuring: 1.5 };
    const rows = summarizeRows(rowsOf(QUICK), [...runs, busy]);
    const of = (id: string) => rows.find((one) => one.id === `clean/${id}`)!.subjects['wireguard-go'];
    expect(of('tcp-1-up')).toMatchObject({ runs: 3, min: 1000 });
    expect(of('udp-500-loss')).toMatchObject({ runs: 1, median: 40 });
  });

  it('takes runs of a later benchmark, over other links too, and refuses those that lasted otherwise', () => {
    const lossy = LOSSY[0]!;
    const later = reportOf({ ...QUICK, links: [lossy] }, [
      { ...record('nebula', 3, {}), values: { [`${lossy.id}/tcp-1-up`]: 7 } },
    ]);
    const merged = mergeReports(report, later);
    expect(merged.plan.links.map((link) => link.id)).toEqual([CLEAN.id, lossy.id]);
    expect(merged.runs).toHaveLength(runs.length + 1);
    expect(merged.rows.find((row) => row.id === `${lossy.id}/tcp-1-up`)?.subjects['nebula']?.median).toBe(7);
    expect(merged.rows.find((row) => row.id === 'clean/tcp-1-up')?.best).toBe('tinc');
    expect(() => mergeReports(report, reportOf(FULL, runs))).toThrow(/other times/);
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
});

describe('plans', () => {
  it('have a quick one that fits four minutes', () => {
    const { clean } = QUICK;
    const tcp = TCP_FLOWS.length * DIRECTIONS.length * clean.tcpSeconds;
    const udp = clean.udpRates.length * clean.udpSeconds;
    const ping = (clean.pings * clean.pingIntervalMs) / 1000;
    const setUpSeconds = 9;
    const total = (tcp + udp + ping + setUpSeconds) * QUICK.rounds * QUICK_SUBJECTS.length;
    expect(total).toBeLessThanOrEqual(QUICK.minutes * 60);
  });

  it('give every row an id of its own', () => {
    const ids = rowsOf(FULL).map((row) => row.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(LOSSY).toHaveLength(16);
  });

  it('follow the command line, which says what is allowed', () => {
    const options = (...argv: string[]) => parseOptions(argv)!;
    expect(options().subjects).toHaveLength(SUBJECTS.length);
    expect(options('--quick').subjects.map((subject) => subject.name)).toEqual(QUICK_SUBJECTS);
    expect(options('--full').plan.links).toHaveLength(1 + LOSSY.length);
    expect(options('--link', 'lossy', '--rounds', '2').plan).toMatchObject({ rounds: 2, links: LOSSY });
    expect(parseOptions(['--help'])).toBeUndefined();
    for (const wrong of [['--subject', 'x'], ['--link', 'x'], ['--rounds', '0'], ['--quick', '--full'], ['--bogus']]) {
      expect(() => parseOptions(wrong), wrong.join(' ')).toThrow(wrong.length === 1 ? /bogus/ : /npm run bench|one of/);
    }
  });
});
