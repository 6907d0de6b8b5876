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
    if (signs.isGone(due, peer)) return toMillis(elapsed(instantAt(0), due));
  }
  return undefined;
}

test('nothing is asked while nothing is sent', () => {
  const signs = new LifeSigns();
  expect(signs.due).toBeUndefined();
  expect(signs.isGone(instantAt(1e9), new Peer())).toBe(false);
});

test('a second after the first unanswered packet: one PING per 300 ms, gone after ten', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  signs.sent(later(instantAt(0), Millis(900)));
  expect(watch(signs, peer, later(instantAt(0), Seconds(60)))).toBe(4000);
  expect(peer.pings).toEqual(Array.from({ length: 10 }, (_, i) => 1000 + i * 300));
});

test('whatever the peer is heard by ends the question', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  expect(watch(signs, peer, later(instantAt(0), Millis(1500)))).toBeUndefined();
  expect(peer.pings.length).toBe(2);
  // An acknowledgement, which nobody but the connection sees.
  peer.lastHeard = later(instantAt(0), Millis(1700));
  expect(watch(signs, peer, later(instantAt(0), Seconds(60)))).toBeUndefined();
  expect(signs.due).toBeUndefined();

  signs.sent(later(instantAt(0), Seconds(2)));
  signs.heard();
  expect(signs.due).toBeUndefined();
});

test('asking early changes nothing', () => {
  const signs = new LifeSigns();
  const peer = new Peer();
  signs.sent(instantAt(0));
  for (let at = 0; at < 4000; at += 10) expect(signs.isGone(later(instantAt(0), Millis(at)), peer)).toBe(false);
  expect(peer.pings.length).toBe(10);
  expect(signs.isGone(later(instantAt(0), Millis(4000)), peer)).toBe(true);
});
