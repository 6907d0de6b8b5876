/** UDP behind an engine: one socket per client port, three ways to filter, judged per destination, bounded. */
import { afterEach, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import type { UdpFiltering } from '../../src/engine/flow-options.js';
import { engineSettings } from '../../src/engine/settings.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { Bench, CLIENT } from './harness.js';

const to = (address: string) => ({ from: CLIENT, to: address });
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
let it: Bench;
const nat = (udpFiltering: UdpFiltering, more: ConstructorParameters<typeof Bench>[0] = {}): Bench => {
  it = new Bench({ udpFiltering, udpPeers: 4, ...more });
  return it;
};
afterEach(() => {
  it.flows.close();
  expect(it.reactor.watched).toBe(0);
  expect(it.sockets.ports.every((port) => port.isClosed)).toBe(true);
});
const answers = () =>
  it.packets.map(readPacket).map(({ from, sourcePort, port, data }) => `${from}:${sourcePort}>${port} ${text(data)}`);

test('one socket per client port, whatever the destination', () => {
  nat('endpoint-independent');
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'a'));
  it.inject(udpPacket(to('2.2.2.2'), 5000, 54, 'b'));
  it.inject(udpPacket(to('2.2.2.2'), 5001, 54, 'c'));
  expect(it.sockets.ports.map(({ sent }) => sent.map((one) => `${one.to} ${text(one.bytes)}`))).toEqual([
    ['1.1.1.1:53 a', '2.2.2.2:54 b'],
    ['2.2.2.2:54 c'],
  ]);
  it.sockets.ports[0]!.reply('2.2.2.2:54', 'B');
  it.sockets.ports[1]!.reply('2.2.2.2:54', 'C');
  it.run(Seconds(1));
  expect(answers()).toEqual(['2.2.2.2:54>5000 B', '2.2.2.2:54>5001 C']);
});

const FROM = ['1.1.1.1:53', '1.1.1.1:99', '9.9.9.9:53'];
test.each([
  ['endpoint-independent', 3],
  ['address-dependent', 2],
  ['address-and-port-dependent', 1],
] as const)('%s filtering lets in %i of: who was sent to, its other port, a stranger', (mode, passes) => {
  nat(mode);
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'a'));
  for (const from of FROM) it.sockets.ports[0]!.reply(from, from);
  it.run(Seconds(1));
  expect(answers()).toEqual(FROM.slice(0, passes).map((from) => `${from}>5000 ${from}`));
  expect(it.counters.get('udp_filtered')).toBe(FROM.length - passes);
});

test('more destinations than are remembered: the first is forgotten, and let in again when it is sent to again', () => {
  nat('address-and-port-dependent', { udpPeers: 2 });
  for (let n = 1; n <= 5; n++) it.inject(udpPacket(to(`1.1.1.${n}`), 5000, 53, 'x'));
  const [port] = it.sockets.ports;
  port!.reply('1.1.1.1:53', 'gone');
  port!.reply('1.1.1.5:53', 'here');
  it.run(Seconds(1));
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'x'));
  port!.reply('1.1.1.1:53', 'back');
  it.run(Seconds(1));
  expect(answers()).toEqual(['1.1.1.5:53>5000 here', '1.1.1.1:53>5000 back']);
  expect(it.sockets.ports.length).toBe(1);
});

test('the preset `mobile` remembers 32 destinations of a port: with one more the first is a stranger, and counted as one', () => {
  nat('address-and-port-dependent', { ...engineSettings('mobile').flows, udpFiltering: 'address-and-port-dependent' });
  const say = (n: number): void => it.inject(udpPacket(to(`1.1.1.${n}`), 5000, 53, 'x'));
  const heard = (n: number): number => {
    const before = it.packets.length;
    it.sockets.ports[0]!.reply(`1.1.1.${n}:53`, 'y');
    it.run(Millis(10));
    return it.packets.length - before;
  };
  for (let n = 1; n <= 32; n++) say(n);
  expect([heard(1), heard(32), it.counters.get('udp_filtered')]).toEqual([1, 1, 0]);
  say(33);
  expect([heard(1), heard(2), heard(33), it.counters.get('udp_filtered')]).toEqual([0, 1, 1, 1]);
});

test.each([
  [1, [0, 0, 1]],
  [2, [0, 0, 1]],
  [4, [0, 1, 1]],
  [5, [1, 1, 1]],
  [6, [1, 1, 1]],
])('where addresses are let in they count among the %i that are remembered of a port', (udpPeers, expected) => {
  nat('address-dependent', { udpPeers });
  for (let n = 1; n <= 3; n++) it.inject(udpPacket(to(`1.1.1.${n}`), 5000, 53, 'x'));
  const heard = expected.map((_, i) => {
    const before = it.packets.length;
    it.sockets.ports[0]!.reply(`1.1.1.${i + 1}:99`, 'y');
    it.run(Millis(10));
    return it.packets.length - before;
  });
  expect(heard).toEqual(expected);
});

test('where addresses are let in and one destination is remembered, its address does not take its place', () => {
  nat('address-dependent', { udpPeers: 1 });
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'x'));
  it.flows.reevaluate();
  expect(it.flows.udp.size).toBe(1);
});

test('a destination that is not allowed is refused, the others of the port go on', () => {
  nat('endpoint-independent');
  it.denied.add('6.6.6.6');
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'a'));
  it.inject(udpPacket(to('6.6.6.6'), 5000, 53, 'b'));
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'c'));
  expect(it.sockets.ports[0]!.sent.map((one) => text(one.bytes))).toEqual(['a', 'c']);
  expect(it.counters.get('flow_denied')).toBe(1);
  it.denied.add('1.1.1.1');
  it.flows.reevaluate();
  expect(it.flows.udp.size).toBe(0);
});

