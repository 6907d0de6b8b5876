/** The engine as a host sees it: dials, data, ends, pauses, hooks, start and stop, changes of the network. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import type { EngineHooks } from '../../src/engine/hooks.js';
import type { DialFailure } from '../../src/engine/host/connections.js';
import { echoRequest, PROTO, readPacket, tcpPacket, udpPacket } from '../support/packets.js';
import { CLIENT, CLIENT6, MockHost } from './replay/mock-host.js';

const WEB = '93.184.216.34:80';
const ends = { from: CLIENT, to: '93.184.216.34' };
const ends6 = { from: CLIENT6, to: '2606:2800:220:1::1' };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test('a SYN is answered only once the host says that the connection stands', () => {
  const host = new MockHost();
  const client = host.connect(WEB);
  host.run(Seconds(3));
  expect(host.last.request).toMatchObject({ protocol: 'tcp', host: undefined });
  expect(host.last.request.destination.toString()).toBe(WEB);
  expect(client.connected).toBe(false);
  expect(host.families).toEqual([]);
  host.engine.connected(host.last.id);
  host.run(Seconds(1));
  expect(client.connected).toBe(true);
  expect(host.connections.length).toBe(1);
});

test.each(['93.184.216.34:80', '[2606:2800:220:1::1]:80'])('bytes and ends both ways, to %s', (address) => {
  const host = new MockHost();
  const { client, host: connection } = host.open(address);
  const data = new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n');
  client.connection.write(data, 0, data.length);
  host.run(Millis(10));
  expect(connection.text).toBe('GET / HTTP/1.1\r\n\r\n');
  host.reply(connection, 'HTTP/1.1 200 OK\r\n\r\n');
  host.run(Millis(10));
  expect(text(client.data)).toBe('HTTP/1.1 200 OK\r\n\r\n');
  client.connection.shutdownWrite();
  host.run(Millis(10));
  expect([connection.ended, connection.closed]).toEqual([true, undefined]);
  // Half-closed: the other direction goes on.
  host.reply(connection, 'more');
  host.engine.ended(connection.id);
  host.run(Seconds(5));
  expect(text(client.data)).toMatch(/more$/);
  expect([client.closed, connection.closed]).toEqual(['finished', 'finished']);
});

const FAILURES: readonly (readonly [DialFailure, string | undefined, string])[] = [
  ['refused', 'refused', 'refused'],
  ['unreachable-net', 'unreachable', 'unreachable'],
  ['unreachable-host', 'unreachable', 'unreachable'],
  ['blocked', 'unreachable', 'blocked'],
  ['other', 'unreachable', 'unreachable'],
  ['timeout', undefined, 'timeout'],
];
test.each(FAILURES)('a dial that fails (%s) is told as %s', (kind, told, counted) => {
  const host = new MockHost();
  const client = host.connect(WEB);
  host.run(Millis(10));
  host.engine.failed(host.last.id, kind);
  host.run(Millis(100));
  expect(client.closed).toBe(told);
  expect(host.values[`dial_errors{kind=${counted}}`]).toBe(1);
  // The number means nothing any more.
  host.engine.connected(host.last.id);
  host.reply(host.last, 'x');
  host.run(Seconds(1));
  expect(client.connected).toBe(false);
  // After silence the client asks again.
  expect(host.values['flows_active{protocol=tcp}']).toBe(kind === 'timeout' ? 1 : 0);
});

test('a host that does not answer: the dial is given up after its time, and the host is told', () => {
  const host = new MockHost();
  host.connect(WEB);
  host.run(Seconds(9));
  expect(host.last.closed).toBeUndefined();
  host.run(Seconds(2));
  expect(host.connections[0]!.closed).toBe('aborted');
  expect(host.values['dial_errors{kind=timeout}']).toBe(1);
});

test('a host that takes no more closes the client’s window; nothing is lost or sent twice', () => {
  const host = new MockHost({ preset: 'mobile' });
  const { client, host: connection } = host.open(WEB);
  connection.room = 10_000;
  const data = new Uint8Array(200_000).map((_, i) => i * 7);
  let at = 0;
  const feed = (): void => {
    for (let n = -1; n !== 0 && at < data.length; at += n) n = client.connection.write(data, at, data.length - at);
  };
  feed();
  host.run(Seconds(2));
  expect(connection.bytes).toBeLessThan(60_000);
  for (let rounds = 0; rounds < 1000 && connection.bytes < data.length; rounds++) {
    connection.room = 10_000;
    host.engine.resumed(connection.id);
    host.run(Millis(50));
    feed();
  }
  expect(Buffer.concat(connection.received).equals(data)).toBe(true);
});

test('a client that reads nothing: the host is asked to pause at three quarters and to go on at half', () => {
  const host = new MockHost({ preset: 'mobile', settings: { tcp: { sendMax: 32 * 1024 } } });
  const { client, host: connection } = host.open(WEB);
  client.reads = false;
  let sent = 0;
  for (let i = 0; i < 10_000 && !connection.paused; i++) {
    host.reply(connection, new Uint8Array(1000));
    sent += 1000;
    host.run(Millis(1));
  }
  expect(connection.paused).toBe(true);
  expect(sent).toBeLessThan(500_000);
  client.reads = true;
  client.connection.pull();
  host.run(Seconds(2));
  expect(connection.paused).toBe(false);
  expect(client.data.length).toBe(sent);
  expect(host.values['backpressure_drops{where=host}']).toBe(0);
});

test('a host that does not pause loses the connection, not bytes in its middle', () => {
  const host = new MockHost({ preset: 'mobile', settings: { tcp: { sendMax: 32 * 1024 } } });
  const { client, host: connection } = host.open(WEB);
  client.reads = false;
  for (let i = 0; i < 3000; i++) {
    host.reply(connection, new Uint8Array(1000));
    if (i % 50 === 0) host.run(Millis(1));
  }
  host.run(Seconds(1));
  expect(host.values['backpressure_drops{where=host}']).toBe(1);
  client.reads = true;
  client.connection.pull();
  host.run(Seconds(1));
  expect(client.closed).toBe('reset');
  expect(connection.closed).toBe('aborted');
});

test('when more than half of everything that may wait does, every connection is asked to pause, and then to go on', () => {
  const host = new MockHost({
    preset: 'mobile',
    settings: { tcp: { sendMax: 32 * 1024 }, host: { queueBytes: 256 * 1024 } },
  });
  const pairs = Array.from({ length: 4 }, () => host.open(WEB));
  for (const { client } of pairs) client.reads = false;
  const [one, two, , idle] = pairs;
  for (let i = 0; i < 120 && !idle!.host.paused; i++) {
    for (const { host: connection } of [one!, two!])
      if (!connection.paused) host.reply(connection, new Uint8Array(4000));
    if (one!.host.paused && two!.host.paused) host.reply(pairs[2]!.host, new Uint8Array(4000));
  }
  expect(idle!.host.paused).toBe(true);
  for (const { client } of pairs) {
    client.reads = true;
    client.connection.pull();
  }
  host.run(Seconds(2));
  expect(pairs.map(({ host: connection }) => connection.paused)).toEqual([false, false, false, false]);
  expect(host.values['backpressure_drops{where=host}']).toBe(0);
});

test('the host closes: an error is a reset, an end is an end', () => {
  const host = new MockHost();
  const one = host.open(WEB);
  const two = host.open(WEB);
  host.engine.closed(one.host.id, 'error');
  host.reply(two.host, 'bye');
  host.engine.closed(two.host.id, 'finished');
  host.run(Seconds(1));
  expect(one.client.closed).toBe('reset');
  expect(text(two.client.data)).toBe('bye');
  expect(two.client.peerClosed).toBe(true);
  // Neither number is closed again by the engine.
  expect([one.host.closed, two.host.closed]).toEqual([undefined, undefined]);
});

test.each([
  [ends, 4],
  [ends6, 6],
])(
  'datagrams: one connection per client port, each with its destination, answers from wherever they come (%o)',
  (of, family) => {
    const host = new MockHost();
    const other = family === 4 ? '1.2.3.4' : '2001:db8:1::1';
    host.engine.packets([udpPacket(of, 5000, 3478, 'a'), udpPacket({ ...of, to: other }, 5000, 9, 'b')]);
    host.engine.packets([udpPacket(of, 5001, 3478, 'c')]);
    host.run(Millis(10));
    expect(host.connections.map(({ to, text: sent }) => [to.length, sent])).toEqual([
      [2, 'ab'],
      [1, 'c'],
    ]);
    host.reply(host.connections[0]!, 'x', family === 4 ? '9.9.9.9:99' : '[2001:db8:9::9]:99');
    host.run(Millis(10));
    const [packet] = host.packets.map(readPacket);
    expect(packet).toMatchObject({ from: family === 4 ? '9.9.9.9' : '2001:db8:9::9', sourcePort: 99, port: 5000 });
    expect(host.families).toEqual([family]);
  },
);

test('a datagram of the host without an address, or beyond what may wait, is dropped and counted', () => {
  const host = new MockHost({ preset: 'mobile' });
  host.engine.packets([udpPacket(ends, 5000, 53, 'q')]);
  host.run(Millis(10));
  host.reply(host.last, 'x');
  for (let i = 0; i < 300; i++) host.reply(host.last, new Uint8Array(1000), '9.9.9.9:9');
  host.run(Millis(10));
  const dropped = host.values['backpressure_drops{where=host}']!;
  expect(dropped).toBe(1 + 300 - 262);
  expect(host.packets.length).toBe(262);
});

test('echo is answered here where the dialer carries none, in both families', () => {
  const host = new MockHost();
  host.engine.packets([echoRequest(ends, 1, 7, new Uint8Array([1, 2, 3])), echoRequest(ends6, 2, 8)]);
  host.run(Millis(10));
  expect(host.packets.map(readPacket).map(({ from, icmpType, rest }) => [from, icmpType, rest])).toEqual([
    [ends.to, 0, 0x0001_0007],
    [ends6.to, 129, 0x0002_0008],
  ]);
});

test('a hook decides: another dialer, another target, refusals, a service of the host’s own', () => {
  const served: string[] = [];
  const hooks: EngineHooks = {
    onFlow: ({ protocol, destination }) => {
      switch (destination.port) {
        case 81:
          return { action: 'allow', dialer: 'other', target: SocketAddress.parse('10.0.0.1:8081')! };
        case 82:
          return { action: 'block', how: protocol === 'tcp' ? 'reset' : 'port-unreachable' };
        case 83:
          return { action: 'allow', dialer: 'nobody' };
        case 53:
          return {
            action: 'serve',
            udp: (_addresses, bytes, offset, length) => {
              served.push(text(bytes.subarray(offset, offset + length)));
            },
            tcp: (request) => request.reject('admin-prohibited'),
          };
        default:
          return undefined;
      }
    },
  };
  const host = new MockHost({ hooks, dialers: ['mock', 'other'] });
  const at = (port: number) => host.connect(`93.184.216.34:${port}`);
  const clients = [at(80), at(81), at(82), at(83), at(53)];
  host.engine.packets([udpPacket(ends, 5000, 53, 'query'), udpPacket(ends, 5000, 82, 'blocked')]);
  host.run(Millis(100));
  expect(host.connections.map(({ request }) => request.destination.toString())).toEqual([WEB, '10.0.0.1:8081']);
  expect(clients.map(({ closed }) => closed)).toEqual([undefined, undefined, 'refused', 'unreachable', 'unreachable']);
  expect(served).toEqual(['query']);
  expect(
    host.packets.map(readPacket).map(({ protocol, icmpType, icmpCode }) => [protocol, icmpType, icmpCode]),
  ).toEqual([[PROTO.icmp, 3, 3]]);
  expect(host.values['flows_denied']).toBe(3);
});

test('rules that change end the flows they no longer allow', () => {
  let blocked = false;
  const host = new MockHost({ hooks: { onFlow: () => (blocked ? { action: 'block', how: 'reset' } : undefined) } });
  const { client, host: connection } = host.open(WEB);
  host.engine.packets([udpPacket(ends, 5000, 9, 'x')]);
  host.run(Millis(10));
  blocked = true;
  host.engine.reevaluate();
  host.run(Millis(100));
  expect(client.closed).toBe('reset');
  expect([connection.closed, host.last.closed]).toEqual(['aborted', 'finished']);
});

test('taps see both directions of a flow until they have enough; its end is told', () => {
  const seen: string[] = [];
  let over: unknown;
  const host = new MockHost({
    hooks: {
      onFlow: () => ({
        action: 'allow',
        tap: (toHost, bytes, offset, length) => {
          seen.push(`${toHost ? '>' : '<'}${text(bytes.subarray(offset, offset + length))}`);
          return seen.length < 2;
        },
        onClosed: (reason, bytesIn, bytesOut) => {
          over = [reason, bytesIn, bytesOut];
        },
      }),
    },
  });
  const { client, host: connection } = host.open(WEB);
  for (const word of ['one', 'two']) {
    client.connection.write(new TextEncoder().encode(word), 0, 3);
    host.run(Millis(10));
    host.reply(connection, word.toUpperCase());
    host.run(Millis(10));
  }
  client.connection.abort();
  host.run(Millis(10));
  expect(seen).toEqual(['>one', '<ONE']);
  expect(over).toEqual(['reset', 6, 6]);
});

test('hooks, devices, hosts and logs that throw are counted, and everything goes on', () => {
  const fail = (): never => {
    throw new Error('of the host');
  };
  const host = new MockHost({ hooks: { onFlow: fail, onPacket: fail } });
  host.onDial = fail;
  const { client, host: connection } = host.open(WEB);
  expect(client.connected).toBe(true);
  host.onSend = fail;
  client.connection.write(new TextEncoder().encode('x'), 0, 1);
  host.run(Millis(10));
  expect(connection.text).toBe('x');
  expect(host.values['hook_errors']).toBeGreaterThan(5);
});

test('start and stop in any order and number; a stopped engine does nothing and asks for nothing', () => {
  const host = new MockHost();
  const { engine } = host;
  engine.start();
  const { client, host: connection } = host.open(WEB);
  engine.stop();
  engine.stop();
  expect(engine.isRunning).toBe(false);
  expect(connection.closed).toBe('aborted');
  host.run(Seconds(1));
  expect(client.closed).toBe('reset');
  expect(host.scheduled).toBe(0);
  expect(host.values['flows_opened{protocol=tcp}']).toBe(1);
  for (const act of [
    () => engine.packets([udpPacket(ends, 1, 2, 'x')]),
    () => engine.connected(connection.id),
    () => host.reply(connection, 'x'),
    () => engine.pathChanged(true),
    () => engine.reevaluate(),
  ]) {
    act();
  }
  expect(host.scheduled).toBe(0);
  engine.start();
  expect(host.open(WEB).client.connected).toBe(true);
  expect(host.values['flows_opened{protocol=tcp}']).toBe(1);
  const lines = host.logs.filter((line) => line.startsWith('info'));
  expect(lines).toEqual(['info engine started', 'info engine stopped', 'info engine started']);
});

test.each([
  ['stop', ['stop'], false],
  ['stop and start', ['stop', 'start'], true],
  ['start, stop, start, stop', ['start', 'stop', 'start', 'stop'], false],
] as const)('from a hook: %s', (_name, calls, runs) => {
  const host: MockHost = new MockHost({
    hooks: {
      onFlow: () => {
        for (const call of calls) host.engine[call]();
        return undefined;
      },
    },
  });
  const client = host.connect(WEB);
  host.run(Millis(100));
  expect(host.engine.isRunning).toBe(runs);
  expect(client.connected).toBe(false);
  expect(host.connections.every(({ closed }) => closed !== undefined)).toBe(true);
  if (!runs) expect(host.scheduled).toBe(0);
});

test('a change of the network: dials begin anew, datagrams get a new connection, open ones end only if the host says so', () => {
  for (const abort of [false, true]) {
    const host = new MockHost();
    const open = host.open(WEB);
    const dialling = host.connect('1.2.3.4:443');
    host.engine.packets([udpPacket(ends, 5000, 9, 'a')]);
    host.run(Millis(10));
    const [first, datagrams] = ['tcp', 'udp'].map((protocol) =>
      host.connections.slice(1).find(({ request }) => request.protocol === protocol),
    );
    host.engine.pathChanged(abort);
    host.run(Millis(10));
    expect([first!.closed, datagrams!.closed]).toEqual(['aborted', 'finished']);
    expect(open.client.closed).toBe(abort ? 'reset' : undefined);
    expect(host.last.request.destination.toString()).toBe('1.2.3.4:443');
    host.engine.connected(host.last.id);
    host.engine.packets([udpPacket(ends, 5000, 9, 'b')]);
    host.run(Millis(10));
    expect(dialling.connected).toBe(true);
    expect([host.last.request.protocol, host.last.text]).toEqual(['udp', 'b']);
    expect(host.values['path_changes']).toBe(1);
  }
});

test('names that the host has found are told with the dial', () => {
  const host = new MockHost();
  const { names } = host.engine;
  expect(names.record('Web.Example.', ['93.184.216.34', 'no address'], 60)).toBe(true);
  expect(names.record('not a name!', ['93.184.216.34'])).toBe(false);
  expect([names.of('93.184.216.34'), names.of('1.1.1.1'), names.of('x')]).toEqual([
    'web.example',
    undefined,
    undefined,
  ]);
  host.connect(WEB);
  host.run(Millis(10));
  expect(host.last.request.host).toBe('web.example');
  host.run(Seconds(61));
  expect(names.of('93.184.216.34')).toBeUndefined();
});

test('event driven: nothing is asked of the scheduler while there is nothing to do, every 5 ms at most while flows are open', () => {
  const host = new MockHost();
  host.run(Seconds(10));
  const idle = host.values['turns']!;
  expect(idle).toBeLessThan(3);
  host.open(WEB);
  const before = host.values['turns']!;
  host.run(Seconds(1));
  const turns = host.values['turns']! - before;
  expect(turns).toBeGreaterThan(190);
  expect(turns).toBeLessThan(230);
});

test.each([
  [{ mtu: 1000 }, 'mtu 1000'],
  [{ mtu: 70_000 }, 'mtu 70000'],
  [{ flows: { tcpFlows: 0 } }, 'tcpFlows 0'],
  [{ flows: { udpFiltering: 'none' as never } }, 'udpFiltering none'],
])('settings %o are refused by name', (settings, named) => {
  expect(() => new MockHost({ settings })).toThrow(expect.objectContaining({ code: 'ENGINE_SETTINGS' }));
  expect(() => new MockHost({ settings })).toThrow(named);
});

test('an engine without a dialer, or with a preset that is none, is refused', () => {
  expect(() => new MockHost({ dialers: [] })).toThrow(expect.objectContaining({ code: 'ENGINE_DIALERS' }));
  expect(() => new MockHost({ preset: 'huge' as never })).toThrow(expect.objectContaining({ code: 'ENGINE_SETTINGS' }));
});

test('noise from the device: every drop is counted, nothing is answered that should not be', () => {
  const host = new MockHost();
  const packets: Uint8Array[] = [];
  const whole = tcpPacket(ends, 1000, 80);
  for (let n = 0; n <= whole.length; n++) packets.push(whole.slice(0, n));
  for (let i = 0; i < whole.length; i++) packets.push(whole.map((byte, k) => (k === i ? byte ^ 0xff : byte)));
  packets.push(udpPacket({ ...ends, to: '224.0.0.251' }, 5353, 5353, 'mdns'));
  packets.push(udpPacket({ ...ends, to: '255.255.255.255' }, 68, 67, 'dhcp'));
  packets.push(udpPacket({ from: CLIENT6, to: 'ff02::fb' }, 5353, 5353, 'mdns'));
  host.engine.packets(packets.filter((packet) => packet.length > 0));
  host.run(Millis(100));
  const dropped = Object.entries(host.values).filter(([name]) => name.startsWith('drops'));
  const sum = dropped.reduce((total, [, count]) => total + count, 0);
  expect(sum + host.connections.length).toBeGreaterThan(packets.length - 10);
  expect(host.values['drops{reason=bad_address}']).toBeGreaterThanOrEqual(3);
});
