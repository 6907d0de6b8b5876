import { expect, test } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { elapsed, type Instant, Seconds } from '../../../src/base/time.js';
import { BIRTHDAY_GUESSES, BIRTHDAY_SOCKETS, Birthday, type BirthdayRole } from '../../../src/tunnel/punch/birthday.js';
import { PUNCH_COUNTERS, type PunchCounter, Puncher } from '../../../src/tunnel/punch/puncher.js';

const START = Seconds(10) as number as Instant;
const TARGET = SocketAddress.parse('203.0.113.9:4000')!;

function run(role: BirthdayRole, sockets = Number.POSITIVE_INFINITY) {
  const sent: { readonly to: string; readonly socket: number }[] = [];
  const entropy = new SeededEntropy(1);
  const puncher = new Puncher({
    entropy,
    counters: new Counters<PunchCounter>(PUNCH_COUNTERS),
    send: (_frame, words, index, socket) => sent.push({ to: String(SocketAddress.read(words, index)), socket }),
    onSeen: () => expect.fail(),
  });
  puncher.setPeer(new Uint8Array(16), []);
  let opened = 0;
  const openSocket = (): number | undefined => (opened < sockets ? ++opened : undefined);
  const birthday = new Birthday(START, { role, puncher, entropy, target: TARGET, openSocket });
  let now = START;
  while (birthday.turn(now)) now = birthday.nextTimeout();
  return { sent, took: elapsed(START, now), puncher };
}

test('the end with the sockets sends once from each of 256 to the one address', () => {
  const { sent, took, puncher } = run('sockets');
  expect(sent.length).toBe(BIRTHDAY_SOCKETS);
  expect(new Set(sent.map(({ socket }) => socket)).size).toBe(BIRTHDAY_SOCKETS);
  expect(new Set(sent.map(({ to }) => to))).toEqual(new Set([String(TARGET)]));
  expect(took).toBe(Seconds(8));
  expect(puncher.pairs.all).toEqual([]);
});

test('the end that guesses tries 1,000 different ports above 1023 of that host, in five seconds', () => {
  const { sent } = run('ports');
  const ports = sent.map(({ to }) => Number(to.split(':')[1]));
  expect([new Set(ports).size, Math.min(...ports) >= 1024]).toEqual([BIRTHDAY_GUESSES, true]);
  expect(sent.every(({ to, socket }) => to.startsWith('203.0.113.9:') && socket === 0)).toBe(true);
});

test('a system that has no more sockets: what is open has to do', () => {
  expect(run('sockets', 10).sent.length).toBe(10);
});
