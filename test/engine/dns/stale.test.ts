/** Answers after their time, where nobody answers: when, how long, with which TTL, and what ends it (RFC 8767). */
import { expect, test } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { type Duration, Hours, Millis, Seconds } from '../../../src/base/time.js';
import type { DnsAnswer } from '../../../src/engine/dns/answer.js';
import { Resolver } from '../../../src/engine/dns/resolver.js';
import { parseDnsServer } from '../../../src/engine/dns/upstream.js';
import { NameTracker } from '../../../src/engine/names/tracker.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { MockHost } from '../replay/mock-host.js';
import { type Asked, a, aaaa, DnsWorld, read, reply, type Server, soa, texts } from './world.js';

const A = { name: 'www.example', type: 1, dnssec: false, checkingDisabled: false };
const AAAA = { ...A, type: 28 };
const good: Server = (asked) =>
  reply(asked, { answers: [asked.question.type === 'A' ? a(asked.name, '10.1.1.1') : aaaa(asked.name, 'fd00::1')] });
const servfail: Server = (asked) => reply(asked, { rcode: 2 });

/** A resolver that knows www.example for 60 s, from a server that is `by` afterwards, when these are over. */
function start(by: Server, staleTime: Duration = Hours(24)) {
  const world = new DnsWorld();
  const tracker = new NameTracker({ crypto: createCrypto() });
  const counters = world.counters;
  const resolver = new Resolver({
    dialer: world.dialer,
    timers: world,
    entropy: world.entropy,
    counters,
    servers: [parseDnsServer('10.0.0.53')],
    tracker,
    staleTime,
  });
  const serve = (act: Server) => void world.servers.set('10.0.0.53:53', act);
  const ask = (key = A): DnsAnswer[] => {
    const answers: DnsAnswer[] = [];
    resolver.query(key, (answer) => answers.push(answer));
    return answers;
  };
  serve(good);
  ask();
  world.run(Seconds(60));
  serve(by);
  world.run(Seconds(1));
  const asked = (): number => world.asked.length;
  const stale = (): number => counters.get('dns_stale_answers');
  return { world, resolver, tracker, serve, ask, asked, stale };
}

const isStale = (answers: readonly DnsAnswer[]): boolean => answers.length === 1 && answers[0]!.from === 'stale';

test('servers that fail: the old answer with a TTL of 30 s, and nobody is asked again for 30 s', () => {
  const { world, tracker, ask, asked, stale } = start(servfail);
  const first = ask();
  world.run(Millis(500));
  expect([isStale(first), texts(first[0]!.addresses), first[0]!.rcode]).toEqual([true, ['10.1.1.1'], 0]);
  expect(read(first[0]!.bytes!).answers).toMatchObject([{ data: '10.1.1.1', ttl: 30 }]);
  expect(tracker.nameOf(world.now(), IpAddress.parse('10.1.1.1')!)?.host).toBe('www.example');
  const before = asked();
  world.run(Seconds(29));
  // At once, from the cache.
  expect([isStale(ask()), asked(), stale()]).toEqual([true, before, 2]);
  world.run(Seconds(1));
  const again = ask();
  expect([again.length, stale()]).toEqual([0, 2]);
  world.run(Seconds(1));
  expect([isStale(again), asked() > before]).toEqual([true, true]);
});

test('servers that say nothing: the old answer after 1.8 s, for all who wait; one that comes later is for the next', () => {
  const late: { asked: Asked }[] = [];
  const { world, serve, ask, asked, stale } = start((one) => {
    late.push({ asked: one });
    return 'silence';
  });
  const waiting = [ask(), ask()];
  world.run(Millis(1_799));
  expect(waiting.map((answers) => answers.length)).toEqual([0, 0]);
  world.run(Millis(1));
  expect([waiting.map(isStale), stale()]).toEqual([[true, true], 2]);
  // Who asks while the servers are still asked gets it at once.
  const count = asked();
  expect([isStale(ask()), asked()]).toEqual([true, count]);
  serve(good);
  world.run(Seconds(8));
  expect(waiting.map((answers) => answers.length)).toEqual([1, 1]);
  expect(ask().map(({ from }) => from)).toEqual(['server']);
  expect(world.timersArmed).toBe(0);
});

test('it ends when it is told to, and answers without it are not changed', () => {
  const { world, ask, stale } = start(servfail, Seconds(100));
  expect(isStale(ask())).toBe(false);
  world.run(Seconds(98));
  const last = ask();
  world.run(Seconds(1));
  expect(isStale(last)).toBe(true);
  world.run(Seconds(40));
  const over = ask();
  world.run(Seconds(12));
  expect([over[0]!.rcode, over[0]!.from === 'stale', stale()]).toEqual([2, false, 2]);
  const without = start(servfail, Seconds(0));
  const failed = without.ask();
  without.world.run(Seconds(12));
  expect([failed[0]!.rcode, without.stale()]).toEqual([2, 0]);
});

test('a server’s word that there is no such name, or no such record, is final; data that came since counts', () => {
  const nxdomain: Server = (asked) => reply(asked, { rcode: 3, authorities: [soa('example', 5, 5)] });
  const { world, serve, ask, stale } = start(good);
  ask(AAAA);
  world.run(Seconds(70));
  serve(nxdomain);
  ask();
  world.run(Seconds(10));
  serve(servfail);
  const both = [ask(), ask(AAAA)];
  world.run(Seconds(15));
  expect([both.map(([answer]) => answer!.rcode), stale()]).toEqual([[2, 2], 0]);
  serve(good);
  world.run(Seconds(10));
  ask();
  world.run(Seconds(70));
  serve(servfail);
  const back = ask();
  world.run(Seconds(1));
  expect(isStale(back)).toBe(true);
});

test.each([
  ['no such name, not to be kept', { rcode: 3 }],
  ['no such record, not to be kept', {}],
  ['no such record, for five seconds', { authorities: [soa('example', 5, 5)] }],
] as const)('%s: neither that nor what was before is given after its time', (_what, shape) => {
  const { world, serve, ask, stale } = start((asked) => reply(asked, shape));
  const denied = ask();
  world.run(Seconds(10));
  serve(servfail);
  const failed = ask();
  world.run(Seconds(15));
  expect([denied[0]!.negative, failed[0]!.rcode, stale()]).toEqual([true, 2, 0]);
});

test('another network: what was true on the old one is forgotten, and what is out finds nothing to say', () => {
  const { world, resolver, ask, stale } = start(() => 'silence');
  const answers = ask();
  world.run(Seconds(1));
  resolver.pathChanged();
  world.run(Seconds(15));
  expect([answers[0]!.rcode, stale()]).toEqual([2, 0]);
  const closing = start(() => 'silence');
  const lost = closing.ask();
  closing.resolver.close();
  closing.world.run(Seconds(15));
  expect([lost.length, lost[0]!.rcode, closing.world.timersArmed]).toEqual([1, 2, 0]);
});

test.each([-1, 604_801, Number.NaN])('staleSeconds of %d is refused', (staleSeconds) => {
  const make = () => new MockHost({ dns: { mode: 'hijack', servers: ['10.9.0.53'], staleSeconds } });
  expect(make).toThrow(expect.objectContaining({ code: 'ENGINE_SETTINGS' }));
});
