/**
 * A capture of a real client (curl, ping and datagrams against Linux) is played to an engine: what it asks the host for, what it
 * hands over, what it answers, what it counts.
 */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import { ipPacket, PROTO, readPacket } from '../../support/packets.js';
import { MockHost } from './mock-host.js';
import { readCapture } from './pcap.js';

/** Of the fragmented datagrams only the first fragments were captured: they are left out. */
const isFragment = (packet: Uint8Array): boolean => (packet[6]! & 0x3f) !== 0 || packet[7] !== 0;
const capture = readCapture(new URL('./captures/mixed.pcap', import.meta.url)).filter((packet) => !isFragment(packet));
const CLIENT = '10.1.0.1';
const ACK = 0x10;
const SYN = 0x02;

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const payloadOf = (packet: Uint8Array): Uint8Array => {
  const { transport } = readPacket(packet);
  return transport.slice((transport[12]! >>> 4) * 4);
};

/** Plays the client's side; the server's bytes come from the host as they did in the capture. */
function play(host: MockHost): { readonly expected: Map<number, Uint8Array[]> } {
  /** Client port → how far our sequence numbers are from the captured server's. */
  const shift = new Map<number, number>();
  const serverIsn = new Map<number, number>();
  const expected = new Map<number, Uint8Array[]>();
  let seen = 0;
  host.onDial = (connection) => host.engine.connected(connection.id);
  const learn = (): void => {
    for (const packet of host.packets.slice(seen)) {
      const read = readPacket(packet);
      if (read.protocol !== PROTO.tcp || (read.flags & (SYN | ACK)) !== (SYN | ACK)) continue;
      shift.set(read.port, view(read.transport).getUint32(4) - serverIsn.get(read.port)!);
    }
    seen = host.packets.length;
  };
  for (const packet of capture) {
    const read = readPacket(packet);
    if (read.from !== CLIENT) {
      if (read.protocol !== PROTO.tcp) continue;
      if ((read.flags & SYN) !== 0) serverIsn.set(read.port, view(read.transport).getUint32(4));
      const connection = host.connections.find((one) => one.request.id === ids.get(read.port))!;
      const data = payloadOf(packet);
      if (data.length > 0) host.reply(connection, data);
      if ((read.flags & 1) !== 0) host.engine.ended(connection.id);
      host.run(Millis(1));
      learn();
      continue;
    }
    const body = read.transport.slice();
    if (read.protocol === PROTO.tcp) {
      const data = payloadOf(packet);
      if (data.length > 0) expected.set(read.sourcePort, [...(expected.get(read.sourcePort) ?? []), data]);
      if ((read.flags & ACK) !== 0) {
        view(body).setUint32(8, (view(body).getUint32(8) + (shift.get(read.sourcePort) ?? 0)) >>> 0);
      }
    }
    host.engine.packets([ipPacket({ from: read.from, to: read.to, protocol: read.protocol, body })]);
    const before = host.connections.length;
    host.run(Millis(1));
    if (host.connections.length > before) ids.set(read.sourcePort, host.last.id);
  }
  host.run(Seconds(2));
  return { expected };
}

let ids = new Map<number, number>();

test('a capture of TCP, UDP and ICMP: dials, bytes to the host, answers, ends and counters', () => {
  ids = new Map();
  const events: string[] = [];
  const host = new MockHost({
    hooks: {
      onEvents: (batch, dropped) => {
        for (const { kind, protocol, source, destination, bytesIn, bytesOut } of batch) {
          const bytes = bytesIn === undefined ? '' : ` ${bytesIn} ${bytesOut}`;
          events.push(`${kind} ${protocol} ${source.replace(/:\d+$/, '')} ${destination}${bytes}`);
        }
        events.push(...(dropped > 0 ? [`${dropped} dropped`] : []));
      },
    },
  });
  const { expected } = play(host);
  expect(host.connections.map(({ request }) => `${request.protocol} ${request.destination}`)).toEqual([
    'tcp 10.50.0.1:80',
    'tcp 10.50.0.1:80',
    'udp 10.50.0.1:7',
  ]);
  const [first, second, datagrams] = host.connections;
  const sent = [...expected.values()].map((parts) => Buffer.concat(parts).toString());
  expect([first!.text, second!.text]).toEqual(sent);
  expect(first!.text).toMatch(/^GET \/page HTTP/);
  expect(second!.bytes).toBe(20_150);
  expect([first!.ended, second!.ended]).toEqual([true, true]);
  expect([first!.closed, second!.closed]).toEqual(['finished', 'finished']);
  expect(datagrams!.received.map((one) => one.length)).toEqual([5, 1300]);
  const echoes = host.packets.map(readPacket).filter(({ protocol }) => protocol === PROTO.icmp);
  expect(echoes.map(({ icmpType, rest }) => [icmpType, rest])).toEqual([[0, (27_935 << 16) | 1]]);
  const server = host.packets.filter((packet) => packet[9] === PROTO.tcp);
  const bytes = server.reduce((sum, packet) => sum + payloadOf(packet).length, 0);
  expect(bytes).toBe(20_203 + 555);
  expect(server.every((packet) => readPacket(packet).from === '10.50.0.1')).toBe(true);
  expect(host.families.every((family) => family === 4)).toBe(true);
  expect(host.values).toMatchObject({
    'flows_opened{protocol=tcp}': 2,
    'flows_opened{protocol=udp}': 1,
    'flows_active{protocol=tcp}': 0,
    echo_requests: 1,
    retransmits: 0,
    rst_out: 0,
    hook_errors: 0,
  });
  expect(Object.keys(host.values).filter((name) => name.startsWith('drops'))).toEqual([]);
  const [page, upload] = sent.map((text) => text.length);
  expect(events).toEqual([
    'opened tcp 10.1.0.1 10.50.0.1:80',
    `closed tcp 10.1.0.1 10.50.0.1:80 ${page} 20203`,
    'opened tcp 10.1.0.1 10.50.0.1:80',
    `closed tcp 10.1.0.1 10.50.0.1:80 ${upload} 555`,
    'opened icmp 10.1.0.1 10.50.0.1:0',
    'opened udp 10.1.0.1 10.50.0.1:7',
  ]);
  expect(host.logs).toEqual([
    'info engine started',
    ...events.map((event) => `debug flow ${event.slice(0, event.indexOf(' '))}`),
  ]);
});