test('with every flow taken the one unused for longest makes room, where that is wanted', () => {
  nat('endpoint-independent', { udpFlows: 2, udpEvict: true });
  for (const port of [1, 2, 1, 3]) {
    it.inject(udpPacket(to('1.1.1.1'), port, 53, 'x'));
    it.run(Seconds(1));
  }
  expect(it.sockets.ports.map(({ isClosed }) => isClosed)).toEqual([false, true, false]);
  expect([it.counters.get('udp_evicted'), it.counters.get('udp_admission_fail')]).toEqual([1, 0]);
});

const INITIAL = Uint8Array.of(0xc0, 0, 0, 0, 1, 8, ...new Uint8Array(30));
test.each([
  ['name servers only, unanswered', [53], 'q', false, 10],
  ['name servers only, answered', [53], 'q', true, 10],
  ['a name server and something else', [53, 54], 'q', true, 60],
  ['the same, unanswered', [53, 54], 'q', false, 30],
  ['QUIC', [443], INITIAL, true, 300],
  ['QUIC that is not answered', [443], INITIAL, false, 30],
  ['an Initial packet to another port', [444], INITIAL, true, 60],
  ['something else at port 443', [443], Uint8Array.of(0x40, ...new Uint8Array(30)), true, 60],
  ['QUIC and a name server', [53, 443], INITIAL, true, 300],
] as const)('a port rests: %s', (_what, ports, data, answered, seconds) => {
  nat('endpoint-independent', engineSettings('mobile').flows);
  for (const port of ports) it.inject(udpPacket(to('1.1.1.1'), 5000, port, data));
  if (answered) it.sockets.ports[0]!.reply(`1.1.1.1:${ports[0]}`, 'x');
  it.run(Seconds(seconds - 1));
  expect(it.flows.udp.size).toBe(1);
  // Flows are looked at every five seconds.
  it.run(Seconds(6));
  expect([it.flows.udp.size, it.counters.get('udp_expired')]).toEqual([0, 1]);
});

test('an answer keeps a port as a datagram of its own does, and both are told with their bytes', () => {
  nat('endpoint-independent', engineSettings('mobile').flows);
  it.inject(udpPacket(to('1.1.1.1'), 5000, 54, 'abc'));
  for (let n = 0; n < 4; n++) {
    it.sockets.ports[0]!.reply('1.1.1.1:54', 'answer');
    it.run(Seconds(50));
  }
  expect(it.flows.udp.list(10)).toMatchObject([{ state: 'open', bytesIn: 3, bytesOut: 4 * 6 }]);
  it.run(Seconds(16));
  expect([it.flows.udp.size, it.counters.get('udp_expired')]).toEqual([0, 1]);
});

test('with many flows those looked at last are not looked at first again: one that rests is found by and by', () => {
  nat('endpoint-independent', { udpFlows: 200, udpEvict: true, newFlowRate: 1e6, newFlowBurst: 1e6 });
  const say = (from: number, until: number): void => {
    for (let port = from; port <= until; port++) it.inject(udpPacket(to('1.1.1.1'), port, 53, 'x'));
  };
  say(1, 200);
  it.run(Seconds(1));
  // The last ten rest: 64 are looked at for each that comes, so the third of these finds one.
  say(1, 190);
  say(301, 303);
  const closed = it.sockets.ports.flatMap((socket, i) => (socket.isClosed ? [i + 1] : []));
  expect(closed.map((port) => port > 190)).toEqual([false, false, true]);
});

test.each([
  ['one destination', ['1.1.1.1'], -111, [[3, 3]]],
  ['several destinations: nobody knows whose it is', ['1.1.1.1', '2.2.2.2'], -111, []],
  ['a datagram that is too long for the way out', ['1.1.1.1'], -90, []],
] as const)('an error of the socket, %s', (_what, destinations, result, told) => {
  nat('endpoint-independent');
  for (const address of destinations) it.inject(udpPacket(to(address), 5000, 53, 'a'));
  it.sockets.ports[0]!.result = result;
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'b'));
  it.run(Seconds(1));
  expect(it.counters.get('udp_send_fail')).toBe(1);
  expect(it.errors.map(readPacket).map(({ icmpType, icmpCode }) => [icmpType, icmpCode])).toEqual(told);
  expect(it.packets).toEqual([]);
});

test('a socket that takes nothing now: the datagram is dropped and counted', () => {
  nat('endpoint-independent');
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'a'));
  it.sockets.ports[0]!.result = -11;
  it.inject(udpPacket(to('1.1.1.1'), 5000, 53, 'b'));
  expect(it.counters.get('udp_send_blocked')).toBe(1);
  it.run(Seconds(1));
  expect(it.packets).toEqual([]);
});

test('thousands of ports and destinations in any order reach exactly whom they name', () => {
  nat('address-and-port-dependent', { udpFlows: 64, udpPeers: 64, newFlowRate: 1e6, newFlowBurst: 1e6 });
  let seed = 1;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % n;
  };
  const expected = new Map<number, string[]>();
  for (let i = 0; i < 3000; i++) {
    const port = 1000 + random(64);
    const address = `1.0.${random(8)}.${1 + random(8)}`;
    it.inject(udpPacket(to(address), port, 53, `${i}`));
    expected.set(port, [...(expected.get(port) ?? []), `${address}:53 ${i}`]);
  }
  const sent = it.sockets.ports.map((port) => port.sent.map((one) => `${one.to} ${text(one.bytes)}`).join());
  expect(new Set(sent)).toEqual(new Set([...expected.values()].map((list) => list.join())));
});
