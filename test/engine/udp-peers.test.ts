/** The table of 5-tuples, with tuples of one hash: each is found, whoever of them goes. */
import { expect, test } from 'vitest';
import type { UdpFlow } from '../../src/engine/udp-peers.js';
import { PORT, TUPLE_WORDS, UdpPeers } from '../../src/engine/udp-peers.js';

const SEED = 0x9e3779b9;

/** Two tuples of one hash: among some hundred thousand there are a dozen such pairs. */
function collision(): readonly [Uint32Array, Uint32Array] {
  const peers = new UdpPeers(SEED);
  const seen = new Map<number, number>();
  const tuple = (n: number): Uint32Array => {
    const words = new Uint32Array(TUPLE_WORDS);
    words[3] = n >>> 3;
    words[PORT - 1] = Math.imul(n, 0x85ebca6b);
    words[PORT] = 1 + (n & 7);
    return words;
  };
  for (let n = 0; n < 2_000_000; n++) {
    const hash = peers.hashOf(tuple(n), TUPLE_WORDS);
    const other = seen.get(hash);
    if (other !== undefined) return [tuple(other), tuple(n)];
    seen.set(hash, n);
  }
  throw new Error('no two of two million tuples have one hash');
}

test('tuples of one hash are found each, and one that goes takes no other with it', () => {
  const [a, b] = collision();
  const flow = {} as UdpFlow;
  for (const [goes, stays] of [
    [a, b],
    [b, a],
  ] as const) {
    const peers = new UdpPeers(SEED);
    const [first, second] = [peers.add(flow, a, undefined), peers.add(flow, b, undefined)];
    expect([peers.find(a), peers.find(b)]).toEqual([first, second]);
    peers.remove(peers.find(goes)!);
    expect(peers.find(goes)).toBeUndefined();
    expect(peers.find(stays)).toBe(stays === a ? first : second);
    peers.remove(peers.find(stays)!);
    expect(peers.find(stays)).toBeUndefined();
  }
});

test('every word of a tuple makes a difference to its hash', () => {
  const peers = new UdpPeers(SEED);
  const hash = (change: number): number => {
    const words = new Uint32Array(TUPLE_WORDS).fill(7);
    if (change >= 0) words[change]!++;
    return peers.hashOf(words, TUPLE_WORDS);
  };
  const hashes = Array.from({ length: TUPLE_WORDS + 1 }, (_, i) => hash(i - 1));
  expect(new Set(hashes).size).toBe(TUPLE_WORDS + 1);
});
