import { describe, expect, it } from 'vitest';
import { IpAddress, Prefix, SocketAddress } from '../../../src/base/address.js';
import { Seconds } from '../../../src/base/time.js';
import { checkFakeRange, FAKE_RANGE_V4, FAKE_RANGE_V6, FakeIpPool } from '../../../src/engine/dns/fake-ip.js';
import { type DnsHook, Resolver } from '../../../src/engine/dns/resolver.js';
import { type DnsMode, DnsService } from '../../../src/engine/dns/service.js';
import { parseDnsServer } from '../../../src/engine/dns/upstream.js';
import { NameTracker } from '../../../src/engine/names/tracker.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { a, DnsWorld, query, read, reply, type Server } from './world.js';

const ip = (text: string) => IpAddress.parse(text)!;

function start(mode: DnsMode, act?: Server, hook?: DnsHook) {
  const world = new DnsWorld();
  const tracker = new NameTracker({ crypto: createCrypto() });
  const pool = new FakeIpPool();
  if (act !== undefined) world.servers.set('10.0.0.53:53', act);
  const common = { timers: world, counters: world.counters, tracker };
  const servers = [parseDnsServer('10.0.0.53')];
  const resolver = new Resolver({
    ...common,
    dialer: world.dialer,
    entropy: world.entropy,
    servers,
    ...(hook && { hook }),
  });
  const service = new DnsService({ ...common, mode, resolver, pool, addresses: [ip('10.126.0.2'), ip('fd00::2')] });
  const ask = (bytes: Uint8Array, overTcp = false) => {
    const answers: Uint8Array[] = [];
    service.onQuery(bytes, overTcp, (answer) => answers.push(answer.slice()));
    world.run(Seconds(1));
    return answers;
  };
  return { world, tracker, pool, service, ask };
}

