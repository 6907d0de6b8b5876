/** Answers, judged one by one: aliases, how long each is kept, whose a datagram is, and streams cut anywhere. Messages are made by dns-packet. */
import { type Answer, AUTHORITATIVE_ANSWER, encode, type Packet } from 'dns-packet';
import { expect, test } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { instantAt, Seconds } from '../../../src/base/time.js';
import { judgeAnswer } from '../../../src/engine/dns/answer.js';
import { DnsFraming, frame } from '../../../src/engine/dns/framing.js';
import { readMessage } from '../../../src/engine/dns/message.js';
import { DNS_COUNTERS, type DnsUdpHandlers } from '../../../src/engine/dns/transport.js';
import { repeatsQuestion, UdpExchange, type UdpOutcome } from '../../../src/engine/dns/udp-exchange.js';
import { a, query, soa, texts } from './world.js';

const HOUR = 3600;
const cname = (name: string, data: string, ttl = 60): Answer => ({ type: 'CNAME', name, data, ttl });

function judged(answers: Answer[], authorities: Answer[] = [], rcode = 0) {
  const packet: Packet = {
    type: 'response',
    id: 1,
    flags: AUTHORITATIVE_ANSWER | rcode,
    questions: [{ type: 'A', name: 'a.example', class: 'IN' }],
    answers,
    authorities,
  };
  const bytes = new Uint8Array(encode(packet));
  const message = readMessage(bytes)!;
  return judgeAnswer(instantAt(0), message.question!, message, bytes);
}

test('16 aliases are followed, not one more', () => {
  const chain = (length: number): Answer[] => [
    ...Array.from({ length }, (_, i) => cname(i === 0 ? 'a.example' : `c${i}.example`, `c${i + 1}.example`)),
    a(`c${length}.example`, '192.0.2.1'),
  ];
  expect([16, 17].map((length) => texts(judged(chain(length)).addresses))).toEqual([['192.0.2.1'], []]);
});

test('records of another class are none of the answer', () => {
  const chaos: Answer = { type: 'A', name: 'a.example', data: '192.0.2.2', ttl: 60, class: 'CH' };
  expect(texts(judged([chaos, a('a.example', '192.0.2.1')]).addresses)).toEqual(['192.0.2.1']);
  expect(judged([chaos]).negative).toBe(true);
});

test.each([
  ['data: the smallest TTL', judged([a('a.example', '192.0.2.1', 70), a('a.example', '192.0.2.2', 50)]), 50],
  ['data: a day', judged([a('a.example', '192.0.2.1', 24 * HOUR)]), 24 * HOUR],
  ['data: no more than a day', judged([a('a.example', '192.0.2.1', 24 * HOUR + 1)]), 24 * HOUR],
  ['no such record: an hour', judged([], [soa('example', HOUR, HOUR)]), HOUR],
  ['no such record: no more than an hour', judged([], [soa('example', HOUR + 1, HOUR + 1)]), HOUR],
  ['no such record: the SOA’s minimum', judged([], [soa('example', 5, 9)]), 5],
  ['no such record: the SOA’s TTL', judged([], [soa('example', 9, 5)]), 5],
  ['no such record without a SOA', judged([]), 0],
  ['no such record behind an alias: the alias’s TTL', judged([cname('a.example', 'b.example', 7)], [soa('x', 60)]), 7],
  ['a failure', judged([], [soa('example', 60)], 2), 5],
])('how long it is kept, %s', (_what, { ttl }, seconds) => {
  expect(ttl).toBe(Seconds(seconds));
});

test('a name that does not exist is none for every type, unless an alias leads away from it', () => {
  const none = [
    judged([], [soa('example', 60)], 3),
    judged([cname('a.example', 'b.x')], [soa('x', 60)], 3),
    judged([]),
  ];
  expect(none.map(({ wholeName }) => wholeName)).toEqual([true, false, false]);
});

test('an answer repeats the question but for the case of its letters: nothing else, and not in type and class', () => {
  const asked = query('a-{.example', 'A');
  const end = readMessage(asked)!.questionEnd;
  const flipped = (at: number): string => {
    const answer = asked.slice();
    answer[at]! ^= 0x20;
    return repeatsQuestion(asked, end, answer);
  };
  expect(repeatsQuestion(asked, end, asked)).toBe('exact');
  // Behind the header: a length, "a", "-", "{", a length, "example", 0, type, class.
  expect([12, 13, 14, 15, 16, 17, end - 5, end - 4, end - 3, end - 2, end - 1].map((at) => flipped(at))).toEqual(
    Array.from({ length: 11 }, (_, i) => (i === 1 || i === 5 ? 'folded' : 'no')),
  );
  expect(repeatsQuestion(asked, end, asked.subarray(0, end - 1))).toBe('no');
  // A type whose low byte is a letter.
  const letters = asked.slice();
  letters[end - 3] = 0x61;
  const other = letters.slice();
  other[end - 3] = 0x41;
  expect(repeatsQuestion(letters, end, other)).toBe('no');
});

test('15 wrong answers to a question are passed over, the 16th ends it', () => {
  const outcomes: UdpOutcome[] = [];
  const counters = new Counters(DNS_COUNTERS);
  const to = SocketAddress.parse('192.0.2.53:53')!;
  const asked = query('a.example', 'A');
  let handlers: DnsUdpHandlers | undefined;
  const dialer = {
    udp: (_to: SocketAddress, given: DnsUdpHandlers) => {
      handlers = given;
      return { send: () => {}, close: () => {} };
    },
    tcp: () => undefined,
  };
  new UdpExchange(dialer, to, asked, readMessage(asked)!.questionEnd, counters, (outcome) => outcomes.push(outcome));
  for (let n = 1; n <= 15; n++) handlers!.onDatagram(to, asked, 0, asked.length);
  expect([outcomes, counters.get('dns_spoofed')]).toEqual([[], 15]);
  handlers!.onDatagram(to, asked, 0, asked.length);
  expect(outcomes).toEqual([{ kind: 'misspelt' }]);
});

test('a message is told as soon as it is whole, also an empty one', () => {
  const told: number[] = [];
  const framing = new DnsFraming((message) => told.push(message.length));
  const feed = (bytes: Uint8Array): void => framing.feed(bytes, 0, bytes.length);
  feed(frame(new Uint8Array(0)));
  expect(told).toEqual([0]);
  const three = frame(new Uint8Array(3));
  for (const byte of three.subarray(0, 4)) feed(Uint8Array.of(byte));
  expect(told).toEqual([0]);
  feed(three.subarray(4));
  expect(told).toEqual([0, 3]);
});
