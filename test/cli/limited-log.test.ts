/** A log that peers cannot fill: what passes, what is left out, told once, and how long a line can get. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PEER_BURST } from '../../src/base/line-limits.js';
import { instantAt } from '../../src/base/time.js';
import { LimitedLog, MAX_TEXT } from '../../src/cli/limited-log.js';

interface Line {
  readonly level: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

let lines: Line[];
let log: LimitedLog;

beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields: { ...fields }, message });
  };
  const inner = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  log = new LimitedLog(inner, () => instantAt(Date.now() * 1000));
});
afterEach(() => {
  vi.useRealTimers();
});

test.each(['info', 'warn', 'error'] as const)('%s: a burst of a peer passes, others are not held back', (level) => {
  for (let i = 0; i < 200; i++) log[level]({ agent: 'mallory', code: 'DENIED' }, `text ${i}`);
  log[level]({ agent: 'alice', code: 'DENIED' }, 'text');
  log[level]({ agent: 'mallory' }, 'another kind');
  expect(lines).toHaveLength(PEER_BURST + 2);
  expect(lines[0]).toEqual({ level, fields: { agent: 'mallory', code: 'DENIED' }, message: 'text 0' });
  const counters = { dials: 3, 'log.suppressed': 200 - PEER_BURST };
  expect(log.addTo({ counters: { dials: 3 } })).toEqual({ counters });
  expect(log.addTo({})).toEqual({});
});

test.each(['source', 'node', 'agent', 'connector', 'relay', 'service'])('%s says who a line is about', (field) => {
  for (let i = 0; i < 5 * PEER_BURST; i++) log.info({ [field]: `peer ${i % 5}`, reason: `${i}` }, 'lost');
  expect(lines).toHaveLength(5 * PEER_BURST);
  log.info({ [field]: 'peer 0' }, 'lost');
  expect(lines).toHaveLength(5 * PEER_BURST);
});

test('what was left out is told in one line of its kind, a minute after the first, and nothing more at rest', () => {
  for (let i = 0; i < PEER_BURST + 30; i++) log.warn({ source: '192.0.2.1', path: '/x' }, 'no such resource');
  for (let i = 0; i < PEER_BURST + 7; i++) log.info({ node: 'agent:mallory' }, 'node-lost');
  lines.length = 0;
  vi.advanceTimersByTime(59_999);
  expect(lines).toEqual([]);
  vi.advanceTimersByTime(1);
  const told = (kind: string, suppressed: number, mostOf: string): Line => ({
    level: 'warn',
    fields: { kind, suppressed, mostOf },
    message: 'lines suppressed',
  });
  expect(lines).toEqual([told('no such resource', 30, '192.0.2.1'), told('node-lost', 7, 'agent:mallory')]);
  expect(vi.getTimerCount()).toBe(0);
  for (let i = 0; i < 200; i++) log.warn({ source: '192.0.2.1' }, 'no such resource');
  lines.length = 0;
  log.close();
  expect(lines).toEqual([told('no such resource', 200 - 12, '192.0.2.1')]);
  expect(vi.getTimerCount()).toBe(0);
});

test('a text is cut at its limit; what is asked for by level debug is whole', () => {
  const fields = { reason: 'x'.repeat(MAX_TEXT), count: 3 };
  log.info(fields, 'lost');
  log.info({ ...fields, path: 'y'.repeat(MAX_TEXT + 1) }, 'lost');
  expect(lines.map((line) => line.fields)).toEqual([fields, { ...fields, path: `${'y'.repeat(MAX_TEXT)}…` }]);
  lines.length = 0;
  for (let i = 0; i < 1000; i++) log.debug({ agent: 'a', path: 'y'.repeat(2000) }, 'channel-opened');
  expect(lines).toHaveLength(1000);
  expect(lines[0]!.fields).toMatchObject({ path: 'y'.repeat(2000) });
});
