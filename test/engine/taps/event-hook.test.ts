/** What a host hears of flows: the hook `onEvents`, lines at level debug, and what is counted when neither keeps up. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import type { EngineHooks } from '../../../src/engine/hooks.js';
import type { FlowEvent } from '../../../src/engine/taps/events.js';
import { udpPacket } from '../../support/packets.js';
import { CLIENT, CLIENT6, MockHost } from '../replay/mock-host.js';

const udp = (port: number, to = '93.184.216.34'): Uint8Array =>
  udpPacket({ from: to.includes(':') ? CLIENT6 : CLIENT, to }, port, 53, 'x');
const many = { settings: { flows: { newFlowRate: 4000, newFlowBurst: 4000 } } } as const;

function listening(more: ConstructorParameters<typeof MockHost>[0] = {}) {
  const batches: { readonly events: readonly FlowEvent[]; readonly dropped: number }[] = [];
  const onEvents: EngineHooks['onEvents'] = (events, dropped) => batches.push({ events, dropped });
  const host = new MockHost({ ...more, hooks: { ...more.hooks, onEvents } });
  return { host, batches, told: () => batches.flatMap(({ events }) => events) };
}

test('a flow that a rule or a hook refuses is told, with the rule, in either family', () => {
  const { host, told } = listening({
    rules: ['block port=53 cidr=93.184.216.34/32', 'reject port=53 cidr=2001:db8::/32'],
    hooks: { onFlow: () => ({ action: 'block', how: 'ignore' }) },
  });
  host.engine.packets([udp(1), udp(2, '2001:db8::9'), udp(3, '198.51.100.1')]);
  host.run(Millis(10));
  expect(told().map(({ kind, source, destination, rule }) => [kind, source, destination, rule])).toEqual([
    ['refused', `${CLIENT}:1`, '93.184.216.34:53', 'block cidr=93.184.216.34/32 port=53'],
    ['refused', `[${CLIENT6}]:2`, '[2001:db8::9]:53', 'reject cidr=2001:db8::/32 port=53'],
    ['refused', `${CLIENT}:3`, '198.51.100.1:53', ''],
  ]);
  expect(host.logs.filter((line) => line === 'debug flow refused')).toHaveLength(3);
});

test('1,024 events wait, 256 go out a turn; of newer ones only the number is told and counted', () => {
  const { host, batches, told } = listening(many);
  host.engine.packets(Array.from({ length: 1100 }, (_, i) => udp(i + 1)));
  host.run(Millis(20));
  expect(told().filter(({ kind }) => kind === 'opened')).toHaveLength(1100);
  const before = batches.length;
  host.engine.pathChanged(false);
  host.run(Millis(20));
  const closing = batches.slice(before);
  expect(closing.map(({ events, dropped }) => [events.length, dropped])).toEqual([
    [256, 76],
    [256, 0],
    [256, 0],
    [256, 0],
  ]);
  expect(host.values['events_dropped']).toBe(76);
});

test('lines at level debug are a few a second', () => {
  const { host } = listening(many);
  host.engine.packets(Array.from({ length: 500 }, (_, i) => udp(i + 1)));
  host.run(Millis(100));
  const lines = () => host.logs.filter((line) => line.startsWith('debug')).length;
  expect(lines()).toBe(50);
  host.run(Seconds(2));
  host.engine.packets(Array.from({ length: 500 }, (_, i) => udp(i + 1000)));
  host.run(Millis(100));
  expect(lines()).toBe(60);
});

test('a hook that throws is counted, and the flows go on; what ends with the engine is told', () => {
  let calls = 0;
  const thrown = new MockHost({
    hooks: {
      onEvents: () => {
        calls++;
        throw new Error('of the host');
      },
    },
  });
  thrown.engine.packets([udp(1)]);
  thrown.run(Millis(10));
  expect([calls, thrown.values['hook_errors'], thrown.last.received.length]).toEqual([1, 1, 1]);
  const { host, told } = listening();
  host.engine.packets([udp(1)]);
  host.run(Millis(10));
  host.engine.stop();
  expect(told().map(({ kind }) => kind)).toEqual(['opened', 'closed']);
});

test('a hook may stop and start the engine', () => {
  const host: MockHost = new MockHost({
    hooks: {
      onEvents: () => {
        host.engine.stop();
        host.engine.start();
      },
    },
  });
  host.engine.packets([udp(1)]);
  host.run(Millis(10));
  expect(host.engine.isRunning).toBe(true);
  host.engine.packets([udp(2)]);
  host.run(Millis(10));
  expect(host.connections).toHaveLength(2);
});
