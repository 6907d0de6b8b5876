/** UDP connections of the host that fail or end: what the client is told, what is counted, and that the next datagram dials anew. */
import { expect, test } from 'vitest';
import { type Duration, Millis, Seconds } from '../../src/base/time.js';
import type { DialFailure } from '../../src/engine/host/connections.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { CLIENT, CLIENT6, MockHost } from './replay/mock-host.js';

const ends = { from: CLIENT, to: '93.184.216.34' };
const ends6 = { from: CLIENT6, to: '2606:2800:220:1::1' };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** [ICMP type, code] in both families. */
const UDP_FAILURES: readonly (readonly [
  DialFailure,
  readonly [number, number] | undefined,
  readonly [number, number] | undefined,
  string,
])[] = [
  ['refused', [3, 3], [1, 4], 'refused'],
  ['unreachable-net', [3, 0], [1, 0], 'unreachable'],
  ['unreachable-host', [3, 1], [1, 3], 'unreachable'],
  ['blocked', [3, 13], [1, 1], 'blocked'],
  ['other', [3, 1], [1, 3], 'unreachable'],
  ['timeout', [3, 1], [1, 3], 'timeout'],
];
test.each(UDP_FAILURES)(
  'a UDP dial that fails (%s) answers the datagram that caused it',
  (kind, told4, told6, counted) => {
    for (const [of, told] of [
      [ends, told4],
      [ends6, told6],
    ] as const) {
      const host = new MockHost();
      host.engine.packets([udpPacket(of, 5000, 443, 'question')]);
      host.run(Millis(10));
      host.engine.failed(host.last.id, kind);
      host.run(Millis(10));
      const icmp = host.packets.map(readPacket);
      expect(icmp.map(({ icmpType, icmpCode }) => [icmpType, icmpCode])).toEqual(told === undefined ? [] : [told]);
      for (const { from, to, transport } of icmp) {
        expect([from, to]).toEqual([of.to, of.from]);
        // The quote: the datagram’s ports and length.
        const udp = new DataView(transport.buffer, transport.byteOffset).buffer;
        const at = transport.byteOffset + 8 + (of === ends ? 20 : 40);
        const view = new DataView(udp, at, 8);
        expect([view.getUint16(0), view.getUint16(2), view.getUint16(4)]).toEqual([5000, 443, 8 + 'question'.length]);
      }
      expect(host.values[`dial_errors{kind=${counted}}`]).toBe(1);
      expect(host.values['udp_send_errors']).toBe(0);
      expect(host.values['flows_active{protocol=udp}']).toBe(0);
      // The number means nothing any more, also to the host: nothing is closed that has failed; the next datagram dials anew.
      expect(host.last.closed).toBeUndefined();
      host.engine.packets([udpPacket(of, 5000, 443, 'again')]);
      host.run(Millis(10));
      expect(host.connections.map(({ text: sent }) => sent)).toEqual(['question', 'again']);
    }
  },
);

test.each([
  ['server', Seconds(10)],
  ['mobile', Seconds(5)],
] as const)('a UDP dial that the host never answers fails after the time of a dial (%s)', (preset, limit: Duration) => {
  for (const [of, told] of [
    [ends, [3, 1]],
    [ends6, [1, 3]],
  ] as const) {
    const host = new MockHost({ preset });
    host.engine.packets([udpPacket(of, 5000, 443, 'question')]);
    host.run(Millis(1));
    expect(host.engine.flows()[0]!.state).toBe('dialling');
    host.run(Millis(limit / 1_000 - 10));
    // A datagram on the way makes no new dial and gives this one no more time.
    host.engine.packets([udpPacket(of, 5000, 443, 'question')]);
    host.run(Millis(1));
    expect([host.connections.length, host.packets.length]).toEqual([1, 0]);
    host.run(Millis(20));
    const icmp = host.packets.map(readPacket);
    expect(icmp.map(({ icmpType, icmpCode, from, to }) => [icmpType, icmpCode, from, to])).toEqual([
      [...told, of.to, of.from],
    ]);
    expect(host.values['dial_errors{kind=timeout}']).toBe(1);
    expect(host.values['flows_active{protocol=udp}']).toBe(0);
    expect(host.last.closed).toBe('finished');
    host.engine.connected(host.last.id);
    host.engine.packets([udpPacket(of, 5000, 443, 'again')]);
    host.run(Millis(10));
    expect(host.connections.length).toBe(2);
  }
});

test.each(['connected', 'answered', 'ended'] as const)(
  'a UDP dial that is over in time is not given up (%s)',
  (how) => {
    const host = new MockHost();
    host.engine.packets([udpPacket(ends, 5000, 443, 'a')]);
    host.run(Seconds(9));
    if (how === 'connected') host.engine.connected(host.last.id);
    else if (how === 'answered') host.reply(host.last, 'b', `${ends.to}:443`);
    else host.engine.failed(host.last.id, 'refused');
    host.run(Seconds(2));
    expect(host.values['dial_errors{kind=timeout}']).toBe(0);
    expect(host.values['flows_active{protocol=udp}']).toBe(how === 'ended' ? 0 : 1);
  },
);

test('a UDP connection of several destinations that fails: each is told of', () => {
  const host = new MockHost();
  const others = ['1.1.1.1', '1.1.1.2'];
  host.engine.packets([
    udpPacket(ends, 5000, 443, 'a'),
    ...others.map((to) => udpPacket({ ...ends, to }, 5000, 1, 'b')),
  ]);
  host.run(Millis(10));
  host.engine.failed(host.last.id, 'unreachable-net');
  host.run(Millis(10));
  expect(host.packets.map(readPacket).map(({ from }) => from)).toEqual([ends.to, ...others]);
  expect(host.values['dial_errors{kind=unreachable}']).toBe(1);
});

test.each([
  ['error', 1],
  ['finished', 0],
] as const)('a UDP connection that the host closes (%s) is over once what came is delivered', (reason, errors) => {
  const host = new MockHost();
  host.engine.packets([udpPacket(ends, 5000, 443, 'a')]);
  host.run(Millis(10));
  host.engine.connected(host.last.id);
  for (let i = 0; i < 100; i++) host.reply(host.last, `${i}`, `${ends.to}:443`);
  host.engine.closed(host.last.id, reason);
  host.run(Millis(10));
  const kinds = host.packets
    .map(readPacket)
    .map(({ icmpType, data }) => (data.length > 0 && icmpType !== 3 ? text(data) : 'error'));
  expect(kinds).toEqual([...Array.from({ length: 100 }, (_, i) => `${i}`), ...(errors === 1 ? ['error'] : [])]);
  expect(host.values['udp_send_errors']).toBe(errors);
  expect(host.values['flows_active{protocol=udp}']).toBe(0);
  expect(host.last.closed).toBeUndefined();
  // Nothing is lost: the next datagram asks for another one.
  host.engine.packets([udpPacket(ends, 5000, 443, 'b')]);
  host.run(Millis(10));
  expect(host.connections.map(({ text: sent }) => sent)).toEqual(['a', 'b']);
});