describe('DnsService', () => {
  it('intercepts what its mode says', () => {
    const to = (text: string) => SocketAddress.parse(text)!;
    const cases = {
      off: [false, false],
      forward: [true, false],
      hijack: [true, true],
      'fake-ip': [true, true],
    } as const;
    for (const [mode, [own, other]] of Object.entries(cases)) {
      const { service } = start(mode as DnsMode);
      expect(service.intercepts(to('10.126.0.2:53'))).toBe(own);
      expect(service.intercepts(to('[fd00::2]:53'))).toBe(own);
      expect(service.intercepts(to('192.0.2.7:53'))).toBe(other);
      expect(service.intercepts(to('10.126.0.2:853'))).toBe(false);
    }
  });

  it('passes every record on as it came, with our id, the spelling of the question, and TTLs that count down', () => {
    const { world, ask } = start('forward', (asked) =>
      reply(asked, {
        flags: 0x5a0,
        answers: [
          a(asked.name, '10.1.1.1', 60),
          { type: 'UNKNOWN_65280' as 'NULL', name: asked.name, ttl: 7, data: Buffer.from('raw bytes') },
        ],
        additionals: [{ type: 'TXT', name: 'More.Example', ttl: 100, data: 'x' }],
        edns: true,
      }),
    );
    const [first] = ask(query('WwW.eXample', 'A', { id: 99 }));
    expect(read(first!)).toMatchObject({
      id: 99,
      type: 'response',
      rcode: 'NOERROR',
      flag_ra: true,
      flag_rd: true,
      flag_ad: true,
      flag_aa: false,
    });
    expect(read(first!).questions![0]!.name).toBe('WwW.eXample');
    expect(read(first!).answers).toMatchObject([
      { name: 'WwW.eXample', data: '10.1.1.1', ttl: 60 },
      { ttl: 7, data: Buffer.from('raw bytes') },
    ]);
    expect(read(first!).additionals).toMatchObject([{ type: 'TXT', name: 'More.Example' }]);
    world.run(Seconds(3));
    const [later] = ask(query('www.example', 'A', { id: 100, size: 4096, dnssec: false }));
    expect(world.asked).toHaveLength(1);
    const again = read(later!);
    expect([again.id, again.answers!.map((r) => ('ttl' in r ? r.ttl : -1))]).toEqual([100, [57, 4]]);
    expect(again.additionals).toMatchObject([{ ttl: 97 }, { type: 'OPT', udpPayloadSize: 1232 }]);
  });

  it('cuts what does not fit, says so, and gives it whole over TCP', () => {
    const { ask } = start('hijack', (asked) =>
      reply(asked, { answers: [...new Array(35).keys()].map((i) => a(asked.name, `10.1.1.${i}`)) }),
    );
    const small = ask(query('www.example', 'A'))[0]!;
    expect([small.length <= 512, read(small).flag_tc, read(small).answers]).toEqual([true, true, []]);
    const large = ask(query('www.example', 'A', { size: 4096 }))[0]!;
    expect(large.length).toBeLessThanOrEqual(1232);
    expect(read(large).flag_tc).toBe(false);
    expect(read(large).answers).toHaveLength(35);
    const cut = ask(query('www.example', 'A', { size: 600 }))[0]!;
    expect(read(cut)).toMatchObject({ flag_tc: true, additionals: [{ type: 'OPT' }] });
    expect(read(ask(query('www.example', 'A'), true)[0]!).answers).toHaveLength(35);
  });

  it('answers SERVFAIL when nobody does, NXDOMAIN as it came, and the hook with its TTL', () => {
    const hook: DnsHook = (host, answer) =>
      answer(host === 'corp.example' ? { addresses: [ip('10.7.7.7'), ip('fd00::7')], ttl: Seconds(9) } : undefined);
    const { world, ask, service } = start(
      'forward',
      (asked) => (asked.name === 'nx.example' ? reply(asked, { rcode: 3 }) : 'silence'),
      hook,
    );
    expect(read(ask(query('nx.example', 'A'))[0]!).rcode).toBe('NXDOMAIN');
    expect(read(ask(query('corp.example', 'AAAA'))[0]!).answers).toMatchObject([
      { type: 'AAAA', data: 'fd00::7', ttl: 9 },
    ]);
    expect(read(ask(query('corp.example', 'UNKNOWN_65'))[0]!)).toMatchObject({ rcode: 'NOERROR', answers: [] });
    const answers: Uint8Array[] = [];
    service.onQuery(query('dead.example', 'A'), false, (answer) => answers.push(answer));
    world.run(Seconds(7));
    expect(read(answers[0]!)).toMatchObject({ rcode: 'SERVFAIL', id: 4711, questions: [{ name: 'dead.example' }] });
  });

  it('refuses transfers and other classes, says what is wrong with broken queries, and is silent about answers', () => {
    const { world, ask } = start('forward', (asked) => reply(asked, {}));
    expect(read(ask(query('example', 'AXFR'))[0]!).rcode).toBe('REFUSED');
    const chaos = query('version.bind', 'TXT');
    chaos[chaos.length - 1] = 3;
    expect(read(ask(chaos)[0]!).rcode).toBe('REFUSED');
    const cut = query('www.example', 'A').slice(0, 20);
    expect(read(ask(cut)[0]!)).toMatchObject({ rcode: 'FORMERR', id: 4711, questions: [] });
    const update = query('www.example', 'A');
    update[2]! |= 5 << 3;
    expect(read(ask(update)[0]!)).toMatchObject({ rcode: 'NOTIMP', opcode: 'UPDATE' });
    const answer = query('www.example', 'A');
    answer[2]! |= 0x80;
    expect(ask(answer)).toEqual([]);
    expect(ask(Uint8Array.of(1, 2, 3))).toEqual([]);
    expect(world.asked).toHaveLength(0);
    expect(world.counters.get('dns_bad_queries')).toBe(4);
  });

  it('in mode fake-ip answers with addresses that stand for names, and nothing that leads around them', () => {
    const { world, ask, pool, tracker } = start('fake-ip', (asked) =>
      reply(asked, { answers: [{ type: 'TXT', name: asked.name, data: 'txt' }] }),
    );
    const v4 = read(ask(query('Www.Example', 'A'))[0]!).answers![0]!;
    expect(v4).toMatchObject({ type: 'A', ttl: 5, data: '10.126.0.16' });
    expect(read(ask(query('www.example', 'AAAA'))[0]!).answers).toMatchObject([{ data: 'fd53:616c:6c79:126::10' }]);
    for (const type of ['UNKNOWN_65', 'UNKNOWN_64'])
      expect(read(ask(query('www.example', type))[0]!)).toMatchObject({ rcode: 'NOERROR', answers: [] });
    expect(read(ask(query('16.0.126.10.in-addr.arpa', 'PTR'))[0]!).answers).toMatchObject([
      { type: 'PTR', data: 'www.example' },
    ]);
    const v6 = '0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.2.1.0.9.7.c.6.c.6.1.6.3.5.d.f.ip6.arpa';
    expect(read(ask(query(v6, 'PTR'))[0]!).answers).toMatchObject([{ data: 'www.example' }]);
    expect(read(ask(query('99.0.126.10.in-addr.arpa', 'PTR'))[0]!).rcode).toBe('NXDOMAIN');
    expect(pool.hostOf(ip('10.126.0.16'))).toBe('www.example');
    expect(tracker.follow(world.now(), ip('10.126.0.16')).name).toBeDefined();
    // Where it really is was asked for at once, for whoever dials it.
    expect(world.asked.map(({ asked }) => asked.question.type)).toEqual(['A', 'AAAA']);
    world.asked.length = 0;
    ask(query('www.example', 'TXT'));
    ask(query('printer.local', 'A'));
    ask(query('1.2.0.192.in-addr.arpa', 'PTR'));
    expect(world.asked.map(({ asked }) => asked.name)).toEqual([
      'www.example',
      'printer.local',
      '1.2.0.192.in-addr.arpa',
    ]);
  });
});

