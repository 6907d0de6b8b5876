/** QUIC whose name a rule may refuse: none of it leaves before the name is known, and everything passes in order if it may. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { clientHello, cryptoFrame, hex, initialPacket, padded } from './names/hellos.js';
import { CLIENT, CLIENT6, type MockConnection, MockHost } from './replay/mock-host.js';

const v4 = { from: CLIENT, to: '93.184.216.34' };
const v6 = { from: CLIENT6, to: '2606:2800:220:1::1' };
const ID = hex('0102030405060708');
/** A ClientHello that takes two packets, the end of it first. */
const message = clientHello({ name: 'quic.example', protocols: ['h3'], keyShare: 1220 });
const first = initialPacket({ id: ID, payload: padded(cryptoFrame(message, 700, message.length)) });
const second = initialPacket({ id: ID, number: 1, payload: padded(cryptoFrame(message, 0, 700)) });
const ends = ['decided', 'refused', 'gave_up', 'flow_ended'];

class Play {
  readonly host: MockHost;

  constructor(rules: readonly string[], more: ConstructorParameters<typeof MockHost>[0] = {}) {
    this.host = new MockHost({ rules, ...more });
    this.host.onDial = ({ id }) => this.host.engine.connected(id);
  }

  say(datagram: Uint8Array | string, at = v4, port = 4000): void {
    this.host.engine.packets([udpPacket(at, port, 443, datagram)]);
    this.host.run(Millis(1));
  }

  get holds(): number[] {
    return ends.map((end) => this.host.values[`udp_holds{end=${end}}`]!);
  }

  get icmp(): string[] {
    return this.host.packets.map(readPacket).map(({ icmpType, icmpCode }) => `${icmpType}/${icmpCode}`);
  }

  get sent(): readonly Uint8Array[] {
    return this.host.connections.flatMap((connection: MockConnection) => connection.received);
  }
}

test.each([
  ['4', v4, 'reject host=quic.example', ['3/3'], ['3/3', '3/3']],
  ['6', v6, 'reject suffix=example', ['1/4'], ['1/4', '1/4']],
  ['4', v4, 'reject host=quic.example with=admin-prohibited', ['3/13'], ['3/13', '3/13']],
  ['4', v4, 'block host=quic.example', [], []],
] as const)(
  'over IPv%s a name that is refused never leaves, and its program is told',
  (_family, at, rule, once, twice) => {
    const play = new Play([rule]);
    play.say(first, at);
    expect([play.host.connections.length, play.sent, play.icmp]).toEqual([1, [], []]);
    play.say(second, at);
    expect([play.sent, play.icmp, play.holds]).toEqual([[], once, [0, 1, 0, 0]]);
    expect(play.host.values['flows_active{protocol=udp}']).toBe(0);
    // Sent again, it is refused again.
    play.say(first, at);
    play.say(second, at);
    expect([play.sent, play.icmp, play.holds]).toEqual([[], twice, [0, 2, 0, 0]]);
  },
);

test('a name that is allowed goes its way as soon as it is known, everything in order and unchanged', () => {
  const play = new Play(['reject host=other.example']);
  play.say(first);
  play.say('0-RTT');
  expect(play.sent).toEqual([]);
  play.say(second);
  const early = new TextEncoder().encode('0-RTT');
  expect(play.sent).toEqual([first, early, second]);
  play.say('later');
  expect([play.sent.length, play.holds]).toEqual([4, [1, 0, 0, 0]]);
  play.host.run(Seconds(1));
  expect([play.sent.length, play.holds]).toEqual([4, [1, 0, 0, 0]]);
});

test('a name in the first packet costs no time at all, and what holds it back by name counts from there', () => {
  const whole = clientHello({ name: 'quic.example' });
  const initial = initialPacket({ id: ID, payload: padded(cryptoFrame(whole, 0, whole.length)) });
  const play = new Play(['shape host=quic.example delay=100ms']);
  play.say(initial);
  expect([play.sent.length, play.holds]).toEqual([0, [1, 0, 0, 0]]);
  play.host.run(Millis(98));
  expect(play.sent.length).toBe(0);
  play.host.run(Millis(3));
  expect(play.sent).toEqual([initial]);
});

test('without the rest of the name it waits 200 ms; a name that comes later ends the flow', () => {
  const play = new Play(['reject host=quic.example']);
  play.say(first);
  play.host.run(Millis(198));
  expect(play.sent).toEqual([]);
  play.host.run(Millis(2));
  expect([play.sent, play.holds]).toEqual([[first], [0, 0, 1, 0]]);
  play.say(second);
  play.host.run(Millis(1));
  expect([play.sent.length, play.icmp, play.host.connections[0]!.closed]).toEqual([2, [], 'finished']);
});

