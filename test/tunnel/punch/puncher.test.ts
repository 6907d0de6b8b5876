import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { elapsed, type Instant, later, Millis, Seconds, toMillis } from '../../../src/base/time.js';
import { candidatePriority } from '../../../src/tunnel/punch/candidates.js';
import { isAnswer, PUNCH_LENGTH, putPunchAnswer, putPunchRequest } from '../../../src/tunnel/punch/punch-frame.js';
import { PUNCH_COUNTERS, type PunchCounter, Puncher, REQUESTS_PER_ROUND } from '../../../src/tunnel/punch/puncher.js';

const at = (text: string): SocketAddress => SocketAddress.parse(text)!;
const THEIR_TOKEN = new Uint8Array(16).fill(9);
const CALM = { spacing: Millis(20), usesPublic: true };
const START = Seconds(100) as number as Instant;

interface Sent {
  readonly at: Instant;
  readonly to: string;
  readonly frame: Uint8Array;
}

class Bench {
  now: Instant = START;
  readonly sent: Sent[] = [];
  readonly seen: string[] = [];
  readonly counters = new Counters<PunchCounter>(PUNCH_COUNTERS);
  readonly puncher: Puncher;
  readonly token: Uint8Array;

  constructor(...peers: string[]) {
    this.puncher = new Puncher({
      entropy: new SeededEntropy(3),
      counters: this.counters,
      send: (frame, addresses, index) => {
        this.sent.push({ at: this.now, to: String(SocketAddress.read(addresses, index)), frame: frame.slice() });
      },
      onSeen: (pair, address) => this.seen.push(`${pair.address} ${address}`),
    });
    this.token = this.puncher.renewToken(this.now);
    this.tell(...peers);
  }

  tell(...peers: string[]): void {
    const candidates = peers.map((text, i) => {
      const address = at(text);
      return { kind: 'host' as const, address, priority: candidatePriority('host', address, i) };
    });
    this.puncher.setPeer(THEIR_TOKEN, candidates);
  }

  /** Runs what is due until `span` has passed. */
  run(span = Seconds(5)): void {
    const end = later(this.now, span);
    for (;;) {
      this.puncher.turn(this.now);
      const next = this.puncher.nextTimeout();
      if (next === undefined || next > end) break;
      expect(next).toBeGreaterThanOrEqual(this.now);
      this.now = next > this.now ? next : later(this.now, Millis(1));
    }
    this.now = end;
  }

  arrive(frame: Uint8Array, from: string): boolean {
    const words = new Uint32Array(5);
    at(from).write(words, 0);
    return this.puncher.receive(this.now, frame, 0, words, 0, 0);
  }

  request(from: string, seq = 1, token = this.token): boolean {
    const frame = new Uint8Array(PUNCH_LENGTH);
    putPunchRequest(frame, token, seq, 77);
    return this.arrive(frame, from);
  }

  /** The peer's answer to a request of ours. */
  answerTo({ frame }: Sent, token = this.token): Uint8Array {
    const answer = new Uint8Array(PUNCH_LENGTH);
    const words = new Uint32Array(5);
    at('192.0.2.200:1').write(words, 0);
    putPunchAnswer(answer, token, frame, 0, words, 0);
    return answer;
  }
}

