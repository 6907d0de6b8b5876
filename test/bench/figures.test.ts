import { expect, it } from 'vitest';
import { Figures, type FiguresReport } from '../../bench/figures.js';
import { figuresMarkdown } from '../../bench/markdown.js';
import { type Tun2socksReport, tun2socksMarkdown } from '../../bench/tun2socks-report.js';

const machine: FiguresReport['machine'] = {
  cpu: 'A processor',
  cores: 2,
  memoryGiB: 4,
  kernel: '6.1',
  node: 'v20',
  iperf3: 'iperf 3',
  congestion: 'cubic',
  commit: '0123456789ab',
  modified: false,
};
const report = { format: 1, date: '2026-01-02T03:04:05Z', command: 'node bench/some.mjs', machine } as const;
const row = (value: number, bar: { readonly least: number } | { readonly most: number }) => ({
  id: 'a',
  label: 'some figure',
  unit: '/s',
  value,
  bar,
});

it('a figure that does not reach its bar is named, one that just does is not', () => {
  const figures = new Figures({ json: true });
  figures.add('a', 'at the least', '', 10, { least: 10 });
  figures.add('b', 'below the least', '', 9.9, { least: 10 });
  figures.add('c', 'at the most', '', 5, { most: 5 });
  figures.add('d', 'above the most', '', 5.1, { most: 5 });
  figures.add('e', 'of which nothing is asked', '', 0);
  expect(figures.missed).toEqual(['below the least', 'above the most']);
});

it('the page says what was asked, and what was missed', () => {
  const text = figuresMarkdown({ ...report, rows: [row(11, { least: 10 }), row(9, { most: 5 })] });
  expect(text).toContain('| some figure | 11.0 /s | ≥ 10.0 |');
  expect(text).toContain('| some figure | 9.00 /s | ≤ 5.00 **missed** |');
  expect(text).toContain('Commit 0123456789ab, 2026-01-02');
});

it('the table of tun2socks has every row of every subject: medians with their range, and why one is left out', () => {
  const document: Tun2socksReport = {
    date: report.date,
    command: 'node bench/tun2socks.mjs',
    machine,
    busy: 0.1,
    seconds: 2,
    parts: ['tcp'],
    versions: { none: 'nothing', sallyport: 'ours', pasta: 'left out: not installed' },
    results: { none: [{ up: 30 }, { up: 10 }, { up: 20 }], sallyport: [{ up: 15, turns: 7 }] },
  };
  const text = tun2socksMarkdown(document);
  expect(text).toContain('| | none | sallyport |');
  expect(text).toContain('| up | 20 (10–30) | 15 |');
  expect(text).toContain('| turns | – | 7 |');
  expect(text).toContain('- pasta: left out: not installed');
});