test('seven datagrams of a flow wait; with the eighth all go on', () => {
  const play = new Play(['reject host=quic.example']);
  play.say(first);
  for (let i = 2; i <= 7; i++) play.say(`${i}`);
  expect(play.sent).toEqual([]);
  play.say('8');
  expect(play.sent.slice(1).map((part) => new TextDecoder().decode(part))).toEqual(['2', '3', '4', '5', '6', '7', '8']);
  expect([play.sent[0], play.holds]).toEqual([first, [0, 0, 1, 0]]);
});

test('16 KiB of a flow wait; what is more goes on with all of it', () => {
  const play = new Play(['reject host=quic.example']);
  play.say(first);
  const large = new Uint8Array(16 * 1024 - first.length);
  play.say(large);
  expect(play.sent).toEqual([]);
  play.say('x');
  expect(play.sent.map(({ length }) => length)).toEqual([first.length, large.length, 1]);
});

test('64 flows wait at once; one more goes on at once, and one that is through makes room', () => {
  const play = new Play(['reject host=quic.example']);
  for (let i = 0; i < 64; i++) play.host.engine.packets([udpPacket(v4, 1000 + i, 443, first)]);
  play.host.run(Millis(50));
  expect([play.sent.length, play.holds]).toEqual([0, [0, 0, 0, 0]]);
  play.say(first, v4, 30_000);
  expect([play.sent.length, play.holds]).toEqual([1, [0, 0, 1, 0]]);
  play.say(second, v4, 1000);
  play.say(first, v4, 30_001);
  expect([play.sent.length, play.holds]).toEqual([1, [0, 1, 1, 0]]);
});

test('nothing waits without rules by name, and nothing but QUIC’s first packets where there are some', () => {
  const plain = new Play(['reject port=25']);
  plain.say(first);
  expect([plain.sent, plain.holds]).toEqual([[first], [0, 0, 0, 0]]);
  const named = new Play(['reject host=quic.example']);
  named.say('no QUIC');
  const shortHeader = Uint8Array.of(0x40, ...new Uint8Array(1200));
  named.say(shortHeader, v4, 4001);
  // A version that nobody can look into.
  const other = first.slice();
  other.set([0x1a, 0x2a, 0x3a, 0x4a], 1);
  named.say(other, v4, 4002);
  expect([named.sent.length, named.holds[1]]).toEqual([3, 0]);
});

test('a flow that ends takes what waits with it, and leaves no timer', () => {
  const play = new Play(['reject host=quic.example']);
  play.say(first);
  play.host.engine.pathChanged(false);
  play.host.run(Millis(1));
  expect([play.sent, play.holds]).toEqual([[], [0, 0, 0, 1]]);
  play.host.run(Seconds(1));
  expect([play.sent, play.holds]).toEqual([[], [0, 0, 0, 1]]);
  // What the program sends again begins anew.
  play.say(first);
  play.say(second);
  expect([play.sent, play.icmp, play.holds]).toEqual([[], ['3/3'], [0, 1, 0, 1]]);
});

test('other rules while it waits are those it is judged by', () => {
  const play = new Play(['reject host=quic.example']);
  play.say(first);
  play.host.engine.setRules(['reject host=another.example']);
  play.host.run(Millis(1));
  expect(play.sent).toEqual([]);
  play.host.engine.setRules(['allow']);
  play.host.run(Millis(1));
  expect([play.sent, play.holds]).toEqual([[first], [1, 0, 0, 0]]);
});

test('a host may hold a flow by a decision of its own', () => {
  let isKnown = false;
  let isGood = true;
  const hooks = {
    onFlow: () =>
      isKnown && !isGood
        ? ({ action: 'block', how: 'admin-prohibited' } as const)
        : ({ action: 'allow', hold: () => (isKnown ? 'none' : 'watching') } as const),
  };
  const play = new Play([], { hooks });
  play.say(first);
  play.host.engine.reevaluate();
  play.host.run(Millis(1));
  expect(play.sent).toEqual([]);
  isKnown = true;
  play.host.engine.reevaluate();
  play.host.run(Millis(1));
  expect([play.sent, play.holds]).toEqual([[first], [1, 0, 0, 0]]);
  [isKnown, isGood] = [false, false];
  play.say(first, v4, 4001);
  isKnown = true;
  play.host.engine.reevaluate();
  play.host.run(Millis(1));
  expect([play.sent.length, play.icmp, play.holds]).toEqual([1, ['3/13'], [1, 1, 0, 0]]);
});
