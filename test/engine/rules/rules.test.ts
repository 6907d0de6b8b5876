import fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { isUnder } from '../../../src/engine/names/host-name.js';
import { lintRules } from '../../../src/engine/rules/lint.js';
import { compileRule, formatRule, parseRule, type Rule } from '../../../src/engine/rules/rule.js';
import { type JudgedFlow, RULES_MAX, RuleSet } from '../../../src/engine/rules/rule-set.js';
import { RuleSchema } from '../../../src/engine/rules/schema.js';

const ip = (text: string) => IpAddress.parse(text)!;
const rules = (...texts: string[]) => new RuleSet(texts.map(parseRule));
const flow = (host: string | undefined, more: Partial<JudgedFlow> = {}): JudgedFlow => ({
  protocol: 'tcp',
  address: ip('192.0.2.1'),
  port: 443,
  host,
  ...more,
});

describe('rules', () => {
  it('read and write one text form', () => {
    const texts = [
      'allow',
      'block suffix=ads.example port=80,443,8000-8080 protocol=tcp',
      'reject host=www.example cidr=10.0.0.0/8',
      'reject cidr=2001:db8::/32 protocol=icmp',
      'delay suffix=slow.example delay=100ms jitter=20ms',
      'delay delay=0.5ms',
      'shape suffix=video.example rate=2mbit per=host',
      'shape rate=500kbit/1.5mbit delay=20ms',
      'shape rate=any/12.345kbit jitter=5ms per=flow',
      'shape port=443 jitter=5ms',
      'shape protocol=udp loss=0.5%',
      'shape rate=2mbit delay=5ms loss=100% per=host',
      'shape loss=0.001%',
      'reject suffix=ads.example with=admin-prohibited',
      'reject protocol=tcp with=reset',
    ];
    for (const text of texts) expect(formatRule(parseRule(text))).toBe(text);
    expect(formatRule(parseRule('  delay   suffix=Example.COM.  delay=2s '))).toBe(
      'delay suffix=example.com delay=2000ms',
    );
    expect(compileRule({ action: 'reject', host: 'a.example' })).toEqual(parseRule('reject host=a.example'));
  });

  it.each([
    ['deny', 'begins with'],
    ['', 'begins with'],
    ['block hst=a.example', 'none of host='],
    ['block a.example', 'none of host='],
    ['block host=a.example host=b.example', 'twice'],
    ['block host=192.0.2.1', 'cidr=192.0.2.1'],
    ['block suffix=bücher.example', 'xn--'],
    ['block cidr=10.0.0.0/33', 'no prefix'],
    ['block port=0', 'no list'],
    ['block port=90-80', 'no list'],
    ['block port=65536', 'no list'],
    ['block port=80 protocol=icmp', 'no ports'],
    ['block protocol=sctp', 'protocol='],
    ['block delay=5ms', 'belong to shape'],
    ['allow rate=1mbit', 'belong to shape'],
    ['shape host=a.example', 'shape wants'],
    ['shape per=flow', 'shape wants'],
    ['shape rate=1kbit', 'no rate'],
    ['shape rate=1', 'no rate'],
    ['shape rate=1mbit/2mbit/3mbit', 'more than one rate'],
    ['shape rate=1mbit per=day', 'per= is'],
    ['shape rate=1mbit protocol=icmp', 'echo is not held back'],
    ['shape loss=0%', 'no share'],
    ['shape loss=100.001%', 'no share'],
    ['shape loss=1', 'no share'],
    ['shape loss=1% protocol=tcp', 'TCP loses nothing'],
    ['block loss=1%', 'belong to shape'],
    ['reject with=silence', 'with= is'],
    ['block with=host-unreachable', 'belongs to reject'],
    ['reject with=reset', 'is of TCP'],
    ['reject protocol=udp with=reset', 'is of TCP'],
    ['reject protocol=icmp with=port-unreachable', 'no ports'],
    ['delay host=a.example', 'wants delay='],
    ['delay delay=61s', 'at most 60s'],
    ['delay delay=-1ms', 'no time'],
  ])('refuse %j and say why', (text, why) => {
    expect(() => parseRule(text)).toThrow(
      expect.objectContaining({ code: 'RULE', kind: 'caller', message: expect.stringContaining(why) }),
    );
    expect(v.safeParse(RuleSchema, text).success).toBe(false);
  });

  it('are checked in configuration files, with what is wrong in the message', () => {
    const ok = (value: unknown) => v.safeParse(RuleSchema, value);
    expect(ok('reject suffix=ads.example').success).toBe(true);
    expect(ok('delay').issues?.[0].message).toContain('wants delay=');
    for (const value of [7, { action: 'allow' }, 'deny']) expect(ok(value).success).toBe(false);
  });

  it('never throw anything else, whatever the text', () => {
    const words = fc.constantFrom(
      'allow',
      'block',
      'delay',
      'host=a',
      'suffix=',
      'cidr=::/0',
      'port=1-',
      'rate=1k',
      'with=host-unreachable',
      'reject',
      'delay=1s',
      'x=y',
      '=',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(words).map((list) => list.join(' ')),
        ),
        (text) => {
          try {
            const rule = parseRule(text);
            expect(parseRule(formatRule(rule))).toEqual(rule);
          } catch (error) {
            expect(error).toMatchObject({ code: 'RULE' });
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('RuleSet', () => {
  it('lets the first rule that fits decide, whether it names a host or not', () => {
    const set = rules(
      'allow host=good.ads.example',
      'block suffix=ads.example',
      'reject port=25',
      'allow cidr=192.0.2.0/24',
      'block',
    );
    const found: number[] = [];
    const action = (...args: Parameters<typeof flow>) =>
      set.rules[found[found.push(set.find(flow(...args))) - 1]!]?.action;
    expect(action('good.ads.example')).toBe('allow');
    expect(action('x.good.ads.example')).toBe('block');
    expect(action('ads.example', { port: 25 })).toBe('block');
    expect(action('badads.example')).toBe('allow');
    expect(action(undefined, { port: 25 })).toBe('reject');
    expect(action(undefined, { address: ip('10.0.0.1') })).toBe('block');
    expect(found).toEqual([0, 1, 1, 3, 2, 4]);
    expect(rules('block host=a.example').find(flow(undefined))).toBe(-1);
    expect(rules('block suffix=example host=a.test').find(flow('a.test'))).toBe(-1);
    expect([set.namesMatter, rules('block').namesMatter]).toEqual([true, false]);
  });

  it('finds what looking at every rule in order finds', () => {
    const name = fc.constantFrom('a.example', 'b.a.example', 'example', 'c.test', 'test', 'ba.example');
    const rule = fc
      .record({
        action: fc.constantFrom('allow', 'block', 'reject'),
        host: fc.option(name, { freq: 2, nil: undefined }),
        suffix: fc.option(name, { freq: 2, nil: undefined }),
        cidr: fc.option(fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '::/0'), { freq: 2, nil: undefined }),
        port: fc.option(fc.constantFrom('80', '1-1024', '443,8080'), { freq: 2, nil: undefined }),
        protocol: fc.option(fc.constantFrom('tcp', 'udp'), { freq: 3, nil: undefined }),
      })
      .map((text) => compileRule(text as Parameters<typeof compileRule>[0]));
    const asked = fc.record({
      protocol: fc.constantFrom('tcp', 'udp'),
      address: fc.constantFrom('10.1.2.3', '10.2.2.3', '192.0.2.1', '2001:db8::1').map(ip),
      port: fc.constantFrom(80, 443, 8080, 5000),
      host: fc.option(name, { nil: undefined }),
    }) as fc.Arbitrary<JudgedFlow>;
    const fits = (r: Rule, f: JudgedFlow): boolean =>
      (r.protocol === undefined || r.protocol === f.protocol) &&
      (r.prefix === undefined || r.prefix.contains(f.address)) &&
      (r.host === undefined || r.host === f.host) &&
      (r.suffix === undefined || (f.host !== undefined && isUnder(f.host, r.suffix))) &&
      (r.ports === undefined || r.ports.some((from, i) => i % 2 === 0 && f.port >= from && f.port <= r.ports![i + 1]!));
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 12 }), asked, (list, f) => {
        const index = new RuleSet(list).find(f);
        expect(index).toBe(list.findIndex((r) => fits(r, f)));
        // A rule that is said never to decide never does.
        if (index >= 0)
          expect(lintRules(list).filter((p) => p.index === index && p.message.includes('never decides'))).toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });

  it('is bounded', () => {
    const one = parseRule('allow host=a.example');
    expect(() => new RuleSet(new Array<Rule>(RULES_MAX + 1).fill(one))).toThrow(
      expect.objectContaining({ code: 'RULES_MANY' }),
    );
    const bare = parseRule('allow');
    expect(new RuleSet(new Array<Rule>(4096).fill(bare)).rules).toHaveLength(4096);
    expect(() => new RuleSet(new Array<Rule>(4097).fill(bare))).toThrow(
      expect.objectContaining({ code: 'RULES_MANY' }),
    );
  });
});

describe('lintRules', () => {
  it('tells rules that never decide, and names that fit nothing or come too late', () => {
    const messages = lintRules(
      [
        'block suffix=example port=1-1024',
        'reject host=a.example port=80,443',
        'allow host=a.test suffix=example',
        'block suffix=b.test protocol=icmp',
        'allow port=80',
        'reject port=80-81',
      ].map(parseRule),
    );
    expect(messages.map(({ index, message }) => [index, message])).toEqual([
      [1, expect.stringContaining('never decides: rule 1')],
      [2, expect.stringContaining('fits nothing')],
      [3, expect.stringContaining('looked up before')],
    ]);
  });
});
