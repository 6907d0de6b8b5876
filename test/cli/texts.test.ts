import { execFileSync } from 'node:child_process';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { Days, Hours, Millis, Minutes, Seconds } from '../../src/base/time.js';
import { completionScript } from '../../src/cli/completion.js';
import { nearest } from '../../src/cli/nearest.js';
import { prometheusText } from '../../src/cli/prometheus.js';
import { parseSpan } from '../../src/cli/span.js';
import type { NodeStatus } from '../../src/cli/status-types.js';

describe('a span', () => {
  it.each([
    ['0s', Seconds(0)],
    ['500ms', Millis(500)],
    ['30s', Seconds(30)],
    ['5m', Minutes(5)],
    ['1h', Hours(1)],
    ['24d', Days(24)],
  ])('%s', (text, span) => {
    expect(parseSpan(text)).toBe(span);
  });

  it.each(['', '30', 's', '-1s', '1.5s', '1 s', '25d', '1w', '9999999999s'])('"%s" is refused', (text) => {
    expect(() => parseSpan(text)).toThrow(expect.objectContaining({ code: 'DURATION_INVALID', kind: 'caller' }));
  });
});

describe('the nearest word', () => {
  it.each([
    ['lissten', 'listen'],
    ['LogLevel', 'logLevel'],
    ['prot', 'port'],
    ['zzzzzz', undefined],
    ['x', undefined],
  ])('to %s is %s', (word, expected) => {
    expect(nearest(word, ['listen', 'logLevel', 'port', 'dir'])).toBe(expected);
  });
});

describe('metrics', () => {
  it('are in Prometheus’ format, with labels that are escaped', () => {
    const status = {
      role: 'agent',
      network: 'lab',
      name: 'a"b\\c',
      policyVersion: 7,
      relay: { state: 'ready' },
      relays: [
        { name: 'r1', place: 'home', rttMilliseconds: 12.345 },
        { name: 'r2', place: 'resting', rttMilliseconds: undefined },
      ],
      sessions: [{}, {}],
      counters: { 'proxy.dials': 3, 'links.sent': 1 },
      drops: { no_link: 2 },
    } as object as NodeStatus;
    const labels = 'network="lab",role="agent",name="a\\"b\\\\c"';
    const text = prometheusText(status);
    expect(text.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
      `sallyport_up{${labels}} 1`,
      `sallyport_policy_version{${labels}} 7`,
      `sallyport_relay_ready{${labels}} 1`,
      `sallyport_relay_place{${labels},relay="r1",place="home"} 1`,
      `sallyport_relay_place{${labels},relay="r2",place="resting"} 1`,
      `sallyport_relay_rtt_seconds{${labels},relay="r1"} 0.012345`,
      `sallyport_sessions{${labels}} 2`,
      `sallyport_events_total{${labels},counter="links.sent"} 1`,
      `sallyport_events_total{${labels},counter="proxy.dials"} 3`,
      `sallyport_dropped_packets_total{${labels},reason="no_link"} 2`,
    ]);
    expect(text).toContain('# TYPE sallyport_events_total counter\n');
  });

  it('of a relay count its nodes by role', () => {
    const status = {
      role: 'relay',
      network: 'lab',
      name: 'relay',
      policyVersion: 1,
      nodes: [{ role: 'agent' }, { role: 'connector' }, { role: 'agent' }],
      channels: [],
      counters: {},
      drops: {},
    } as object as NodeStatus;
    expect(prometheusText(status)).toContain('sallyport_nodes{network="lab",role="relay",name="relay",of="agent"} 2');
  });
});

describe('completion', () => {
  const program = new Command('sallyport');
  program.command('status').description('what it does').option('--dir <dir>').option('--json');
  const policy = program.command('policy').description('the operator’s');
  policy.command('show').option('--version-only');

  it('of bash completes commands, their parts and options', () => {
    const script = completionScript(program, 'bash');
    const complete = (...words: string[]): string[] => {
      const list = words.map((word) => `'${word}'`).join(' ');
      const ask = `COMP_WORDS=(sallyport ${list}) COMP_CWORD=${words.length}; _sallyport; echo "\${COMPREPLY[*]}"`;
      return execFileSync('bash', ['-c', `${script}\n${ask}`], { encoding: 'utf8' })
        .trim()
        .split(' ');
    };
    expect(complete('')).toEqual(['status', 'policy', '--help', '--version']);
    expect(complete('st')).toEqual(['status']);
    expect(complete('status', '--')).toEqual(['--dir', '--json', '--help']);
    expect(complete('policy', 's')).toEqual(['show']);
    expect(complete('policy', 'show', '--v')).toEqual(['--version-only']);
    expect(complete('nothing', 'x')).toEqual(['']);
  });

  it('of zsh and fish names the same', () => {
    expect(completionScript(program, 'zsh')).toMatch(/^#compdef sallyport\n/);
    const fish = completionScript(program, 'fish');
    expect(fish).toContain("-a policy -d 'the operator’s'");
    expect(fish).toContain(
      "'__fish_seen_subcommand_from policy; and __fish_seen_subcommand_from show' -l version-only",
    );
  });
});
