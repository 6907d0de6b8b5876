import { expect, it } from 'vitest';
import { cleanMarkdown, lossyMarkdown } from '../../bench/markdown.js';
import type { Link } from '../../bench/plan.js';
import type { Report } from '../../bench/report.js';
import type { RunRecord } from '../../bench/run.js';
import { summarizeRows } from '../../bench/summary.js';

const links = [
  { id: 'clean', label: 'clean' },
  { id: 'loss1', label: '1 % loss, 20 ms', profile: {}, congestion: 'bbr' },
] as unknown as Link[];
const rowOf = (link: string) =>
  ({ id: `${link}/udp`, link, label: 'datagrams', unit: 'Mbit/s', better: 'higher', digits: 1 }) as const;
const run = (subject: string, commit: string, values: Record<string, number>, errors: Record<string, string> = {}) =>
  ({
    subject,
    round: 0,
    commit,
    startedAt: '2026-01-02T03:04:05Z',
    loadAverage: 0,
    otherLoad: 0,
    loadDuring: 0,
    steal: 0,
    values,
    errors,
  }) as RunRecord;

function report(runs: RunRecord[]): Report {
  const subjects = [...new Set(runs.map(({ subject }) => subject))].map((name) => ({ name, version: '1' }));
  const machine = { cpu: 'A processor', cores: 2, kernel: '6.1', node: 'v20', iperf3: 'iperf 3', congestion: 'bbr' };
  const rows = summarizeRows([rowOf('clean'), rowOf('loss1')], runs);
  return { date: '2026-01-02T03:04:05Z', machine, plan: { links }, subjects, runs, rows } as unknown as Report;
}

it('each table names the commits of its own runs only', () => {
  const all = report([
    run('none', 'aaa', { 'clean/udp': 1 }),
    run('none', 'bbb', { 'loss1/udp': 1 }),
    run('other', 'ccc', { 'loss1/udp': 1 }),
  ]);
  expect(cleanMarkdown(all)).toContain('Commit aaa, 2026-01-02.');
  expect(cleanMarkdown(all)).not.toContain('bbb');
  expect(lossyMarkdown(all)).toContain('Commits bbb, 2026-01-02 (none); ccc, 2026-01-02 (other).');
});

it('what failed is said with the table it belongs to, and how often; nothing that failed is left out', () => {
  const late = { 'loss1/udp': 'user: iperf3 -c x: not done in time\nmore' };
  const all = report([
    run('none', 'aaa', { 'clean/udp': 1 }),
    run('none', 'aaa', {}, late),
    run('none', 'aaa', { 'loss1/udp': 1 }, { 'loss1/carried': 'not through the device' }),
    run('other', 'aaa', {}, late),
    run('other', 'aaa', {}, { start: 'no such program' }),
    run('other', 'aaa', { 'clean/udp': 1 }, { relay: 'ended during the run' }),
  ]);
  const [clean, lossy] = [cleanMarkdown(all), lossyMarkdown(all)];
  expect(lossy).toContain('- datagrams, Mbit/s (loss1): not done in time: none 1 ×, other 1 ×');
  expect(lossy).toContain('- loss1/carried: not through the device: none 1 ×');
  expect(clean).not.toMatch(/loss1|in time/);
  expect(clean).toContain('- relay: ended during the run: other 1 ×');
  expect(clean).toContain('- start: no such program: other 1 ×');
  expect(cleanMarkdown(report([run('none', 'aaa', { 'clean/udp': 1 })]))).not.toContain('could not');
});