describe('a round', () => {
  it('asks every pair five times, best first, 5 – 20 ms apart, again after 100, 200, 400, 800 ms', () => {
    const peers = ['[2001:db8::1]:1', '192.0.2.1:1', '192.0.2.2:1'];
    const bench = new Bench(...peers);
    bench.puncher.start(bench.now, CALM);
    bench.run();
    expect(bench.sent.slice(0, 3).map(({ to }) => to)).toEqual(peers);
    expect(bench.sent.length).toBe(peers.length * REQUESTS_PER_ROUND);
    bench.sent.slice(1).forEach((one, i) => {
      expect(elapsed(bench.sent[i]!.at, one.at)).toBeGreaterThanOrEqual(Millis(5));
    });
    expect(elapsed(bench.sent[0]!.at, bench.sent[2]!.at)).toBeLessThanOrEqual(Millis(40));
    const times = bench.sent.filter(({ to }) => to === peers[0]).map((one) => toMillis(elapsed(START, one.at)));
    for (const [i, expected] of [0, 100, 300, 700, 1500].entries()) {
      expect(Math.abs(times[i]! - expected)).toBeLessThanOrEqual(60);
    }
    expect(bench.puncher.isRunning).toBe(false);
    expect(bench.puncher.pairs.all.map(({ state }) => state)).toEqual(['failed', 'failed', 'failed']);
  });

  it('of 32 pairs stays within 200 requests a second, and asks nobody when it was stopped', () => {
    const bench = new Bench(...Array.from({ length: 32 }, (_, i) => `192.0.2.${i + 1}:1`));
    bench.puncher.start(bench.now, CALM);
    bench.run(Seconds(1));
    expect(bench.sent.length).toBeLessThanOrEqual(200);
    bench.puncher.stop();
    const before = bench.sent.length;
    bench.run();
    expect(bench.sent.length).toBe(before);
    expect(bench.puncher.nextTimeout()).toBeUndefined();
  });
});

describe('an answer', () => {
  it('proves the pair with its round trip, once, and is answered by nothing', () => {
    const bench = new Bench('192.0.2.1:1', '192.0.2.2:1');
    bench.puncher.start(bench.now, CALM);
    bench.run(Millis(30));
    const [first] = bench.sent;
    bench.now = later(first!.at, Millis(40));
    const before = bench.sent.length;
    expect(bench.arrive(bench.answerTo(first!), '192.0.2.1:1')).toBe(true);
    expect(bench.puncher.best(bench.now, Seconds(1))).toMatchObject({ rtt: Millis(40), state: 'proved' });
    expect(bench.arrive(bench.answerTo(first!), '192.0.2.1:1')).toBe(false);
    expect(bench.counters.snapshot()).toMatchObject({ proved: 1, replayed: 1 });
    expect(bench.sent.length).toBe(before);
    expect(bench.puncher.best(later(bench.now, Seconds(2)), Seconds(1))).toBeUndefined();
  });

  it.each([
    ['from another address', '192.0.2.9:1', undefined],
    ['from the address of another pair', '192.0.2.2:1', undefined],
    ['with another token', '192.0.2.1:1', new Uint8Array(16)],
  ])('%s proves nothing', (_name, from, token) => {
    const bench = new Bench('192.0.2.1:1', '192.0.2.2:1');
    bench.puncher.start(bench.now, CALM);
    bench.run(Millis(30));
    expect(bench.arrive(bench.answerTo(bench.sent[0]!, token), from)).toBe(false);
    expect(bench.puncher.best(bench.now, Seconds(1))).toBeUndefined();
    expect(bench.counters.get(token === undefined ? 'replayed' : 'forged')).toBe(1);
  });

  it('whose sequence or clock was never sent proves nothing', () => {
    const bench = new Bench('192.0.2.1:1');
    bench.puncher.start(bench.now, CALM);
    bench.run(Millis(30));
    for (const at of [18, 19, 24, 27]) {
      const answer = bench.answerTo(bench.sent[0]!);
      answer[at]! ^= 1;
      expect(bench.arrive(answer, '192.0.2.1:1')).toBe(false);
    }
    expect(bench.counters.get('replayed')).toBe(4);
  });
});

