/** Flows: caps, ends, judging anew; what is closed leaves no socket, watch or timer behind. */
import { afterEach, expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { engineSettings } from '../../src/engine/settings.js';
import { echoRequest, readPacket, udpPacket } from '../support/packets.js';
import { Bench, CLIENT } from './harness.js';

const WEB = '10.9.0.1:80';
const ends = { from: CLIENT, to: '10.9.0.2' };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const made: Bench[] = [];
const bench = (...args: ConstructorParameters<typeof Bench>): Bench => {
  const one = new Bench(...args);
  made.push(one);
  return one;
};
afterEach(() => {
  for (const it of made.splice(0)) {
    it.flows.close();
    expect(it.reactor.watched).toBe(0);
    expect(it.sockets.streams.every((stream) => stream.closed !== undefined)).toBe(true);
    expect(it.sockets.flows.every((flow) => flow.isClosed)).toBe(true);
    expect(it.sockets.echoes.every((echo) => echo.isClosed)).toBe(true);
    expect([it.flows.tcp.size, it.flows.udp.size, it.flows.echo.size]).toEqual([0, 0, 0]);
  }
});

test('TCP flows above the cap are reset; those that dial count', () => {
  const it = bench({ tcpFlows: 3 });
  it.sockets.tcpBackend(WEB);
  it.sockets.tcpBackend('10.9.0.9:80').result = undefined;
  const first = [it.connect(WEB), it.connect(WEB), it.connect('10.9.0.9:80')];
  it.run(Seconds(1));
  expect(first.map((one) => one.connected)).toEqual([true, true, false]);
  const above = it.connect(WEB);
  it.run(Seconds(1));
  expect(above.closed).toBe('refused');
  expect(it.counters.get('tcp_admission_fail')).toBe(1);
  first[0]!.connection.abort();
  it.run(Seconds(1));
  const next = it.connect(WEB);
  it.run(Seconds(1));
  expect(next.connected).toBe(true);
});

test('a backend that never answers does not use up what flows to others need', () => {
  const it = bench({ tcpFlows: 10, tcpDials: 4 });
  it.sockets.tcpBackend(WEB);
  it.sockets.tcpBackend('10.9.0.9:80').result = undefined;
  const silent = Array.from({ length: 6 }, () => it.connect('10.9.0.9:80'));
  it.run(Seconds(1));
  expect(silent.map((one) => one.closed)).toEqual([undefined, undefined, undefined, undefined, 'refused', 'refused']);
  expect(it.counters.get('tcp_admission_fail')).toBe(2);
  // Their time is over: others have their turn.
  it.run(Seconds(10));
  const next = it.connect(WEB);
  it.run(Seconds(1));
  expect(next.connected).toBe(true);
});

test('a client that gives up while the backend is dialled ends the dial', () => {
  const it = bench();
  it.sockets.tcpBackend(WEB).result = undefined;
  const client = it.connect(WEB);
  it.run(Seconds(2));
  expect(it.flows.tcp.size).toBe(1);
  client.connection.abort();
  // The stack asks no backend for more than a minute whatever the client does.
  it.run(Seconds(12));
  expect(it.flows.tcp.size).toBe(0);
  expect(it.sockets.streams.length).toBe(1);
  expect(it.sockets.streams[0]!.closed).toBeDefined();
});

test('repeated SYNs are one dial', () => {
  const it = bench();
  it.sockets.tcpBackend(WEB).delay = Seconds(8);
  const client = it.connect(WEB);
  it.run(Seconds(7));
  expect(it.sockets.streams.length).toBe(1);
  it.run(Seconds(9));
  expect(client.connected).toBe(true);
  expect(it.sockets.streams.length).toBe(1);
});

test('closing the session resets every flow and ends every dial', () => {
  const it = bench();
  it.sockets.tcpBackend(WEB);
  it.sockets.tcpBackend('10.9.0.9:80').result = undefined;
  const client = it.connect(WEB);
  const dialling = it.connect('10.9.0.9:80');
  it.run(Seconds(1));
  it.flows.close();
  it.run(Seconds(1));
  expect(client.closed).toBe('reset');
  expect(dialling.connected).toBe(false);
  expect(it.sockets.streams.map((stream) => stream.closed !== undefined)).toEqual([true, true]);
  // The backend answers too late.
  it.sockets.streams[1]!.settle(0);
  it.run(Seconds(1));
});

test('judging anew ends what is no longer routed, in every protocol, dialling flows too', () => {
  const it = bench();
  for (const backend of [WEB, '10.9.0.3:80']) it.sockets.tcpBackend(backend);
  it.sockets.tcpBackend('10.9.0.2:81').delay = Seconds(3);
  it.sockets.tcpBackend('10.9.0.2:80');
  for (const backend of ['10.9.0.2:53', '10.9.0.3:53']) it.sockets.udpBackend(backend);
  const stays = it.connect(WEB);
  const goes = it.connect('10.9.0.2:80');
  const dialling = it.connect('10.9.0.2:81');
  it.inject(udpPacket(ends, 1, 53, 'x'));
  it.inject(udpPacket({ ...ends, to: '10.9.0.3' }, 1, 53, 'x'));
  it.inject(echoRequest(ends, 1, 1));
  it.inject(echoRequest({ ...ends, to: '10.9.0.3' }, 1, 1));
  it.run(Seconds(1));
  expect([it.flows.tcp.size, it.flows.udp.size, it.flows.echo.size]).toEqual([3, 2, 2]);
  it.denied.add('10.9.0.2');
  it.flows.reevaluate();
  it.run(Seconds(5));
  expect(stays.closed).toBeUndefined();
  expect(goes.closed).toBe('reset');
  expect(dialling.connected).toBe(false);
  expect([it.flows.udp.size, it.flows.echo.size]).toEqual([1, 1]);
  expect(it.sockets.flows.map((flow) => flow.isClosed)).toEqual([true, false]);
});

test('echo flows: capped, ended after 30 s, and asked anew they work again', () => {
  const it = bench({ echoFlows: 2 });
  for (let identifier = 1; identifier <= 4; identifier++) it.inject(echoRequest(ends, identifier, 1));
  it.run(Seconds(1));
  expect(it.flows.echo.size).toBe(2);
  expect(it.counters.get('echo_admission_fail')).toBe(2);
  expect(it.packets.map((packet) => readPacket(packet).rest >>> 16)).toEqual([1, 2]);
  it.run(Seconds(40));
  expect(it.flows.echo.size).toBe(0);
  it.inject(echoRequest(ends, 4, 9));
  it.run(Seconds(1));
  expect(readPacket(it.packets.at(-1)!).rest).toBe(0x0004_0009);
});

test('the preset `mobile` has 16 echo flows, and one more is refused and counted', () => {
  const it = bench(engineSettings('mobile').flows);
  for (let identifier = 1; identifier <= 17; identifier++) it.inject(echoRequest(ends, identifier, 1));
  it.run(Seconds(1));
  expect([it.flows.echo.size, it.counters.get('echo_admission_fail')]).toEqual([16, 1]);
  expect(it.packets).toHaveLength(16);
});

test('echo replies are read until none is awaited; unasked and lost ones do not stop it', () => {
  const it = bench();
  it.inject(echoRequest(ends, 1, 1));
  it.run(Seconds(1));
  const socket = it.sockets.echoes[0]!;
  expect(socket.reads).toBe(1);
  it.inject(echoRequest(ends, 1, 2));
  it.inject(echoRequest(ends, 1, 3));
  it.run(Seconds(1));
  expect(socket.reads).toBe(3);
  // Sent twice by the network: read as well, one at a time.
  for (let copy = 0; copy < 2; copy++) socket.answer(socket.lastSource, 3, new Uint8Array(8));
  it.run(Seconds(1));
  expect(socket.reads).toBe(5);
  socket.loses = true;
  it.inject(echoRequest(ends, 1, 4));
  it.run(Seconds(1));
  socket.loses = false;
  it.inject(echoRequest(ends, 1, 5));
  it.run(Seconds(1));
  expect(socket.reads).toBe(7);
  expect(it.packets.map((packet) => readPacket(packet).rest & 0xffff)).toEqual([1, 2, 3, 3, 3, 5]);
});

test('a UDP flow that is full makes room by the flows whose time is up', () => {
  const it = bench({ udpFlows: 2, udpUnanswered: Seconds(2) });
  it.sockets.udpBackend('10.9.0.2:54');
  for (const port of [1, 2, 3]) it.inject(udpPacket(ends, port, 54, `${port}`));
  expect(it.flows.udp.size).toBe(2);
  expect(it.counters.get('udp_admission_fail')).toBe(1);
  it.clock.now = (it.clock.now + Seconds(3)) as typeof it.clock.now;
  it.inject(udpPacket(ends, 3, 54, 'again'));
  expect(it.flows.udp.size).toBe(1);
  expect(it.counters.get('udp_expired')).toBe(2);
});

test('flows whose 5-tuples have the same hash are still two flows', () => {
  const tuple = (from: number, to: number): number => {
    // Packed words of 100.64.0.1:from and 10.9.0.2:to, hashed as the table does.
    const words = [0, 0, 0xffff, 0x64400001, from, 0, 0, 0xffff, 0x0a090002, to];
    let hash = 0x811c9dc5;
    for (const word of words) hash = Math.imul(hash ^ word, 0x01000193);
    return hash >>> 0;
  };
  const seen = new Map<number, readonly [number, number]>();
  let twins: readonly (readonly [number, number])[] = [];
  for (let to = 1; to < 65_536 && twins.length === 0; to += 7) {
    for (let from = 1; from < 2000; from++) {
      const hash = tuple(from, to);
      const other = seen.get(hash);
      if (other !== undefined && (other[0] !== from || other[1] !== to)) twins = [other, [from, to]];
      seen.set(hash, [from, to]);
    }
    if (seen.size > 600_000) break;
  }
  expect(twins.length).toBe(2);
  const it = bench({ udpUnanswered: Seconds(10) });
  for (const [, to] of twins) it.sockets.udpBackend(`10.9.0.2:${to}`);
  for (const [from, to] of twins) it.inject(udpPacket(ends, from, to, `${from}`));
  expect(it.flows.udp.size).toBe(2);
  expect(it.sockets.flows.map((flow) => flow.sent.map(text))).toEqual(twins.map(([from]) => [`${from}`]));
  for (const flow of it.sockets.flows) flow.reply(flow.sent[0]!);
  it.run(Seconds(1));
  expect(it.packets.map((packet) => [readPacket(packet).port, text(readPacket(packet).data)])).toEqual(
    twins.map(([from]) => [from, `${from}`]),
  );
});

test('what the service’s host cannot open is told, and opens later', () => {
  const it = bench();
  const open = it.sockets.connect.bind(it.sockets);
  it.sockets.connect = () => {
    throw new Error('out of descriptors');
  };
  const client = it.connect(WEB);
  it.run(Seconds(1));
  expect(client.closed).toBe('unreachable');
  expect(it.counters.get('tcp_dial_unreachable')).toBe(1);
  it.sockets.connect = open;
  it.sockets.tcpBackend(WEB);
  const next = it.connect(WEB);
  it.run(Seconds(1));
  expect(next.connected).toBe(true);
});

test('what is read at once is what leaves as one: whole segments', () => {
  const it = bench({}, undefined, { sendInitial: 1 << 20 });
  const data = new Uint8Array(4_000_000);
  const asked: number[] = [];
  it.sockets.tcpBackend(WEB).onConnect = (stream) => {
    stream.say(data);
    const { read } = stream;
    stream.read = (target, offset, length) => {
      asked.push(length);
      return read.call(stream, target, offset, length);
    };
  };
  const client = it.connect(WEB);
  it.run(Seconds(3));
  const { receiver, sender, superSegment } = client.connection;
  expect(receiver.total).toBe(data.length);
  expect([superSegment % sender.mss, superSegment > 60_000]).toEqual([0, true]);
  // Less where the buffer ends or is full, never more.
  expect(Math.max(...asked)).toBe(superSegment);
});
