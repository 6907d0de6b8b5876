/** Packets as a hook is shown them. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { echoRequest, PROTO, readPacket, udpPacket } from '../support/packets.js';
import { CLIENT, MockHost } from './replay/mock-host.js';

const WEB = '93.184.216.34:80';
const ends = { from: CLIENT, to: '93.184.216.34' };

test('packets are shown as they pass, whole and in both directions', () => {
  const seen: [boolean, number, number][] = [];
  const host = new MockHost({
    hooks: {
      onPacket: (toEngine, bytes, offset, length) =>
        void seen.push([toEngine, readPacket(bytes.slice(offset, offset + length)).protocol, length]),
    },
  });
  host.engine.packets([echoRequest(ends, 1, 1), udpPacket(ends, 1, 2, 'abc')]);
  host.run(Millis(10));
  expect(seen).toEqual([
    [true, PROTO.icmp, 28],
    [false, PROTO.icmp, 28],
    [true, PROTO.udp, 31],
  ]);
});

test.each([WEB, '[2001:db8::34]:443'])(
  'of TCP to %s the packets are shown as they leave, runs as one: headers of their own length, every byte in its place',
  (to) => {
    const seen: Uint8Array[] = [];
    const host = new MockHost({
      hooks: {
        onPacket: (toEngine, bytes, offset, length) => {
          if (!toEngine) seen.push(bytes.slice(offset, offset + length));
        },
      },
    });
    const { client, host: connection } = host.open(to);
    const said = Uint8Array.from({ length: 30_000 }, (_, i) => i % 251);
    host.reply(connection, said.subarray(0, 9));
    host.run(Millis(10));
    host.reply(connection, said.subarray(9));
    host.run(Seconds(1));
    expect(client.data).toEqual(said);
    const isV4 = !to.startsWith('[');
    const header = isV4 ? 20 : 40;
    const shown = seen.flatMap((packet) => {
      const view = new DataView(packet.buffer);
      if (isV4) {
        expect(view.getUint16(2)).toBe(packet.length);
        let sum = 0;
        for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
        expect(((sum & 0xffff) + (sum >>> 16)) & 0xffff).toBe(0xffff);
      } else expect(view.getUint16(4)).toBe(packet.length - 40);
      return [packet.subarray(header + (packet[header + 12]! >>> 4) * 4)];
    });
    expect(Buffer.compare(Buffer.concat(shown), said)).toBe(0);
    expect(Math.max(...shown.map(({ length }) => length))).toBeGreaterThan(1500);
  },
);
