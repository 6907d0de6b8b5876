import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, type Instant, later, Millis, Seconds } from '../../src/base/time.js';
import { type Family, Reflexive } from '../../src/node/reflexive.js';
import { decodeProbe } from '../../src/tunnel/frames.js';
import { at } from '../support/sim-nodes.js';

const START = Seconds(10) as number as Instant;
const SIX = '[2001:db8::1]:4433';
const FOUR = '192.0.2.1:4433';

interface Reply {
  readonly observed: string;
  readonly otherPort: number;
}

function watch(relays = [SIX, FOUR], carrier: Family | undefined = 4) {
  const asked: { readonly to: string; readonly when: number; readonly nonce: { high: number; low: number } }[] = [];
  const seen: string[] = [];
  const replies = new Map<string, Reply[]>();
  const state = { now: START, changes: 0, isWanted: true };
  const reflexive = new Reflexive({
    entropy: new SeededEntropy(1),
    relays: () => relays.map(at),
    send: (to, probe) =>
      asked.push({ to: String(to), when: elapsed(START, state.now), nonce: decodeProbe(probe, 0, 64)!.nonce }),
    carrier: () => carrier,
    isWanted: () => state.isWanted,
    onSeen: (_, family, address) => seen.push(`${family} ${address}`),
    onChange: () => state.changes++,
  });
  /** Runs for ten seconds, or `span`. */
  const run = (span = Seconds(10)): void => {
    const end = later(state.now, span);
    while (reflexive.due !== undefined && reflexive.due <= end) {
      state.now = reflexive.due;
      const before = asked.length;
      reflexive.turn(state.now);
      for (const { to, nonce } of asked.slice(before)) {
        const reply = replies.get(to)?.shift();
        if (reply === undefined) continue;
        reflexive.onReply(state.now, {
          nonce,
          observed: at(reply.observed),
          answeringPort: 0,
          otherPort: reply.otherPort,
        });
      }
    }
    state.now = end;
  };
  const answer = (to: string, observed: string, otherPort = 0): void =>
    void replies.set(to, [...(replies.get(to) ?? []), { observed, otherPort }]);
  return { reflexive, asked, seen, run, answer, state };
}

test.each([
  ['198.51.100.7:1000', false],
  ['198.51.100.7:1001', true],
  ['198.51.100.8:1000', true],
])('seen at the relay’s other port as %s: strict is %s; the questions lie far enough apart', (second, isStrict) => {
  const it = watch([FOUR]);
  it.reflexive.ask(START);
  it.answer(FOUR, '198.51.100.7:1000', 4434);
  it.answer('192.0.2.1:4434', second, 4433);
  it.run();
  expect(it.asked.map(({ to }) => to)).toEqual([FOUR, '192.0.2.1:4434']);
  expect(it.asked[1]!.when - it.asked[0]!.when).toBeGreaterThanOrEqual(Millis(100));
  expect([it.reflexive.isStrict, it.state.changes]).toEqual([isStrict, 1]);
  expect(it.seen).toEqual(['4 198.51.100.7:1000']);
  it.reflexive.ask(it.state.now);
  it.answer(FOUR, '198.51.100.7:1000', 4434);
  it.answer('192.0.2.1:4434', second, 4433);
  it.run();
  expect(it.state.changes).toBe(1);
});

test('both families are asked, whichever the relay connection is in; the other port over IPv4 only', () => {
  const it = watch();
  it.reflexive.ask(START);
  it.answer(FOUR, '198.51.100.7:1000', 4434);
  it.answer('192.0.2.1:4434', '198.51.100.7:1000', 4433);
  it.answer(SIX, '[2001:db8:1::2]:1000', 4434);
  it.run();
  expect(it.asked.map(({ to }) => to)).toEqual([FOUR, SIX, '192.0.2.1:4434']);
  expect(it.seen).toEqual(['4 198.51.100.7:1000', '6 [2001:db8:1::2]:1000']);
});

test('the family that the relay connection is not in is asked again every 20 s, while somebody wants candidates', () => {
  const it = watch([FOUR, SIX], 6);
  it.reflexive.ask(START);
  for (let i = 0; i < 5; i++) {
    it.answer(FOUR, `198.51.100.7:${1000 + Math.floor(i / 3)}`);
    it.answer(SIX, '[2001:db8:1::2]:1000');
  }
  it.run(Seconds(70));
  expect(it.asked.map(({ to, when }) => [to, Math.round(when / 1_000_000)])).toEqual([
    [FOUR, 0],
    [SIX, 0],
    [FOUR, 20],
    [FOUR, 40],
    [FOUR, 60],
  ]);
  expect(it.seen.at(-1)).toBe('4 198.51.100.7:1001');
  it.state.isWanted = false;
  it.run(Seconds(100));
  expect([it.asked.length, it.reflexive.due]).toEqual([5, undefined]);
});

test('three questions without an answer: that family is seen nowhere, and is let alone; not so the relay connection’s own', () => {
  const silent = watch();
  silent.reflexive.ask(START);
  silent.run(Seconds(100));
  expect(silent.asked.filter(({ to }) => to === FOUR).length).toBe(3);
  expect(silent.asked.filter(({ to }) => to === SIX).length).toBe(3);
  expect([silent.reflexive.isStrict, silent.seen, silent.reflexive.due]).toEqual([
    undefined,
    ['6 undefined'],
    undefined,
  ]);
});

test('a relay with one port, none with IPv4: nothing is known of the NAT', () => {
  const single = watch([FOUR]);
  single.reflexive.ask(START);
  single.answer(FOUR, '198.51.100.7:1000');
  single.run();
  expect([single.asked.length, single.reflexive.isStrict]).toEqual([1, undefined]);
  const six = watch([SIX], 6);
  six.reflexive.ask(START);
  six.answer(SIX, '[2001:db8:1::2]:1000', 4434);
  six.run(Seconds(60));
  expect([six.asked.length, six.reflexive.isStrict, six.reflexive.due]).toEqual([1, undefined, undefined]);
});

test('an answer to another question is none, and one that tells of the other family neither', () => {
  const it = watch([FOUR]);
  it.reflexive.ask(START);
  const reply = { observed: at('198.51.100.7:1'), answeringPort: 1, otherPort: 2 };
  it.reflexive.onReply(START, { ...reply, nonce: { high: 1, low: 1 } });
  it.answer(FOUR, '[2001:db8::7]:1', 4434);
  it.run();
  expect([it.asked.length, it.seen, it.reflexive.isStrict]).toEqual([1, [], undefined]);
});
