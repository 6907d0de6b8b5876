import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, Prefix, SocketAddress } from '../../../src/base/address.js';
import {
  believeCandidates,
  CANDIDATE_KINDS,
  type CandidateRules,
  candidatePriority,
  gatherCandidates,
  judgeCandidate,
  MAX_CANDIDATES,
  type Refusal,
  tellCandidates,
} from '../../../src/tunnel/punch/candidates.js';

const at = (text: string): SocketAddress => SocketAddress.parse(text)!;
const LAN = Prefix.parse('192.168.7.0/24')!;
const TUNNEL = Prefix.parse('10.100.0.0/16')!;
const rules: CandidateRules = {
  route: (ip) =>
    LAN.contains(ip)
      ? 'specific'
      : TUNNEL.contains(ip)
        ? 'tunnel'
        : ip.toString().startsWith('2001:db8:dead')
          ? 'none'
          : 'default',
  allowed: [Prefix.parse('172.20.0.0/16')!],
  isRelay: (address) => address.equals(at('198.51.100.2:4433')),
  isOwn: (address) => address.equals(at('192.168.7.2:5000')),
};

describe('own candidates', () => {
  it('have the priorities of RFC 8445 §5.1.2.1: kind before family before order', () => {
    expect(candidatePriority('host', at('192.0.2.1:1'), 0)).toBe(126 * 2 ** 24 + 32_767 * 2 ** 8 + 255);
    expect(candidatePriority('srflx', at('[2001:db8::1]:1'), 1)).toBe(100 * 2 ** 24 + 65_534 * 2 ** 8 + 255);
    const order = ['host', 'fixed', 'mapped', 'prflx', 'srflx'] as const;
    const priorities = order.flatMap((kind) =>
      ['[2001:db8::1]:1', '192.0.2.1:1'].map((text) => candidatePriority(kind, at(text), 0)),
    );
    expect(priorities).toEqual([...priorities].sort((a, b) => b - a));
    expect(Math.max(...priorities)).toBeLessThan(2 ** 31);
  });

  it('are told once each, by their best kind, and 32 at most', () => {
    const found = gatherCandidates([
      { kind: 'srflx', address: at('192.0.2.1:1') },
      { kind: 'host', address: at('192.0.2.1:1') },
      ...Array.from({ length: 50 }, (_, i) => ({ kind: 'host' as const, address: at(`198.51.100.${i}:1`) })),
    ]);
    expect(found.length).toBe(MAX_CANDIDATES);
    expect(found.filter(({ address }) => address.equals(at('192.0.2.1:1')))).toMatchObject([{ kind: 'host' }]);
  });

  it('leave out some of a host’s many addresses, and never what is seen from outside', () => {
    const found = gatherCandidates([
      ...Array.from({ length: 50 }, (_, i) => ({ kind: 'host' as const, address: at(`198.51.100.${i}:1`) })),
      { kind: 'mapped', address: at('192.0.2.1:2') },
      { kind: 'srflx', address: at('192.0.2.1:1') },
    ]);
    expect(found.map(({ kind }) => kind)).toEqual([...Array(MAX_CANDIDATES - 2).fill('host'), 'mapped', 'srflx']);
    const all = gatherCandidates(
      Array.from({ length: 50 }, (_, i) => ({ kind: 'fixed' as const, address: at(`198.51.100.${i}:1`) })),
    );
    expect(all.length).toBe(MAX_CANDIDATES);
  });
});

describe('a peer’s candidate', () => {
  it.each<[string, Refusal | undefined]>([
    ['203.0.113.9:40000', undefined],
    ['[2001:db8::9]:40000', undefined],
    ['192.168.7.9:40000', undefined],
    ['172.20.1.1:40000', undefined],
    ['203.0.113.9:0', 'port'],
    ['127.0.0.1:22', 'not_unicast'],
    ['0.0.0.0:22', 'not_unicast'],
    ['224.0.0.251:5353', 'not_unicast'],
    ['255.255.255.255:67', 'not_unicast'],
    ['[::1]:22', 'not_unicast'],
    ['[::]:22', 'not_unicast'],
    ['[ff02::fb]:5353', 'not_unicast'],
    ['[fe80::1]:22', 'not_unicast'],
    ['10.1.1.1:22', 'private'],
    ['192.168.8.1:22', 'private'],
    ['100.64.0.9:22', 'private'],
    ['169.254.169.254:80', 'private'],
    ['[fd00::9]:22', 'private'],
    ['10.100.0.1:80', 'tunnel'],
    ['[2001:db8:dead::1]:80', 'no_route'],
    ['198.51.100.2:4433', 'relay'],
    ['192.168.7.2:5000', 'own'],
  ])('%s: %s', (text, why) => {
    expect(judgeCandidate(at(text), rules)).toBe(why);
  });

  it('that is IPv4 in an IPv6 address is judged as what it is', () => {
    const ip = IpAddress.parse('::ffff:127.0.0.1')!;
    expect(judgeCandidate(new SocketAddress(ip, 22), rules)).toBe('not_unicast');
  });

  it('list: what may be tried stays, best first, and every refusal is heard of', () => {
    const refused: Refusal[] = [];
    const told = tellCandidates(
      ['127.0.0.1:1', '203.0.113.9:1', '10.1.1.1:1', '203.0.113.8:1', '203.0.113.9:1'].map((text, i) => ({
        kind: 'host' as const,
        address: at(text),
        priority: i,
      })),
    );
    const all = [...told, { kind: 'host' as const, address: 'nonsense', port: 1, priority: 0 }];
    const believed = believeCandidates(all, rules, (why) => refused.push(why));
    expect(believed.map(({ address }) => address.toString())).toEqual(['203.0.113.8:1', '203.0.113.9:1']);
    expect(refused).toEqual(['not_unicast', 'private', 'form']);
  });

  it('of any form makes no exception', () => {
    const one = fc.record({
      kind: fc.constantFrom(...CANDIDATE_KINDS),
      address: fc.oneof(fc.string({ maxLength: 45 }), fc.ipV4(), fc.ipV6()),
      port: fc.integer({ min: 0, max: 65_535 }),
      priority: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 32 }), (list) => {
        let refused = 0;
        const believed = believeCandidates(list, rules, () => refused++);
        expect(believed.length + refused).toBeLessThanOrEqual(list.length);
        for (const { address } of believed) expect(judgeCandidate(address, rules)).toBeUndefined();
      }),
    );
  });
});