describe('a request', () => {
  it('with our token is answered to its source, by as many bytes, and provokes one request of ours', () => {
    const bench = new Bench('192.0.2.1:1');
    expect(bench.request('192.0.2.1:1')).toBe(true);
    bench.run(Millis(50));
    expect(bench.sent.map(({ to, frame }) => [to, isAnswer(frame, 0), frame.length])).toEqual([
      ['192.0.2.1:1', true, PUNCH_LENGTH],
      ['192.0.2.1:1', false, PUNCH_LENGTH],
    ]);
    for (let i = 0; i < 5; i++) bench.request('192.0.2.1:1', i);
    bench.run(Millis(20));
    expect(bench.counters.snapshot()).toMatchObject({ answered: 6, sent: 1 });
    bench.run(Millis(100));
    bench.request('192.0.2.1:1');
    bench.run(Millis(20));
    expect(bench.counters.get('sent')).toBe(2);
  });

  it('with another token is not answered', () => {
    const bench = new Bench('192.0.2.1:1');
    expect(bench.request('192.0.2.1:1', 1, new Uint8Array(16))).toBe(false);
    bench.run();
    expect(bench.sent).toEqual([]);
    expect(bench.counters.snapshot()).toEqual({ forged: 1 });
  });

  it('before the peer’s own token is known has no answer', () => {
    const bench = new Bench();
    const early = new Puncher({
      entropy: new SeededEntropy(1),
      counters: bench.counters,
      send: () => expect.fail(),
      onSeen: () => expect.fail(),
    });
    const frame = new Uint8Array(PUNCH_LENGTH);
    putPunchRequest(frame, early.renewToken(bench.now), 1, 1);
    expect(early.receive(bench.now, frame, 0, new Uint32Array(5), 0, 0)).toBe(false);
    expect(bench.counters.get('early')).toBe(1);
  });

  it('with a token that was replaced counts for 5 s more', () => {
    const bench = new Bench('192.0.2.1:1');
    bench.puncher.renewToken(bench.now);
    expect(bench.request('192.0.2.1:1')).toBe(true);
    bench.now = later(bench.now, Seconds(5));
    expect(bench.request('192.0.2.1:1')).toBe(false);
  });

  it('is answered 50 times a second and session at most', () => {
    const bench = new Bench('192.0.2.1:1');
    for (let i = 0; i < 500; i++) bench.request('192.0.2.1:1', i);
    expect(bench.counters.snapshot()).toMatchObject({ received: 500, answered: 50, overBudget: 450 });
  });

  it('from sources that nobody told of: 8 are learnt in 10 s, the others get nothing', () => {
    const bench = new Bench('192.0.2.1:1');
    const ask = (from: number): boolean[] =>
      Array.from({ length: 20 }, (_, i) => bench.request(`198.51.100.${i}:${from}`));
    expect(ask(1).filter(Boolean).length).toBe(8);
    bench.run(Seconds(1));
    expect(new Set(bench.sent.map(({ to }) => to)).size).toBe(8);
    expect(bench.counters.snapshot()).toMatchObject({ unknownSources: 12, answered: 8, sent: 8 });
    expect(bench.puncher.pairs.all.filter(({ kind }) => kind === 'prflx').length).toBe(8);
  });
});

describe('the best pair', () => {
  it('has the lowest round trip, IPv6 on a tie, and is not barred', () => {
    const peers = ['192.0.2.1:1', '[2001:db8::1]:1', '192.0.2.2:1'];
    const bench = new Bench(...peers);
    bench.puncher.start(bench.now, CALM);
    bench.run(Millis(60));
    const asked = (to: string): Sent => bench.sent.find((one) => one.to === to)!;
    const prove = (to: string, rtt: number): void => {
      bench.now = later(asked(to).at, Millis(rtt));
      expect(bench.arrive(bench.answerTo(asked(to)), to)).toBe(true);
    };
    prove(peers[0]!, 80);
    prove(peers[1]!, 80);
    prove(peers[2]!, 90);
    const best = () => bench.puncher.best(bench.now, Seconds(1))!;
    expect(best().address.toString()).toBe(peers[1]);
    bench.puncher.pairs.bar(bench.now, best());
    expect(best().address.toString()).toBe(peers[0]);
  });

  it('is barred for 30 s after a handshake that failed, then for 60 s', () => {
    const bench = new Bench('192.0.2.1:1');
    const [pair] = bench.puncher.pairs.all;
    const waits = [0, 1, 2].map(() => {
      bench.puncher.pairs.bar(bench.now, pair!);
      return elapsed(bench.now, pair!.barredUntil!);
    });
    expect(waits).toEqual([Seconds(30), Seconds(60), Seconds(120)]);
    // Given another chance, it has not begun anew.
    bench.puncher.pairs.unbar();
    expect(pair!.barredUntil).toBeUndefined();
    bench.puncher.pairs.bar(bench.now, pair!);
    expect(elapsed(bench.now, pair!.barredUntil!)).toBe(Seconds(240));
  });
});
