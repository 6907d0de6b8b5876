/** Services of the host's own: what a `serve` decision's datagrams are answered with. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Millis } from '../../src/base/time.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { CLIENT, CLIENT6, MockHost } from './replay/mock-host.js';

const ends = { from: CLIENT, to: '93.184.216.34' };
const ends6 = { from: CLIENT6, to: '2001:db8::9' };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test('a service of the host’s own answers datagrams, at once or later, in either family; too many and too long ones are counted', () => {
  const host: MockHost = new MockHost({
    hooks: {
      onFlow: () => ({
        action: 'serve',
        udp: (addresses, bytes, offset, length) => {
          const [program, service] = [SocketAddress.read(addresses, 0), SocketAddress.read(addresses, 1)];
          host.engine.answer(service, program, bytes.subarray(offset, offset + length));
        },
      }),
    },
  });
  host.engine.packets([udpPacket(ends, 5000, 7, 'four'), udpPacket(ends6, 5001, 7, 'six')]);
  host.run(Millis(10));
  const answers = host.packets.map(readPacket);
  expect(answers.map(({ from, to, sourcePort, port, data }) => [from, to, sourcePort, port, text(data)])).toEqual([
    [ends.to, ends.from, 7, 5000, 'four'],
    [ends6.to, ends6.from, 7, 5001, 'six'],
  ]);
  const [service, program] = [SocketAddress.parse(`${ends.to}:7`)!, SocketAddress.parse(`${ends.from}:5000`)!];
  host.engine.answer(service, program, new Uint8Array(65_508));
  host.engine.answer(SocketAddress.parse('[2001:db8::1]:7')!, program, new Uint8Array(1));
  host.run(Millis(10));
  expect(host.values).toMatchObject({ 'drops{reason=too_big}': 1, 'drops{reason=bad_address}': 1 });
  host.packets.length = 0;
  for (let i = 0; i < 1025; i++) host.engine.answer(service, program, Uint8Array.of(i));
  host.run(Millis(10));
  expect([host.packets.length, host.values['backpressure_drops{where=host}']]).toEqual([1024, 1]);
  host.engine.stop();
  host.engine.answer(service, program, Uint8Array.of(1));
  host.run(Millis(10));
  expect(host.packets).toHaveLength(1024);
});
