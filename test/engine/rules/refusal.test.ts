/** What a program is told by a rule that refuses it: by the rule's words, the protocol and the family. */
import { expect, test } from 'vitest';
import { Millis } from '../../../src/base/time.js';
import { echoRequest, PROTO, readPacket, tcpPacket, udpPacket } from '../../support/packets.js';
import { CLIENT, CLIENT6, MockHost } from '../replay/mock-host.js';

const v4 = { from: CLIENT, to: '93.184.216.34' };
const v6 = { from: CLIENT6, to: '2606:2800:220:1::1' };

/** What each of TCP, UDP and echo is told, over IPv4 and IPv6: RST, an ICMP type and code, or nothing. */
function toldBy(rule: string): Record<string, string> {
  const host = new MockHost({ rules: [rule] });
  const packets = (ends: typeof v4): Record<string, Uint8Array> => ({
    tcp: tcpPacket(ends, 1000, 80),
    udp: udpPacket(ends, 1001, 80, 'x'),
    echo: echoRequest(ends, 1, 1),
  });
  const told: Record<string, string> = {};
  for (const ends of [v4, v6]) {
    for (const [name, packet] of Object.entries(packets(ends))) {
      host.packets.length = 0;
      host.engine.packets([packet]);
      host.run(Millis(20));
      const answers = host.packets.map(readPacket).map(({ protocol, flags, icmpType, icmpCode, from }) => {
        // Whoever refuses speaks for the destination.
        expect(from).toBe(ends.to);
        return protocol === PROTO.tcp ? `RST ${(flags & 4) !== 0}` : `${icmpType}/${icmpCode}`;
      });
      told[`${name}${ends === v4 ? 4 : 6}`] = answers.join();
    }
  }
  expect(host.connections).toEqual([]);
  return told;
}

const RST = 'RST true';
test.each([
  ['block', ['', '', ''], ['', '', '']],
  ['reject', [RST, '3/3', '3/13'], [RST, '1/4', '1/1']],
  ['reject with=admin-prohibited', ['3/13', '3/13', '3/13'], ['1/1', '1/1', '1/1']],
  ['reject with=host-unreachable', ['3/1', '3/1', '3/1'], ['1/3', '1/3', '1/3']],
  ['reject with=net-unreachable', ['3/0', '3/0', '3/0'], ['1/0', '1/0', '1/0']],
  ['reject with=port-unreachable', ['3/3', '3/3', '3/13'], ['1/4', '1/4', '1/1']],
] as const)('%s', (rule, [tcp4, udp4, echo4], [tcp6, udp6, echo6]) => {
  expect(toldBy(rule)).toEqual({ tcp4, udp4, echo4, tcp6, udp6, echo6 });
});

test('a program whose SYN is answered by ICMP gives up at once; a connection that stands is reset whatever the rule says', () => {
  const host = new MockHost({ rules: ['reject port=80 with=host-unreachable'] });
  const refused = host.connect('93.184.216.34:80');
  host.run(Millis(20));
  expect(refused.closed).toBe('unreachable');
  const { client } = host.open('93.184.216.34:443');
  expect(client.connected).toBe(true);
  host.engine.setRules(['reject with=admin-prohibited']);
  host.run(Millis(20));
  expect(client.closed).toBe('reset');
});
