import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { Millis, Seconds } from '../../../src/base/time.js';
import type { DnsAnswer } from '../../../src/engine/dns/answer.js';
import { type DnsHook, Resolver, type ResolverParts } from '../../../src/engine/dns/resolver.js';
import { parseDnsServer } from '../../../src/engine/dns/upstream.js';
import { NameTracker } from '../../../src/engine/names/tracker.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { type Asked, a, aaaa, DnsWorld, reply, type Server, server, soa, texts } from './world.js';

const ONE = '10.0.0.53';
const TWO = '10.0.0.54';
const A = { name: 'www.example', type: 1, dnssec: false, checkingDisabled: false };

function start(servers: readonly string[], more: Partial<ResolverParts> = {}) {
  const world = new DnsWorld();
  const tracker = new NameTracker({ crypto: createCrypto() });
  const resolver = new Resolver({
    dialer: world.dialer,
    timers: world,
    entropy: world.entropy,
    counters: world.counters,
    servers: servers.map(parseDnsServer),
    tracker,
    ...more,
  });
  const ask = (key = A): DnsAnswer[] => {
    const answers: DnsAnswer[] = [];
    resolver.query(key, (answer) => answers.push(answer));
    return answers;
  };
  return { world, resolver, tracker, ask };
}

const good: Server = (asked) =>
  reply(asked, {
    answers: asked.question.type === 'A' ? [a(asked.name, '10.1.1.1')] : [aaaa(asked.name, 'fd00::1')],
    edns: true,
  });
const serve = (world: DnsWorld, ip: string, act: Server, port = 53) => world.servers.set(`${ip}:${port}`, act);

