/** Rules that change while flows are open: all at once, flows go on, end, or are held back otherwise. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import { readPacket, udpPacket } from '../../support/packets.js';
import { clientHello, records } from '../names/hellos.js';
import { CLIENT, CLIENT6, MockHost } from '../replay/mock-host.js';

const WEB = '93.184.216.34:443';
const WEB6 = '[2001:db8::34]:443';
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const udp = (from: number, to: string, port: number, text = 'x'): Uint8Array =>
  udpPacket({ from: to.includes(':') ? CLIENT6 : CLIENT, to }, from, port, text);

test('flows that the new rules refuse end, dials are given up, the others go on in either family', () => {
  const host = new MockHost();
  const [kept, ended, other] = [host.open('198.51.100.1:80'), host.open(WEB), host.open(WEB6)];
  const dialling = host.connect(WEB);
  host.engine.packets([udp(1, '203.0.113.1', 1000), udp(2, '203.0.113.2', 1000)]);
  host.run(Millis(10));
  const opened = host.connections.length;
  host.engine.setRules(['reject port=443', 'block cidr=203.0.113.2/32']);
  host.run(Millis(10));
  expect([kept.client.closed, ended.client.closed, other.client.closed, dialling.closed]).toEqual([
    undefined,
    'reset',
    'reset',
    'refused',
  ]);
  expect([ended.host.closed, other.host.closed]).toEqual(['aborted', 'aborted']);
  expect(host.values).toMatchObject({ 'flows_active{protocol=tcp}': 1, 'flows_active{protocol=udp}': 1 });
  kept.client.connection.write(bytesOf('still here'), 0, 10);
  host.engine.packets([udp(1, '203.0.113.1', 1000), udp(2, '203.0.113.2', 1000)]);
  host.run(Millis(10));
  expect(kept.host.text).toBe('still here');
  expect(host.connections).toHaveLength(opened);
  expect(host.engine.rules()).toEqual([
    { rule: 'reject port=443', hits: 3 },
    { rule: 'block cidr=203.0.113.2/32', hits: 2 },
  ]);
  expect(host.logs.filter((line) => line === 'debug flow refused')).toHaveLength(5);
});

test('rules that cannot be used change nothing', () => {
  const host = new MockHost({ rules: ['reject port=25'] });
  expect(() => host.engine.setRules(['allow', 'reject prot=25'])).toThrow(expect.objectContaining({ code: 'RULE' }));
  const client = host.connect('198.51.100.1:25');
  host.run(Millis(10));
  expect(client.closed).toBe('refused');
  host.engine.setRules([]);
  host.connect('198.51.100.1:25');
  host.run(Millis(10));
  expect(host.connections).toHaveLength(1);
});

test('rules that are set while the engine is stopped count from its start', () => {
  const host = new MockHost();
  host.engine.stop();
  host.engine.setRules(['reject']);
  host.engine.start();
  const client = host.connect(WEB);
  host.run(Millis(10));
  expect(client.closed).toBe('refused');
});

test('a hook may set them: they count from the next turn', () => {
  const host: MockHost = new MockHost({
    hooks: {
      onFlow: () => {
        host.engine.setRules(['reject']);
        return undefined;
      },
    },
  });
  const client = host.connect(WEB);
  host.run(Millis(10));
  expect([host.connections.length, client.closed]).toEqual([1, 'refused']);
});

test('a live TCP flow is held back, faster, and no longer, without losing a byte', () => {
  const host = new MockHost();
  const { client, host: far } = host.open(WEB);
  const bytes = Uint8Array.from({ length: 400_000 }, (_, i) => (i * 7 + (i >> 8)) & 255);
  let written = 0;
  const during = (milliseconds: number): number => {
    const before = far.bytes;
    for (let i = 0; i < milliseconds; i++) {
      written += client.connection.write(bytes, written, Math.min(4000, bytes.length - written));
      host.run(Millis(1));
    }
    return far.bytes - before;
  };
  expect(during(10)).toBe(40_000);
  host.engine.setRules(['shape rate=800kbit']);
  // 100 bytes a millisecond, and 50 ms of it at once.
  expect(during(200)).toBeLessThanOrEqual(25_000);
  host.engine.setRules(['shape rate=8mbit']);
  const faster = during(200);
  expect(faster).toBeGreaterThan(150_000);
  expect(faster).toBeLessThan(250_000);
  host.engine.setRules([]);
  during(200);
  expect(Buffer.compare(Buffer.concat(far.received), bytes)).toBe(0);
  host.reply(far, 'answer');
  host.engine.ended(far.id);
  client.connection.shutdownWrite();
  host.run(Millis(20));
  expect([Buffer.from(client.data).toString(), client.peerClosed, far.ended, far.closed]).toEqual([
    'answer',
    true,
    true,
    'finished',
  ]);
  expect(host.values).toMatchObject({ flows_shaped: 1, shaped_bytes: 0, 'flows_active{protocol=tcp}': 0 });
});

test('a half-closed TCP flow whose program waits for the host is held back from then on', () => {
  const host = new MockHost();
  const { client, host: far } = host.open(WEB);
  client.connection.shutdownWrite();
  host.run(Millis(10));
  expect(far.ended).toBe(true);
  host.engine.setRules(['shape delay=50ms']);
  host.run(Millis(1));
  host.reply(far, 'late');
  host.engine.ended(far.id);
  host.engine.closed(far.id, 'finished');
  host.run(Millis(45));
  expect(client.data).toHaveLength(0);
  host.run(Millis(10));
  expect([Buffer.from(client.data).toString(), client.peerClosed, client.closed]).toEqual(['late', true, 'finished']);
});

test('a flow that waits for the host’s room goes on behind a rule', () => {
  const host = new MockHost();
  const { client, host: far } = host.open(WEB);
  far.room = 1000;
  client.connection.write(new Uint8Array(8000), 0, 8000);
  host.run(Millis(10));
  const taken = far.bytes;
  expect(taken).toBeLessThan(8000);
  host.engine.setRules(['shape delay=20ms']);
  host.run(Millis(10));
  far.room = Number.POSITIVE_INFINITY;
  host.engine.resumed(far.id);
  host.run(Seconds(1));
  expect(far.bytes).toBe(8000);
});

test('datagrams that wait keep their time; those of a refused destination are counted, the port’s others go on', () => {
  const host = new MockHost({ rules: ['shape protocol=udp delay=100ms'] });
  host.engine.packets([udp(1, '203.0.113.1', 7, 'first'), udp(1, '203.0.113.2', 7, 'refused')]);
  host.run(Millis(10));
  host.engine.setRules(['block cidr=203.0.113.2/32', 'shape protocol=udp delay=10ms']);
  host.run(Millis(1));
  host.engine.packets([udp(1, '203.0.113.1', 7, ' second')]);
  host.run(Millis(80));
  expect(host.last.text).toBe('');
  host.run(Millis(10));
  expect([host.connections.length, host.last.text]).toEqual([1, 'first second']);
  expect(host.values['backpressure_drops{where=shaper}']).toBe(1);
  host.engine.packets([udp(1, '203.0.113.1', 7, ' third')]);
  host.run(Millis(12));
  expect(host.last.text).toBe('first second third');
});

test('with address-dependent filtering an address stays open as long as one of its ports is allowed', () => {
  const host = new MockHost({ settings: { flows: { udpFiltering: 'address-dependent' } } });
  host.engine.packets([udp(1, '203.0.113.1', 7), udp(1, '203.0.113.1', 8), udp(1, '203.0.113.2', 7)]);
  host.run(Millis(1));
  host.engine.setRules(['block port=8', 'block cidr=203.0.113.2/32']);
  host.run(Millis(1));
  host.reply(host.last, 'let in', '203.0.113.1:9');
  host.reply(host.last, 'kept out', '203.0.113.2:7');
  host.run(Millis(1));
  expect(host.packets.map((packet) => readPacket(packet).sourcePort)).toEqual([9]);
  expect(host.values['udp_filtered']).toBe(1);
});

test('a flow whose name comes with its first bytes is held back from then on, and others are not asked about', () => {
  let asked = 0;
  const host = new MockHost({
    rules: ['shape suffix=video.example delay=50ms', 'reject suffix=bad.example'],
    hooks: {
      onFlow: () => {
        asked++;
        return undefined;
      },
    },
  });
  const flows = [host.open(WEB), host.open(WEB), host.open(WEB)];
  const [video, bad, plain] = flows.map(({ client }) => client);
  const say = (client: (typeof flows)[number]['client'], name: string): void => {
    const hello = records(clientHello({ name }));
    client.connection.write(hello, 0, hello.length);
    host.run(Millis(1));
  };
  say(video!, 'a.video.example');
  say(bad!, 'a.bad.example');
  say(plain!, 'a.plain.example');
  expect([video!.closed, bad!.closed, plain!.closed]).toEqual([undefined, 'reset', undefined]);
  // Three began, and the one that is held back was allowed once more; the refused one ends before the hook.
  expect(asked).toBe(4);
  for (const { host: far } of [flows[0]!, flows[2]!]) host.reply(far, 'x');
  host.run(Millis(45));
  expect([video!.data.length, plain!.data.length]).toEqual([0, 1]);
  host.run(Millis(10));
  expect(video!.data).toHaveLength(1);
  expect(host.engine.rules().map(({ hits }) => hits)).toEqual([1, 1]);
});
