/** Networks that are not what they seem: a portal in front of everything, and a way out that leads back into the device. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { Millis, Seconds } from '../../../src/base/time.js';
import type { ResolverAnswer } from '../../../src/engine/host/traffic-options.js';
import { readPacket, udpPacket } from '../../support/packets.js';
import { a, query, read, reply } from '../dns/world.js';
import { CLIENT, type MockConnection, MockHost } from './mock-host.js';

const SERVER = '10.9.0.53';
const PORTAL = '172.20.0.1';
const ends = { from: CLIENT, to: '9.9.9.9' };

function lookUp(host: MockHost, name: string, port: number): readonly string[] {
  host.packets.length = 0;
  host.engine.packets([udpPacket(ends, port, 53, query(name, 'A'))]);
  host.run(Millis(50));
  const { answers = [] } = read(readPacket(host.packets.at(-1)!).data);
  return answers.map((answer) => String((answer as { readonly data: string }).data));
}

function answer(host: MockHost, connection: MockConnection, bytes: Uint8Array, address: string): void {
  const packet = read(bytes.slice());
  const question = packet.questions![0]!;
  const asked = { via: 'udp', bytes, query: packet, question, name: question.name } as const;
  host.reply(connection, reply(asked, { answers: [a(question.name, address)] }), `${SERVER}:53`);
}

test('a captive portal: the hook’s answers are pinned while the host says so, and forgotten when the network changes', () => {
  let isCaptive = true;
  const asked: string[] = [];
  const resolver = (name: string, tell: (result: ResolverAnswer) => void): void => {
    asked.push(name);
    tell(isCaptive ? { addresses: [PORTAL], ttlSeconds: 1 } : undefined);
  };
  const host = new MockHost({
    dns: { mode: 'hijack', servers: [SERVER], resolver },
    rules: ['reject host=blocked.example'],
  });
  host.onDial = (connection) => host.engine.connected(connection.id);
  host.onSend = (connection, bytes) => {
    if (connection.request.destination.port === 53) answer(host, connection, bytes, '93.184.216.34');
  };
  expect(lookUp(host, 'www.example', 4000)).toEqual([PORTAL]);
  // The portal's address goes by the name that was asked for, for rules and dialers too.
  const { client, host: dialled } = host.open(`${PORTAL}:80`);
  expect([client.connected, dialled.request.host]).toEqual([true, 'www.example']);
  expect(host.values['dns{event=server_queries}'] ?? 0).toBe(0);

  // Signed in: the system tells of another network, and the servers are asked from now on.
  isCaptive = false;
  host.engine.pathChanged(true);
  host.run(Millis(50));
  expect(client.closed).toBe('reset');
  expect(lookUp(host, 'www.example', 4001)).toEqual(['93.184.216.34']);
  expect(asked).toEqual(['www.example', 'www.example']);
  expect(host.values).toMatchObject({ 'dns{event=hook_answers}': 1, 'dns{event=server_queries}': 1 });
});

test('a portal that lets nobody ask: failures are forgotten with the network, not kept for the next one', () => {
  let isShut = true;
  const host = new MockHost({ dns: { mode: 'hijack', servers: [SERVER] } });
  host.onDial = (connection) => host.engine.connected(connection.id);
  host.onSend = (connection, bytes) => {
    if (isShut) host.engine.failed(connection.id, 'unreachable-net');
    else answer(host, connection, bytes, '93.184.216.34');
  };
  host.engine.packets([udpPacket(ends, 4000, 53, query('www.example', 'A'))]);
  host.run(Seconds(15));
  expect(read(readPacket(host.packets.at(-1)!).data).rcode).toBe('SERVFAIL');
  isShut = false;
  host.engine.pathChanged(false);
  expect(lookUp(host, 'www.example', 4001)).toEqual(['93.184.216.34']);
});

test('own questions that come back through the device are one question: they end, and multiply nothing', () => {
  const host = new MockHost({ dns: { mode: 'hijack', servers: [SERVER] } });
  let port = 5000;
  let looped = 0;
  host.onDial = (connection) => host.engine.connected(connection.id);
  host.onSend = (connection, bytes) => {
    if (connection.request.protocol !== 'udp') return;
    looped++;
    const to = SocketAddress.parse(`${SERVER}:53`)!;
    host.engine.packets([udpPacket({ from: CLIENT, to: to.ip.toString() }, port++, 53, bytes.slice())]);
  };
  host.engine.packets([udpPacket(ends, 4000, 53, query('www.example', 'A'))]);
  host.run(Seconds(15));
  const answers = host.packets.map((packet) => ({ ...readPacket(packet) })).filter(({ port: to }) => to === 4000);
  expect(answers.map(({ data }) => read(data).rcode)).toEqual(['SERVFAIL']);
  expect(looped).toBeGreaterThan(0);
  expect(looped).toBeLessThanOrEqual(6);
  expect(host.values['dns{event=joined}']).toBe(looped);
  expect(host.values['dns{event=server_queries}']).toBe(looped);
  // Nothing of it is left over.
  host.run(Seconds(60));
  expect(looped).toBeLessThanOrEqual(6);
});
