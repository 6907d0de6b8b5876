/** `engine.flows()`: live flows with their ends, names, bytes and whether the host lets them send. */
import { expect, test } from 'vitest';
import { Millis } from '../../src/base/time.js';
import { udpPacket } from '../support/packets.js';
import { CLIENT6, MockHost } from './replay/mock-host.js';

const WEB = '93.184.216.34:80';
const udp = (port: number): Uint8Array => udpPacket({ from: CLIENT6, to: '2001:db8::9' }, port, 53, 'four');

test.each([
  ['as it is', []],
  ['held back by a rule', ['shape rate=any/any delay=1ms']],
])('a TCP flow %s: being dialled, open, its bytes both ways, paused by the host and resumed', (_how, rules) => {
  const host = new MockHost({ rules });
  host.engine.names.record('web.example', ['93.184.216.34']);
  const client = host.connect(WEB);
  host.run(Millis(10));
  const flow = { protocol: 'tcp', destination: WEB, name: 'web.example' };
  expect(host.engine.flows()).toMatchObject([{ ...flow, state: 'dialling', sendPaused: false, bytesIn: 0 }]);
  host.engine.connected(host.last.id);
  host.last.room = 3;
  host.run(Millis(10));
  client.connection.write(Uint8Array.of(1, 2, 3, 4), 0, 4);
  host.reply(host.last, 'answer');
  host.run(Millis(10));
  const [open] = host.engine.flows();
  expect(open).toMatchObject({ ...flow, state: 'open', sendPaused: true, bytesIn: 4, bytesOut: 6 });
  expect(open!.source).toMatch(/^10\.83\.0\.1:\d+$/);
  host.last.room = 100;
  host.engine.resumed(host.last.id);
  host.run(Millis(10));
  expect(host.engine.flows()[0]!.sendPaused).toBe(false);
  client.connection.abort();
  host.run(Millis(10));
  expect(host.engine.flows()).toEqual([]);
});

test('a UDP port, IPv6, with its first destination; when it ends its bytes are told', () => {
  const closed: unknown[] = [];
  const host = new MockHost({
    hooks: {
      onEvents: (events) => {
        for (const { kind, bytesIn, bytesOut } of events) if (kind === 'closed') closed.push([bytesIn, bytesOut]);
      },
    },
  });
  host.engine.packets([udp(1)]);
  host.run(Millis(10));
  host.last.room = 0;
  host.reply(host.last, 'sixsix', '[2001:db8::9]:53');
  host.engine.packets([udp(1)]);
  host.run(Millis(10));
  expect(host.engine.flows()).toEqual([
    {
      protocol: 'udp',
      state: 'open',
      source: `[${CLIENT6}]:1`,
      destination: '[2001:db8::9]:53',
      name: '',
      sendPaused: true,
      bytesIn: 8,
      bytesOut: 6,
    },
  ]);
  host.engine.stop();
  expect(closed).toEqual([[8, 6]]);
  expect(host.engine.flows()).toEqual([]);
});

test('no more than asked for, TCP first; 1,024 without a word', () => {
  const host = new MockHost({ settings: { flows: { newFlowRate: 2000, newFlowBurst: 2000 } } });
  host.open(WEB);
  host.open(WEB);
  host.engine.packets(Array.from({ length: 1100 }, (_, i) => udp(i + 1)));
  host.run(Millis(20));
  expect(host.engine.flows(3).map(({ protocol }) => protocol)).toEqual(['tcp', 'tcp', 'udp']);
  expect([0, 1].map((most) => host.engine.flows(most).length)).toEqual([0, 1]);
  expect(host.engine.flows()).toHaveLength(1024);
});
