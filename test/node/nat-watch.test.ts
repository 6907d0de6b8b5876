import { expect, test } from 'vitest';
import type { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, type Instant, Millis, Seconds } from '../../src/base/time.js';
import { NatWatch } from '../../src/node/nat-watch.js';
import { decodeProbe } from '../../src/tunnel/frames.js';
import { at } from '../support/sim-nodes.js';

const START = Seconds(10) as number as Instant;

function watch(relays = ['[2001:db8::1]:4433', '192.0.2.1:4433']) {
  const asked: { readonly to: string; readonly when: number; readonly nonce: { high: number; low: number } }[] = [];
  let now = START;
  let changes = 0;
  const nat = new NatWatch({
    entropy: new SeededEntropy(1),
    relays: () => relays.map(at),
    send: (to, probe) =>
      asked.push({ to: String(to), when: elapsed(START, now), nonce: decodeProbe(probe, 0, 64)!.nonce }),
    onChange: () => changes++,
  });
  const run = (): void => {
    while (nat.due !== undefined) {
      now = nat.due;
      nat.turn(now);
      if (asked.length > 0 && answers.length > 0) {
        const { observed, otherPort } = answers.shift()!;
        nat.onReply(now, { nonce: asked.at(-1)!.nonce, observed, answeringPort: 0, otherPort });
      }
    }
  };
  const answers: { readonly observed: SocketAddress; readonly otherPort: number }[] = [];
  const answer = (observed: string, otherPort: number): void =>
    void answers.push({ observed: at(observed), otherPort });
  return { nat, asked, run, answer, changes: () => changes };
}

test.each([
  ['198.51.100.7:1000', false],
  ['198.51.100.7:1001', true],
  ['198.51.100.8:1000', true],
])('seen at the relay’s other port as %s: strict is %s; the questions lie far enough apart', (second, isStrict) => {
  const it = watch();
  it.nat.ask(START);
  it.answer('198.51.100.7:1000', 4434);
  it.answer(second, 4433);
  it.run();
  expect(it.asked.map(({ to }) => to)).toEqual(['192.0.2.1:4433', '192.0.2.1:4434']);
  expect(it.asked[1]!.when - it.asked[0]!.when).toBeGreaterThanOrEqual(Millis(100));
  expect([it.nat.isStrict, it.changes()]).toEqual([isStrict, 1]);
  it.nat.ask(START);
  it.answer('198.51.100.7:1000', 4434);
  it.answer(second, 4433);
  it.run();
  expect(it.changes()).toBe(1);
});

test('three questions without an answer, a relay with one port, none with IPv4: nothing is known', () => {
  const silent = watch();
  silent.nat.ask(START);
  silent.run();
  expect([silent.asked.length, silent.nat.isStrict]).toEqual([3, undefined]);
  const single = watch();
  single.nat.ask(START);
  single.answer('198.51.100.7:1000', 0);
  single.run();
  expect([single.asked.length, single.nat.isStrict]).toEqual([1, undefined]);
  const six = watch(['[2001:db8::1]:4433']);
  six.nat.ask(START);
  expect(six.nat.due).toBeUndefined();
});

test('an answer to another question is none', () => {
  const it = watch();
  it.nat.ask(START);
  it.nat.onReply(START, { nonce: { high: 1, low: 1 }, observed: at('198.51.100.7:1'), answeringPort: 1, otherPort: 2 });
  expect(it.nat.due).toBeDefined();
  expect(it.nat.isStrict).toBeUndefined();
});