describe('FakeIpPool', () => {
  const small = (names: number) => new FakeIpPool(Prefix.parse('10.9.0.0/24')!, FAKE_RANGE_V6, names);

  it('keeps an address as long as it can, then recycles the one asked for or dialled longest ago', () => {
    const pool = small(3);
    const first = pool.addressOf('a.example', 4);
    const second = pool.addressOf('b.example', 6);
    pool.addressOf('c.example', 4);
    expect(pool.addressOf('a.example', 4).equals(first)).toBe(true);
    expect(pool.hostOf(second)).toBe('b.example');
    const fourth = pool.addressOf('d.example', 4);
    expect([pool.hostOf(fourth), pool.recycled, pool.size]).toEqual(['d.example', 1, 3]);
    expect([pool.hostOf(first), pool.hostOf(second)]).toEqual(['a.example', 'b.example']);
    pool.addressOf('e.example', 4);
    expect(pool.addressOf('e.example', 4).toString()).toBe('10.9.0.18');
  });

  it('gives every address of a small range once, but for the first sixteen and the last', () => {
    const pool = small(10_000);
    const given = new Set<string>();
    for (let i = 0; i < 239; i++) given.add(`${pool.addressOf(`n${i}.example`, 4)}`);
    expect([given.size, given.has('10.9.0.16'), given.has('10.9.0.254'), given.has('10.9.0.255')]).toEqual([
      239,
      true,
      true,
      false,
    ]);
    expect(pool.recycled).toBe(0);
    pool.addressOf('one-more.example', 4);
    expect(pool.recycled).toBe(1);
    expect(pool.isFake(ip('10.9.1.1'))).toBe(false);
  });

  it('refuses ranges where real or documentation addresses could be, small ones and local routes', () => {
    const check = (text: string, routes: string[] = []) =>
      checkFakeRange(
        Prefix.parse(text)!,
        routes.map((r) => Prefix.parse(r)!),
      );
    for (const text of [
      '192.0.2.0/24',
      '198.51.100.0/24',
      '203.0.113.0/24',
      '198.18.0.0/15',
      '8.0.0.0/8',
      '10.0.0.0/7',
      '2001:db8::/64',
      '::/0',
    ]) {
      expect(() => check(text)).toThrow(expect.objectContaining({ code: 'FAKE_IP_RANGE' }));
    }
    expect(() => check('10.9.0.0/27')).toThrow(expect.objectContaining({ code: 'FAKE_IP_RANGE' }));
    for (const route of ['10.126.3.0/24', '10.0.0.0/8']) {
      expect(() => check('10.126.0.0/16', [route])).toThrow(expect.objectContaining({ code: 'FAKE_IP_OVERLAP' }));
    }
    check('10.126.0.0/16', ['0.0.0.0/0', '192.168.1.0/24', 'fd53::/16']);
    for (const range of [FAKE_RANGE_V4, FAKE_RANGE_V6]) check(`${range}`);
    check('100.127.0.0/26');
  });
});