describe('Resolver', () => {
  it('answers from a server, then from the cache until the TTL is over, and tells the tracker', () => {
    const { world, ask, tracker, resolver } = start([ONE]);
    serve(world, ONE, good);
    const first = ask();
    world.run(Seconds(1));
    expect(texts(first[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(tracker.nameOf(world.now(), IpAddress.parse('10.1.1.1')!)).toMatchObject({
      host: 'www.example',
      source: 'resolver',
    });
    world.run(Seconds(58));
    expect(ask()).toHaveLength(1);
    expect(world.asked).toHaveLength(1);
    world.run(Seconds(2));
    expect(ask()).toHaveLength(0);
    world.run();
    expect(world.asked).toHaveLength(2);
    expect(world.counters.snapshot()).toMatchObject({ dns_queries: 3, dns_cache_hits: 1, dns_answers: 2 });
    expect([world.openSockets, world.timersArmed, resolver.outstanding]).toEqual([0, 0, 0]);
  });

  it('asks once for many, and both families at once', () => {
    const { world, resolver, ask } = start([ONE]);
    serve(world, ONE, good);
    const answers = [ask(), ask(), ask()];
    const found: string[][] = [];
    resolver.lookup('WWW.Example.', (addresses) => found.push(texts(addresses)));
    world.run(Millis(25));
    expect(answers.every((list) => list.length === 1)).toBe(true);
    expect(found).toEqual([['fd00::1', '10.1.1.1']]);
    expect(world.asked.map(({ asked }) => asked.question.type)).toEqual(['A', 'AAAA']);
    expect(world.counters.get('dns_joined')).toBe(3);
    resolver.lookup('not a name', (addresses) => found.push(texts(addresses)));
    expect(found[1]).toEqual([]);
  });

  it('uses another id, socket and spelling for every question, and EDNS with 1232 bytes', () => {
    const { world, ask } = start([ONE]);
    serve(world, ONE, good);
    for (let i = 0; i < 40; i++) {
      ask({ ...A, name: `some-longer-name-${i}.example` });
      world.run(Seconds(1));
    }
    const queries = world.asked.map(({ asked }) => asked);
    expect(new Set(queries.map(({ query }) => query.id)).size).toBeGreaterThan(38);
    expect(new Set(queries.map(({ question }) => question.name.slice(0, 16))).size).toBeGreaterThan(35);
    expect(world.opened).toHaveLength(40);
    expect(queries[0]!.query.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: 1232 }]);
  });

  it.each([
    [
      'another id',
      (asked: Asked) =>
        reply(
          { ...asked, query: { ...asked.query, id: asked.query.id! ^ 1 } },
          { answers: [a(asked.name, '10.6.6.6')] },
        ),
    ],
    [
      'another question',
      (asked: Asked) => reply({ ...asked, question: { ...asked.question, name: 'evil.example' } }, {}),
    ],
    ['another type', (asked: Asked) => reply({ ...asked, question: { ...asked.question, type: 'AAAA' } }, {})],
    ['a query', (asked: Asked) => asked.bytes],
  ] as const)('waits on when an answer has %s, and counts it', (_what, forge) => {
    const { world, ask } = start([ONE]);
    serve(world, ONE, (asked) => [forge(asked), reply(asked, { answers: [a(asked.name, '10.1.1.1')] })]);
    const answers = ask();
    world.run(Seconds(1));
    expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(world.counters.get('dns_spoofed')).toBe(1);
  });

  it('takes nothing from another address, and counts what is no message', () => {
    const { world, ask } = start([ONE]);
    serve(world, ONE, good);
    world.spoofFrom = server('10.9.9.9:53');
    const answers = ask();
    world.run();
    expect(answers[0]).toMatchObject({ rcode: 2, bytes: undefined });
    expect(world.counters.get('dns_spoofed')).toBe(3);
    world.spoofFrom = undefined;
    serve(world, ONE, (asked) => [Uint8Array.of(1, 2, 3), good(asked) as Uint8Array]);
    const next = ask();
    world.run(Seconds(1));
    expect(texts(next[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(world.counters.get('dns_malformed')).toBe(1);
  });

  it('asks over TCP when the spelling comes back wrong, when somebody is guessing, and when the answer is cut', () => {
    const flood = (asked: Asked) =>
      [...new Array(20).keys()].map((i) =>
        reply({ ...asked, query: { ...asked.query, id: (asked.query.id! + 1 + i) & 0xffff } }, {}),
      );
    const lower = (asked: Asked) =>
      reply({ ...asked, question: { ...asked.question, name: asked.name } }, { answers: [a(asked.name, '10.6.6.6')] });
    const cut = (asked: Asked) => reply(asked, { flags: 0x380 });
    for (const udp of [lower, flood, cut]) {
      const { world, ask } = start([ONE]);
      serve(world, ONE, (asked) => (asked.via === 'udp' ? udp(asked) : good(asked)));
      const answers = ask({ ...A, name: 'a-name-with-many-letters.example' });
      world.run(Seconds(1));
      expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
      expect(world.asked.map(({ asked }) => asked.via)).toEqual(['udp', 'tcp']);
    }
  });

  it('goes to the next server on silence, refusal, SERVFAIL and errors, and asks a silent one last for a while', () => {
    const failures: Server[] = [
      () => 'silence',
      () => 'refuse',
      (q) => reply(q, { rcode: 2 }),
      (q) => reply(q, { rcode: 5 }),
    ];
    for (const fail of failures) {
      const { world, ask } = start([ONE, TWO]);
      serve(world, ONE, fail);
      serve(world, TWO, good);
      const answers = ask();
      world.run(Seconds(3));
      expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
      expect(world.asked.map(({ server: s }) => s)).toEqual([`${ONE}:53`, `${TWO}:53`]);
    }
    const { world, ask } = start([ONE, TWO]);
    serve(world, TWO, good);
    ask();
    world.run(Millis(2900));
    ask({ ...A, name: 'second.example' });
    world.run(Seconds(1));
    ask({ ...A, name: 'third.example' });
    world.run(Seconds(5));
    // Silent for 2 s, then passed over for 1 s, then tried again.
    expect(world.asked.map(({ server: s }) => s.slice(0, 9))).toEqual([ONE, TWO, TWO, ONE, TWO]);
    expect(world.counters.get('dns_timeouts')).toBe(2);
  });

  it('asks six servers at most, once each, and none after ten seconds', () => {
    const seven = [...new Array(7).keys()].map((i) => `10.0.0.${60 + i}`);
    const tries = (servers: readonly string[], act: Server | undefined) => {
      const { world, ask } = start(servers);
      for (const ip of servers) if (act !== undefined) serve(world, ip.replace('tcp://', ''), act);
      const answers = ask();
      world.run(Millis(9_999));
      const early = answers.length;
      world.run(Millis(1));
      const told = answers.length;
      const tried = world.asked.length;
      world.run();
      return [early, told, tried, world.asked.length];
    };
    expect(tries(seven, () => 'refuse')).toEqual([1, 1, 6, 6]);
    // Two seconds each over UDP, four over TCP.
    expect(tries(seven, undefined)).toEqual([0, 1, 5, 5]);
    const streams = seven.slice(0, 3).map((ip) => `tcp://${ip}`);
    expect(tries(streams, () => 'silence')).toEqual([0, 1, 3, 3]);
    expect(tries(streams.slice(0, 1), () => 'silence')).toEqual([0, 1, 3, 3]);
  });

  it('when all refuse, gives the last one’s refusal', () => {
    const servers = [ONE, TWO, '10.0.0.55'];
    const { world, ask } = start(servers);
    for (const [i, ip] of servers.entries()) serve(world, ip, (asked) => reply(asked, { rcode: [5, 2, 4][i]! }));
    const answers = ask();
    world.run(Seconds(1));
    expect(answers).toMatchObject([{ rcode: 4 }]);
  });

  it('passes a server over no longer than at first, once it has answered in between', () => {
    const { world, ask } = start([ONE, TWO]);
    serve(world, TWO, good);
    let n = 0;
    const next = (): string => {
      const before = world.asked.length;
      ask({ ...A, name: `n${n++}.example` });
      world.run(Seconds(3.5));
      return world.asked[before]!.server;
    };
    // Silent for 2 s, then passed over for 1 s: it is asked first again.
    expect(next()).toBe(`${ONE}:53`);
    serve(world, ONE, good);
    expect(next()).toBe(`${ONE}:53`);
    serve(world, ONE, () => 'silence');
    expect([next(), next()]).toEqual([`${ONE}:53`, `${ONE}:53`]);
    // Twice in a row: for 2 s.
    expect(next()).toBe(`${TWO}:53`);
  });

  it('asks over TCP where no datagram can be sent', () => {
    const world = new DnsWorld();
    const { resolver } = start([ONE], {
      dialer: { ...world.dialer, udp: () => undefined },
      timers: world,
      counters: world.counters,
    });
    serve(world, ONE, good);
    const answers: DnsAnswer[] = [];
    resolver.query(A, (answer) => answers.push(answer));
    expect(answers).toEqual([]);
    world.run(Millis(100));
    expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(world.opened).toEqual([`tcp ${ONE}:53`]);
  });

  it('fails after three tries, remembers that for a second, and remembers SERVFAIL for five', () => {
    const { world, ask } = start([ONE]);
    const answers = ask();
    world.run(Millis(5_999));
    expect(answers).toHaveLength(0);
    world.run(Millis(1));
    expect(answers[0]).toMatchObject({ rcode: 2, bytes: undefined });
    expect(world.asked).toHaveLength(3);
    expect(ask()).toHaveLength(1);
    world.run(Seconds(1));
    expect(ask()).toHaveLength(0);
    world.run();
    serve(world, ONE, (asked) => reply(asked, { rcode: 2 }));
    const refused = ask();
    world.run(Seconds(1));
    expect(refused[0]!.rcode).toBe(2);
    const before = world.asked.length;
    world.run(Millis(3900));
    expect(ask()).toHaveLength(1);
    expect(world.asked.length).toBe(before);
    world.run(Millis(200));
    expect(ask()).toHaveLength(0);
  });

  it('keeps "no such name" for all types and "no such record" for one, as long as the SOA says (RFC 2308)', () => {
    const { world, ask } = start([ONE]);
    serve(world, ONE, (asked) =>
      asked.name.startsWith('nx')
        ? reply(asked, { rcode: 3, authorities: [soa('example', 30)] })
        : reply(asked, { authorities: [soa('example', 30)] }),
    );
    const nx = { ...A, name: 'nx.example' };
    for (const key of [nx, A]) {
      ask(key);
      world.run(Seconds(1));
    }
    expect(world.asked).toHaveLength(2);
    expect(ask(nx)[0]).toMatchObject({ rcode: 3, negative: true });
    expect(ask({ ...nx, type: 28 })[0]).toMatchObject({ rcode: 3 });
    expect(ask()[0]).toMatchObject({ rcode: 0, negative: true });
    expect(ask({ ...A, type: 28 })).toHaveLength(0);
    world.run(Seconds(30));
    expect(ask(nx)).toHaveLength(0);
    world.run();
    // Without a SOA nothing is kept.
    serve(world, ONE, (asked) => reply(asked, { rcode: 3 }));
    const bare = { ...A, name: 'nx2.example' };
    ask(bare);
    world.run(Seconds(1));
    expect(ask(bare)).toHaveLength(0);
  });

  it('follows aliases in any order, and takes no addresses that do not belong to the question', () => {
    const { world, ask } = start([ONE]);
    serve(world, ONE, (asked) =>
      reply(asked, {
        answers: [
          a('edge.cdn.example', '10.1.1.1', 20),
          a('unasked.example', '10.6.6.6'),
          { type: 'CNAME', name: 'mid.example', data: 'edge.cdn.example', ttl: 50 },
          { type: 'CNAME', name: asked.name, data: 'MID.example', ttl: 40 },
        ],
      }),
    );
    const answers = ask();
    world.run(Seconds(1));
    expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(answers[0]!.ttl).toBe(Seconds(20));
    serve(world, ONE, (asked) =>
      reply(asked, {
        answers: [
          { type: 'CNAME', name: asked.name, data: 'b.example' },
          { type: 'CNAME', name: 'b.example', data: asked.name },
        ],
      }),
    );
    const loop = ask({ ...A, name: 'loop.example' });
    world.run(Seconds(1));
    expect(loop[0]).toMatchObject({ negative: true, addresses: [] });
  });

  it('asks a server without EDNS again without it, and from then on at once', () => {
    const { world, ask } = start([ONE]);
    const hasOpt = (asked: Asked) => (asked.query.additionals ?? []).length > 0;
    serve(world, ONE, (asked) => {
      if (!hasOpt(asked)) return good(asked);
      const header = new Uint8Array(12);
      header.set([asked.bytes[0]!, asked.bytes[1]!, 0x80, 1]);
      return header;
    });
    const answers = ask();
    world.run(Seconds(1));
    expect(answers).toHaveLength(1);
    ask({ ...A, name: 'next.example' });
    world.run(Seconds(1));
    expect(world.asked.map(({ asked }) => hasOpt(asked))).toEqual([true, false, false]);
  });

  it('asks the hook first, for addresses only, and pins what it says', () => {
    const hook: DnsHook = (host, answer) => {
      if (host === 'corp.example') answer({ addresses: [IpAddress.parse('10.7.7.7')!], ttl: Seconds(9) });
      else if (host === 'throws.example') throw new Error('hook');
      else if (host !== 'silent.example') answer(undefined);
    };
    const { world, ask, tracker } = start([ONE], { hook });
    serve(world, ONE, good);
    const corp = { ...A, name: 'corp.example' };
    expect(texts(ask(corp)[0]!.addresses)).toEqual(['10.7.7.7']);
    expect(ask({ ...corp, type: 28 })[0]).toMatchObject({ rcode: 0, negative: true, addresses: [] });
    expect(ask({ ...corp, type: 65 })[0]).toMatchObject({ negative: true });
    expect(world.asked).toHaveLength(0);
    expect(tracker.nameOf(world.now(), IpAddress.parse('10.7.7.7')!)?.source).toBe('hook');
    const others = ['other.example', 'throws.example', 'silent.example'].map((name) => ask({ ...A, name }));
    ask({ ...corp, type: 16 });
    world.run(Seconds(4));
    expect(others.map((list) => list.length)).toEqual([1, 1, 0]);
    world.run(Seconds(2));
    expect(others[2]).toHaveLength(1);
    expect(world.counters.snapshot()).toMatchObject({ dns_hook_answers: 3, dns_hook_errors: 2 });
  });

  it('takes a hook’s first answer only, and none after its time', () => {
    const tell: Parameters<DnsHook>[1][] = [];
    const { world, ask } = start([ONE], { hook: (_host, answer) => void tell.push(answer) });
    serve(world, ONE, good);
    const pin = (ip: string) => ({ addresses: [IpAddress.parse(ip)!] });
    const twice = ask();
    tell[0]!(pin('10.7.7.7'));
    tell[0]!(pin('10.8.8.8'));
    tell[0]!(undefined);
    const late = ask({ ...A, name: 'late.example' });
    world.run(Millis(4_999));
    expect(late).toEqual([]);
    world.run(Seconds(1));
    tell[1]!(pin('10.8.8.8'));
    world.run(Seconds(20));
    expect([twice, late].map((list) => list.map(({ addresses }) => texts(addresses)))).toEqual([
      [['10.7.7.7']],
      [['10.1.1.1']],
    ]);
    expect(world.counters.snapshot()).toMatchObject({ dns_hook_answers: 1, dns_hook_errors: 1 });
    expect(world.timersArmed).toBe(0);
  });

  it('keeps one TCP connection for many questions, ends it after ten silent seconds, and survives its loss', () => {
    const { world, ask } = start([`tcp://${ONE}`]);
    let lose = false;
    serve(world, ONE, (asked) => (lose ? 'refuse' : good(asked)));
    const names = ['a.example', 'b.example', 'c.example'];
    const answers = names.map((name) => ask({ ...A, name }));
    world.run(Seconds(1));
    expect(answers.map((list) => list.length)).toEqual([1, 1, 1]);
    expect(world.opened).toEqual([`tcp ${ONE}:53`]);
    world.run(Seconds(10));
    expect(world.openSockets).toBe(0);
    lose = true;
    const lost = ask({ ...A, name: 'd.example' });
    world.run(Seconds(20));
    expect(lost[0]!.rcode).toBe(2);
    expect(world.opened).toHaveLength(4);
  });

  it('asks over TLS, with the name the certificate must show', () => {
    const { world, ask } = start([`tls://${ONE}#dns.example`]);
    serve(world, ONE, good, 853);
    const answers = ask();
    world.run(Seconds(1));
    expect(texts(answers[0]!.addresses)).toEqual(['10.1.1.1']);
    expect(world.opened).toEqual([`tls dns.example dot ${ONE}:853`]);
  });

  it('bounds questions and those who wait, and lets go of all when it closes', () => {
    const { world, resolver, ask } = start([ONE]);
    const many = [...new Array(513).keys()].map((i) => ask({ ...A, name: `n${i}.example` }));
    expect(many[512]).toMatchObject([{ rcode: 2 }]);
    expect(resolver.outstanding).toBe(512);
    const same = [...new Array(256).keys()].map(() => ask({ ...A, name: 'n0.example' }));
    expect(same[255]).toMatchObject([{ rcode: 2 }]);
    expect(world.counters.get('dns_overload')).toBe(2);
    resolver.close();
    expect(many.every((list) => list.length === 1)).toBe(true);
    expect([world.openSockets, resolver.outstanding]).toEqual([0, 0]);
    expect(ask({ ...A, name: 'late.example' })).toMatchObject([{ rcode: 2 }]);
    world.run();
    expect(world.timersArmed).toBe(0);
  });

  it('after a path change forgets failures and absences, and dials anew', () => {
    const { world, resolver, ask } = start([`tcp://${ONE}`]);
    serve(world, ONE, (asked) => reply(asked, { rcode: 3, authorities: [soa('example', 3600)] }));
    ask();
    world.run(Seconds(1));
    serve(world, ONE, good);
    expect(ask()[0]!.rcode).toBe(3);
    const pending = ask({ ...A, name: 'pending.example' });
    resolver.pathChanged();
    const again = ask();
    world.run(Seconds(1));
    expect(again[0]!.rcode).toBe(0);
    expect(pending[0]!.rcode).toBe(0);
    expect(world.opened).toHaveLength(2);
  });

  it('keeps at most as many answers as it may', () => {
    const { world, resolver, ask } = start([ONE], { cacheEntries: 5 });
    serve(world, ONE, good);
    for (let i = 0; i < 8; i++) ask({ ...A, name: `n${i}.example` });
    world.run(Seconds(1));
    expect(resolver.cached).toBe(5);
    expect(ask({ ...A, name: 'n7.example' })).toHaveLength(1);
    expect(ask({ ...A, name: 'n0.example' })).toHaveLength(0);
  });
});
