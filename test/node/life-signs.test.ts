/** When a peer is asked for a life sign, and when it is given up. */
import { expect, test } from 'vitest';
import { elapsed, type Instant, instantAt, later, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { LifeSigns } from '../../src/node/life-signs.js';

class Peer {
  lastHeard = instantAt(0);
  readonly pings: number[] = [];
  now = instantAt(0);

  silentFor(now: Instant) {
    return elapsed(this.lastHeard, now);
  }

  ping(): void {
    this.pings.push(toMillis(elapsed(instantAt(0), this.now)));
  }
}

/** Asks whenever it is due, until `end`; when it was found gone, in milliseconds. */
function watch(signs: LifeSigns, peer: Peer, end: Instant): number | undefined {
  for (let due = signs.due; due !== undefined && due <= end; due = signs.due) {
    expect(due).toBeGreaterThanOrEqual(peer.now);
    peer.now = due;
    if (signs.check(due, peer) === 'gone') return toMillis(elapsed(instantAt(0), due));
  }
  return undefined;
}

test('nothing is asked while nothing is sent', () => {
  const signs = new LifeSigns();
  expect(signs.due).toBeUndefined();
  expect(signs.check(instantAt(1e9), new Peer())).toBe('quiet');
});

test('half a second after the first unanswered packet: one PING per 300 ms, gone after ten', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  signs.sent(later(instantAt(0), Millis(400)));
  expect(watch(signs, peer, later(instantAt(0), Seconds(60)))).toBe(3500);
  expect(peer.pings).toEqual(Array.from({ length: 10 }, (_, i) => 500 + i * 300));
});

test('whatever the peer is heard by ends the question', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  expect(watch(signs, peer, later(instantAt(0), Millis(1000)))).toBeUndefined();
  expect(peer.pings.length).toBe(2);
  // An acknowledgement, which nobody but the connection sees.
  peer.lastHeard = later(instantAt(0), Millis(1050));
  expect(signs.check(later(instantAt(0), Millis(1060)), peer)).toBe('back');
  expect(signs.due).toBeUndefined();

  signs.sent(later(instantAt(0), Seconds(2)));
  signs.heard();
  expect(signs.due).toBeUndefined();
});

test('asking early changes nothing', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  for (let at = 0; at < 3500; at += 10) expect(signs.check(later(instantAt(0), Millis(at)), peer)).not.toBe('gone');
  expect(peer.pings.length).toBe(10);
  expect(signs.check(later(instantAt(0), Millis(3500)), peer)).toBe('gone');
});

test('traffic that ends is asked about once, and no more when it was answered', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  for (let at = 0; at <= 1000; at += 100) signs.received(later(instantAt(0), Millis(at)));
  peer.lastHeard = later(instantAt(0), Millis(1000));
  peer.now = later(instantAt(0), Millis(1500));
  expect(signs.due).toBe(peer.now);
  expect(signs.check(peer.now, peer)).toBe('asking');
  peer.lastHeard = later(instantAt(0), Millis(1540));
  expect(signs.check(later(instantAt(0), Millis(1550)), peer)).toBe('back');
  expect(signs.due).toBeUndefined();
  expect(peer.pings.length).toBe(1);
});

test('after a sleep the peer is asked although it was just heard', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.suspect(instantAt(1e6));
  peer.lastHeard = instantAt(1e6);
  expect(signs.due).toBe(1e6);
  expect(signs.check(instantAt(1e6), peer)).toBe('asking');
});

test('at the very instant that was told it asks, though instants are fractions', () => {
  for (let i = 0; i < 1000; i++) {
    const signs = new LifeSigns();
    const peer = new Peer();
    // Sums cross a power of two, where fractions become coarser.
    signs.sent(instantAt(2 ** 30 - 250_000 + i * 173.440793));
    for (const count of [1, 2, 3]) {
      expect(signs.check(signs.due!, peer)).toBe('asking');
      expect(peer.pings.length).toBe(count);
    }
  }
});
