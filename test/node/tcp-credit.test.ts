/** How a way over TCP says "later": what may be sent, who is woken, and what becomes of what was lost. */
import { expect, test } from 'vitest';
import { type Instant, instantAt, later, Millis, Seconds } from '../../src/base/time.js';
import { TcpCredit, TcpCreditUser } from '../../src/node/tcp-credit.js';
import { TcpCredits } from '../../src/node/tcp-credits.js';
import { MAX_RELAYS } from '../../src/policy/relay-contact.js';

const T0: Instant = instantAt(1_000_000);

function pair() {
  const bridge = new TcpCredit();
  return { bridge, user: new TcpCreditUser(bridge.memory) };
}

test('what is granted may be sent, and no more', () => {
  const { bridge, user } = pair();
  bridge.grant(0, 3000, 0);
  expect([user.left, user.isFull(T0)]).toEqual([3000, false]);
  user.sent(2999);
  expect([user.left, user.isFull(T0)]).toEqual([1, false]);
  user.sent(1200);
  expect([user.left, user.isFull(T0)]).toEqual([-1199, true]);
  bridge.grant(4199, 1, 4199);
  expect([user.left, user.isFull(T0)]).toEqual([1, false]);
});

test('it wakes whoever waits, once, and only when there is room', () => {
  const { bridge, user } = pair();
  expect(bridge.grant(0, 10, 0)).toBe(false);
  user.sent(10);
  expect(user.isFull(T0)).toBe(true);
  expect(bridge.grant(10, 0, 10)).toBe(false);
  expect(bridge.grant(10, 10, 10)).toBe(true);
  expect(bridge.grant(10, 10, 10)).toBe(false);
});

test('counts go round 2³² and stay right', () => {
  const { bridge, user } = pair();
  let taken = 0;
  for (let i = 0; i < 5; i++) {
    bridge.grant(taken, 0x4000_0000, taken);
    expect(user.left).toBe(0x4000_0000);
    user.sent(0x4000_0000);
    taken += 0x4000_0000;
    expect(user.left).toBe(0);
  }
});

test('what was lost between the two is not owed for ever, and what was sent uncounted grants nothing', () => {
  const { bridge, user } = pair();
  bridge.grant(0, 5000, 0);
  user.sent(5000);
  // 2000 of them never arrive.
  bridge.settle(3000);
  bridge.grant(3000, 5000, 3000);
  expect(user.left).toBe(3000);
  bridge.settle(3000);
  bridge.grant(3000, 5000, 3000);
  expect(user.left).toBe(5000);
  // Others have arrived than were counted.
  bridge.settle(6000);
  bridge.settle(6000);
  bridge.grant(6000, 5000, 6000);
  expect(user.left).toBe(5000);
  // While anything moves nothing is settled.
  user.sent(1000);
  bridge.settle(6000);
  bridge.grant(6000, 5000, 6000);
  expect(user.left).toBe(4000);
});

test('a stream that takes nothing for a second holds nothing up; one that moves does', () => {
  const { bridge, user } = pair();
  bridge.grant(0, 1, 0);
  user.sent(100);
  expect(user.isFull(T0)).toBe(true);
  expect(user.isFull(later(T0, Millis(999)))).toBe(true);
  expect(user.isFull(later(T0, Seconds(1)))).toBe(false);
  bridge.grant(0, 1, 1);
  expect(user.isFull(later(T0, Millis(1100)))).toBe(true);
  expect(user.isFull(later(T0, Millis(2099)))).toBe(true);
  expect(user.isFull(later(T0, Millis(2100)))).toBe(false);
});

test('a way that ends wakes whoever waits, and holds nobody up', () => {
  const { bridge, user } = pair();
  user.sent(100);
  expect(user.isFull(T0)).toBe(true);
  expect(bridge.close()).toBe(true);
  expect(user.isFull(T0)).toBe(false);
  expect(bridge.close()).toBe(false);
});

test('of several ways the fullest counts, in whatever slot it is', () => {
  const credits = new TcpCredits();
  const last = MAX_RELAYS - 1;
  const [roomy, full] = [new TcpCredit(), new TcpCredit()];
  roomy.grant(0, 9000, 0);
  full.grant(0, 1000, 0);
  credits.set(0, roomy.memory);
  credits.set(last, full.memory);
  credits.review(T0);
  expect([credits.isUsed, credits.isFull, credits.left(50_000), credits.left(500)]).toEqual([true, false, 1000, 500]);
  credits.sent(last, 2000);
  credits.review(T0);
  expect([credits.isFull, credits.left(50_000)]).toEqual([true, 1]);
  credits.set(last, undefined);
  credits.review(T0);
  expect([credits.isUsed, credits.isFull, credits.left(50_000)]).toEqual([true, false, 9000]);
  credits.set(0, undefined);
  expect([credits.isUsed, credits.isFull]).toEqual([false, false]);
});
