/** Connections of an earlier run: found in the kernel's list, prodded, and reset by the connector with what the kernel tells. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseConnections } from '../../src/agent/orphans.js';
import { SocketAddress } from '../../src/base/address.js';
import { Seconds } from '../../src/base/time.js';
import { scene } from '../connector/fixtures.js';
import { ipPacket, PROTO, readPacket, tcpPacket } from '../support/packets.js';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const line = (local: string, remote: string, state: string): string =>
  `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 4321 1 0000000000000000`;
const ACK = 0x10;
/** What the host's kernel expects next. */
const EXPECTED = 0x1234_5678;
const OWN = ['100.64.0.2', 'fd00:1:2:f::2'];

test('connections from our addresses are found, of either family, also those of sockets of both', () => {
  const text = [
    HEADER,
    line('02004064:A3C2', '0100640A:0050', '01'),
    line('0100007F:A3C2', '0100007F:0050', '01'),
    line('02004064:A3C3', '0100640A:0050', '06'),
    line('0000000000000000FFFF000002004064:A3C4', '0000000000000000FFFF00000100640A:0050', '08'),
    line('010000FD0F0002000000000002000000:1F90', '010000FD000002000000000001000000:0050', '05'),
    '   4: nonsense',
  ].join('\n');
  const found = parseConnections(text, OWN).map(({ local, remote }) => `${local} ${remote}`);
  expect(found).toEqual([
    '100.64.0.2:41922 10.100.0.1:80',
    '100.64.0.2:41924 10.100.0.1:80',
    '[fd00:1:2:f::2]:8080 [fd00:1:2::1]:80',
  ]);
});

test('at most 1,024, and whatever the text is', () => {
  const many = Array.from({ length: 3000 }, (_, i) =>
    line(`02004064:${i.toString(16).toUpperCase().padStart(4, '0')}`, '0100640A:0050', '01'),
  );
  expect(parseConnections([HEADER, ...many].join('\n'), OWN).length).toBe(1024);
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 60 })), (lines) => {
      parseConnections([HEADER, ...lines].join('\n'), OWN);
    }),
  );
});

test.each([
  ['v4', '10.100.0.1'],
  ['v6', 'fd00:1:2::1'],
] as const)('a prodded kernel tells what it expects, and gets exactly that as a reset (%s)', async (family, to) => {
  const it = await scene({ agent: { tun: true } });
  const { overlay4, overlay6 } = it.agent.credentials.identity;
  const own = (family === 'v4' ? overlay4 : overlay6)!;
  const local = new SocketAddress(own, 5000);
  const remote = SocketAddress.parse(family === 'v4' ? `${to}:80` : `[${to}]:80`)!;
  it.agent.core.tun!.prod([{ local, remote }]);
  const [prod] = it.agent.tun!.take().map(readPacket);
  expect(prod).toMatchObject({ from: to, to: own.toString(), sourcePort: 80, port: 5000, flags: 0x02 });
  // What the kernel answers: its own numbers in an acknowledgment (RFC 5961 §4).
  const body = new Uint8Array(20);
  const view = new DataView(body.buffer);
  view.setUint16(0, 5000);
  view.setUint16(2, 80);
  view.setUint32(4, 99);
  view.setUint32(8, EXPECTED);
  body.set([0x50, ACK], 12);
  it.agent.tun!.send(ipPacket({ from: own.toString(), to, protocol: PROTO.tcp, body }));
  expect(it.world.until(() => it.agent.tun!.delivered.some(isReset), Seconds(5))).toBe(true);
  const reset = it.agent
    .tun!.take()
    .map(readPacket)
    .find(({ flags }) => (flags & 4) !== 0)!;
  expect(reset).toMatchObject({ from: to, to: own.toString(), sourcePort: 80, port: 5000 });
  expect(new DataView(reset.transport.buffer).getUint32(4)).toBe(EXPECTED);
});

test('an agent that stops resets connections with what it knows, and again with what the kernel then tells', async () => {
  const it = await scene({ agent: { tun: true } });
  it.connector.host.sockets.tcpBackend('10.0.0.5:8080');
  const ends = { from: it.agent.credentials.identity.overlay4!.toString(), to: '10.100.0.1' };
  const tun = it.agent.tun!;
  tun.send(tcpPacket(ends, 5000, 80, 0x02));
  expect(it.world.until(() => tun.delivered.length > 0)).toBe(true);
  tun.take();
  expect(it.agent.core.tun!.farewell()).toBe(1);
  expect(tun.take().map(readPacket)).toMatchObject([{ from: ends.to, port: 5000, flags: 0x14 }]);
  const said = (sequence: number): number => {
    const body = new Uint8Array(20);
    const view = new DataView(body.buffer);
    view.setUint16(0, 5000);
    view.setUint16(2, 80);
    view.setUint32(8, sequence);
    body.set([0x50, ACK], 12);
    tun.send(ipPacket({ ...ends, protocol: PROTO.tcp, body }));
    expect(it.world.until(() => tun.delivered.length > 0)).toBe(true);
    const [answer] = tun.take().map(readPacket);
    expect(answer).toMatchObject({ from: ends.to, sourcePort: 80, port: 5000, flags: 0x14 });
    return new DataView(answer!.transport.buffer).getUint32(4);
  };
  expect(said(EXPECTED)).toBe(EXPECTED);
  // A new connection is refused, and a reset is not answered.
  tun.send(tcpPacket(ends, 5001, 80, 0x02));
  expect(it.world.until(() => tun.delivered.length > 0)).toBe(true);
  expect(tun.take().map(readPacket)).toMatchObject([{ port: 5001, flags: 0x14 }]);
  tun.send(tcpPacket(ends, 5002, 80, 0x04));
  it.world.run(Seconds(1));
  expect(tun.delivered).toEqual([]);
});

const isReset = (packet: Uint8Array): boolean => (readPacket(packet.slice(10)).flags & 4) !== 0;
