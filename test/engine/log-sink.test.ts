/** What the host's log is told: levels, warnings apart from errors, a few lines of a kind a second, never a throw. */
import { expect, test } from 'vitest';
import { instantAt, Millis, Seconds } from '../../src/base/time.js';
import { type EngineLogLevel, LogSink } from '../../src/engine/log-sink.js';
import { udpPacket } from '../support/packets.js';
import { CLIENT, MockHost } from './replay/mock-host.js';

const WEB = '93.184.216.34:443';
type Line = readonly [level: EngineLogLevel, message: string, fields: object];

function logging(logLevel: EngineLogLevel, more: ConstructorParameters<typeof MockHost>[0] = {}) {
  const lines: Line[] = [];
  const host = new MockHost({ ...more, logLevel, log: (...line) => lines.push(line) });
  return { host, lines };
}

test('a level takes its lines and the more serious ones; an unknown one is refused', () => {
  const levels = ['error', 'warn', 'info', 'debug', 'trace'] as const;
  for (const [i, level] of levels.entries()) {
    const told: string[] = [];
    const sink = new LogSink(
      (at) => told.push(at),
      level,
      () => instantAt(0),
      () => {},
    );
    for (const one of levels) sink.write(one, one);
    expect(told).toEqual(levels.slice(0, i + 1));
  }
  expect(() => logging('loud' as EngineLogLevel)).toThrow(expect.objectContaining({ code: 'ENGINE_SETTINGS' }));
});

test('of one message a few lines a second are told, with the number of those held back; others are not touched', () => {
  let now = instantAt(0);
  const told: object[] = [];
  const sink = new LogSink(
    (_level, message, fields) => told.push({ message, ...fields }),
    'warn',
    () => now,
    () => {},
  );
  for (let i = 0; i < 60; i++) sink.write('warn', 'much', { i });
  sink.write('warn', 'rare');
  expect(told).toHaveLength(51);
  now = instantAt(1_000_000);
  sink.write('warn', 'much', { i: 60 });
  expect(told.at(-1)).toEqual({ message: 'much', i: 60, suppressed: 10 });
});

test('what is surely not meant is a warning, at the start and when rules change', () => {
  const { host, lines } = logging('info', {
    rules: ['block', 'allow port=443'],
    dns: { mode: 'hijack', servers: [] },
  });
  const warnings = () => lines.filter(([level]) => level === 'warn').map(([, message]) => message);
  expect(warnings()).toEqual([
    'names are asked for here and nobody is there to answer: dns.servers is empty',
    'a rule that is surely not meant',
  ]);
  host.engine.setRules(['allow', 'allow host=a.example']);
  expect(warnings()).toHaveLength(3);
  expect(lines.at(-1)![2]).toMatchObject({ rule: expect.stringContaining('never decides') });
  expect(lines.some(([level]) => level === 'error')).toBe(false);
});

test.each(['onFlow', 'onEvents', 'onPacket'] as const)(
  'a hook %s that throws is counted, told as a warning with its name and reason, and stops nothing',
  (hook) => {
    const { host, lines } = logging('warn', {
      hooks: {
        [hook]: () => {
          throw new Error('of the host');
        },
      },
    });
    host.engine.packets([udpPacket({ from: CLIENT, to: '203.0.113.1' }, 1, 7, 'x')]);
    host.run(Millis(10));
    expect(lines).toContainEqual(['warn', 'a hook has thrown', { hook, error: 'of the host' }]);
    expect([host.values['hook_errors']! > 0, host.last.text]).toEqual([true, 'x']);
  },
);

test('a resolver and a dialer that throw are named too', () => {
  const resolver = () => {
    throw new Error('no');
  };
  const { host, lines } = logging('warn', { dns: { mode: 'hijack', servers: ['192.0.2.53'], resolver } });
  const question = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1];
  host.engine.packets([udpPacket({ from: CLIENT, to: '203.0.113.1' }, 1, 53, Uint8Array.from(question))]);
  host.onDial = resolver;
  host.connect(WEB);
  host.run(Millis(10));
  expect(lines.map(([, , fields]) => fields)).toEqual(
    expect.arrayContaining([
      { hook: 'resolver', error: 'no' },
      { hook: 'mock.dial', error: 'no' },
    ]),
  );
});

test('a log that throws is counted and stops nothing', () => {
  const host = new MockHost({
    log: () => {
      throw new Error('full');
    },
  });
  const { host: far, client } = host.open(WEB);
  host.reply(far, 'x');
  host.run(Millis(10));
  expect(client.data).toHaveLength(1);
  expect(host.values['hook_errors']).toBeGreaterThan(0);
});

test('level trace tells every call about a connection, both ways, and no bytes', () => {
  const { host, lines } = logging('trace');
  const { client, host: far } = host.open(WEB);
  host.reply(far, 'a secret');
  host.engine.resumed(far.id);
  host.engine.ended(far.id);
  client.connection.shutdownWrite();
  host.run(Seconds(1));
  host.connect('198.51.100.1:80');
  host.run(Millis(1));
  host.engine.failed(host.last.id, 'refused');
  host.run(Millis(1));
  const traced = lines.filter(([level]) => level === 'trace').map(([, message, fields]) => [message, fields]);
  expect(traced).toEqual([
    ['host is asked to dial', { id: 1, dialer: 'mock', protocol: 'tcp', destination: WEB, host: '' }],
    ['host says connected', { id: 1 }],
    ['host says resumed', { id: 1 }],
    ['host says ended', { id: 1 }],
    ['host is asked to end', { id: 1, dialer: 'mock' }],
    ['host is asked to close', { id: 1, dialer: 'mock', reason: 'finished' }],
    ['host is asked to dial', { id: 2, dialer: 'mock', protocol: 'tcp', destination: '198.51.100.1:80', host: '' }],
    ['host says failed', { id: 2, kind: 'refused' }],
  ]);
  expect(JSON.stringify(lines)).not.toContain('secret');
  const quiet = logging('debug');
  quiet.host.open(WEB);
  expect(quiet.lines.map(([level]) => level)).not.toContain('trace');
});
