/** Evaluation: the compiled table answers as a slow reading of the document does, and denies by default. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, Prefix } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { wallAt } from '../../src/base/time.js';
import type { PolicyDocument } from '../../src/policy/document.js';
import { explain, runTests } from '../../src/policy/explain.js';
import { lint } from '../../src/policy/lint.js';
import { intersect, unite } from '../../src/policy/ranges.js';
import { compile, type Subject } from '../../src/policy/view.js';
import { agent, cidr, document, documents, service, words } from './fixtures.js';

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;

describe('AccessTable', () => {
  const view = compile(document());
  const table = view.accessFor(agent(['staff']));

  it('allows what is granted and names the reason of what is not', () => {
    expect(table.check(TCP, ...words('10.100.0.1'), 80)).toBe(0);
    expect(table.check(TCP, ...words('fd00:1:2:1::1'), 80)).toBe(0);
    expect(table.check(TCP, ...words('10.100.0.2'), 5433)).toBe(1);
    expect(table.check(TCP, ...words('10.100.0.1'), 81)).toBe(-Drop.port_not_allowed);
    expect(table.check(UDP, ...words('10.100.0.1'), 80)).toBe(-Drop.protocol_not_allowed);
    expect(table.check(132, ...words('10.100.0.1'), 80)).toBe(-Drop.protocol_not_allowed);
    expect(table.check(TCP, ...words('10.100.0.3'), 80)).toBe(-Drop.destination_not_allowed);
    expect(table.check(TCP, ...words('::a64:1'), 80)).toBe(-Drop.destination_not_allowed);
  });

  it('denies strangers, connectors and the revoked', () => {
    const refused = (subject: Subject, more: Partial<PolicyDocument> = {}): void => {
      const one = compile(document(more));
      expect(one.accessFor(subject).check(TCP, ...words('10.100.0.1'), 80)).toBe(-Drop.destination_not_allowed);
      expect(one.servicesFor(subject)).toEqual([]);
    };
    refused(agent(['guest']));
    refused(agent([]));
    refused({ ...agent(['staff']), role: 'connector' });
    refused(agent(['staff']), { revocations: ['00'.repeat(16)] });
    // Names of Object.prototype are labels like any other.
    refused(agent(['constructor'], 'constructor'));
  });

  it('takes ICMP of the address’s family only, without ports', () => {
    const one = compile(
      document({ services: [service('web', 1, { protocols: ['icmp'] })], grants: [{ from: ['*'], to: ['*'] }] }),
    );
    const ping = one.accessFor(agent([]));
    expect(ping.check(ICMP, ...words('10.100.0.1'), 0)).toBe(0);
    expect(ping.check(ICMPV6, ...words('fd00:1:2:1::1'), 0)).toBe(0);
    expect(ping.check(ICMPV6, ...words('10.100.0.1'), 0)).toBe(-Drop.protocol_not_allowed);
    expect(ping.check(ICMP, ...words('fd00:1:2:1::1'), 0)).toBe(-Drop.protocol_not_allowed);
  });

  it('lets the longest prefix decide alone', () => {
    const services = [cidr('net', '10.0.0.0/8'), cidr('safe', '10.1.2.0/24'), cidr('web', '10.1.2.0/24')];
    const one = compile(
      document({
        services,
        grants: [
          { from: ['group:staff'], to: ['net'] },
          { from: ['*'], to: ['web'], ports: [[80, 80]] },
        ],
      }),
    );
    const staff = one.accessFor(agent(['staff']));
    expect(staff.check(TCP, ...words('10.9.9.9'), 22)).toBe(0);
    expect(staff.check(TCP, ...words('10.1.2.9'), 80)).toBe(2);
    expect(staff.check(TCP, ...words('10.1.2.9'), 22)).toBe(-Drop.port_not_allowed);
  });

  it('at a connector allows only what that connector may serve', () => {
    const services = [service('web', 1), service('db', 2, { connectors: ['c2'], ports: 'any' })];
    const one = compile(document({ services }));
    const at = one.accessFor(agent(['staff']), 'c2');
    expect(at.check(TCP, ...words('10.100.0.2'), 1)).toBe(1);
    expect(at.check(TCP, ...words('10.100.0.1'), 80)).toBe(-Drop.destination_not_allowed);
    expect(one.connectorMay('c2', 'db')).toBe(true);
    expect(one.connectorMay('c2', 'web')).toBe(false);
    expect(one.connectorMay('c2', 'x')).toBe(false);
    expect(one.servicesOf('c2').map((s) => s.id)).toEqual(['db']);
  });

  it('knows members that the document itself names', () => {
    const one = compile(document({ groups: { staff: ['bob'] } }));
    expect(one.mayUse(agent([], 'bob'), 'web')).toBe(true);
    expect(one.mayUse(agent([], 'eve'), 'web')).toBe(false);
  });

  it('agrees with a slow reading of any document', () => {
    const addresses = [
      '10.0.0.1',
      '10.1.0.1',
      '10.1.2.1',
      '10.1.2.3',
      '11.0.0.1',
      '10.100.0.1',
      'fc00:5::1',
      'fd00:1:2:1::1',
    ];
    const port = fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.constantFrom(1, 80, 65535));
    const subject = fc.subarray(['staff', 'ops', 'guest']).map((groups) => agent(groups));
    const connector = fc.constantFrom(undefined, 'c1', 'c2');
    fc.assert(
      fc.property(documents, subject, connector, port, (value, who, where, dstPort) => {
        const table = compile(value).accessFor(who, where);
        for (const address of addresses) {
          for (const protocol of [TCP, UDP, ICMP, ICMPV6]) {
            const got = table.check(protocol, ...words(address), dstPort);
            const want = slow(value, who, where, protocol, address, dstPort);
            expect(got >= 0 ? got : 'denied', `${address} ${protocol}`).toBe(want ?? 'denied');
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** The index of the service that carries the packet, straight from the document. */
function slow(
  { services, grants, revocations }: PolicyDocument,
  who: Subject,
  connector: string | undefined,
  protocol: number,
  address: string,
  port: number,
): number | undefined {
  const ip = IpAddress.parse(address)!;
  const hits = services.flatMap((entry, index) =>
    (entry.prefix === undefined ? [entry.virtualIp4!, entry.virtualIp6!] : [entry.prefix])
      .map((text) => Prefix.parse(text)!)
      .filter((prefix) => prefix.contains(ip))
      .map((prefix) => ({ entry, index, length: prefix.length })),
  );
  const longest = Math.max(...hits.map((hit) => hit.length));
  const inRanges = (ports: 'any' | [number, number][] | undefined): boolean =>
    ports === undefined || ports === 'any' || ports.some(([from, to]) => port >= from && port <= to);
  const overlap = (a: 'any' | [number, number][], b: 'any' | [number, number][] | undefined): boolean =>
    a === 'any' || b === 'any' || b === undefined || a.some(([f, t]) => b.some(([g, u]) => f <= u && g <= t));
  const name =
    protocol === TCP ? 'tcp' : protocol === UDP ? 'udp' : (protocol === ICMP) === ip.isV4 ? 'icmp' : undefined;
  return hits.find(({ entry, length }) => {
    if (length !== longest || name === undefined || !entry.protocols.includes(name)) return false;
    if (connector !== undefined && !entry.connectors.includes(connector)) return false;
    if (revocations.includes(who.invitationId)) return false;
    return grants.some(
      (grant) =>
        (grant.to.includes('*') || grant.to.includes(entry.id)) &&
        ['*', `agent:${who.name}`, ...who.groups.map((g) => `group:${g}`)].some((n) => grant.from.includes(n)) &&
        (name === 'icmp' ? overlap(entry.ports, grant.ports) : inRanges(entry.ports) && inRanges(grant.ports)),
    );
  })?.index;
}

describe('paths', () => {
  it('are those of the longest prefix, for both families', () => {
    const one = compile(
      document({
        services: [
          service('web', 1, { path: 'direct' }),
          service('db', 2),
          cidr('net', '10.0.0.0/8', { path: 'relay' }),
          cidr('safe', '10.1.2.0/24'),
          cidr('twin', '10.0.0.0/8', { path: 'relay' }),
        ],
        grants: [],
      }),
    );
    expect(one.hasPaths).toBe(true);
    expect(one.pathAt(...words('10.100.0.1'))).toBe('direct');
    expect(one.pathAt(...words('fd00:1:2:1::1'))).toBe('direct');
    expect(one.pathAt(...words('10.100.0.2'))).toBeUndefined();
    expect(one.pathAt(...words('10.9.9.9'))).toBe('relay');
    expect(one.pathAt(...words('10.1.2.3'))).toBeUndefined();
    expect(one.pathAt(...words('192.0.2.1'))).toBeUndefined();
    expect(compile(document()).hasPaths).toBe(false);
  });
});

describe('ranges', () => {
  it('unite and intersect are those of sets', () => {
    const small = fc.array(
      fc.tuple(fc.nat(30), fc.nat(5)).map(([a, n]) => [a, a + n]),
      { maxLength: 5 },
    );
    const members = (ranges: number[]): Set<number> => {
      const set = new Set<number>();
      for (let i = 0; i < ranges.length; i += 2) for (let n = ranges[i]!; n <= ranges[i + 1]!; n++) set.add(n);
      return set;
    };
    fc.assert(
      fc.property(small, small, (a, b) => {
        const [left, right] = [a.flat(), b.flat()];
        expect(members(unite(left))).toEqual(members(left));
        const both = [...members(left)].filter((n) => members(right).has(n));
        expect(members(intersect(unite(left), unite(right)))).toEqual(new Set(both));
      }),
    );
  });
});

describe('explain, tests and lint', () => {
  it('explain agrees with the table', () => {
    fc.assert(
      fc.property(documents, fc.subarray(['staff', 'ops']), (value, groups) => {
        const view = compile(value);
        for (const { id } of view.services) {
          expect(explain(view, agent(groups), { service: id }).allowed).toBe(view.mayUse(agent(groups), id));
        }
      }),
    );
    const view = compile(document());
    expect(explain(view, agent([]), { service: 'web' }).reasons[0]).toContain('no grant');
    expect(explain(view, agent(['staff']), { service: 'web', port: 81 })).toMatchObject({ allowed: false });
    expect(explain(view, agent(['staff']), { service: 'web', protocol: 'udp' })).toMatchObject({ allowed: false });
    expect(explain(view, agent(['staff']), { service: 'nope' })).toMatchObject({ allowed: false });
  });

  it('runs the document’s own tests', () => {
    const test = (from: string, expect: 'allow' | 'deny') => ({ from, service: 'web', expect });
    const tests = [
      test('group:staff', 'allow'),
      test('group:guest', 'deny'),
      test('*', 'deny'),
      test('agent:alice', 'allow'),
    ];
    expect(runTests(compile(document({ tests })))).toEqual([expect.stringContaining('test 4')]);
  });

  const WALL = wallAt(document().notAfter - 30 * 86_400_000);
  const codes = (more: Partial<PolicyDocument>, wall = WALL): string[] => [
    ...new Set(lint(document(more), { wall, knownGroups: new Set(['staff']) }).map((finding) => finding.code)),
  ];
  const all = [{ from: ['group:staff'], to: ['*'] }];

  it.each([
    ['nothing', [], {}, WALL],
    ['PL01', ['PL01'], { services: [cidr('a', '10.0.0.0/16'), cidr('b', '10.0.1.0/24')], grants: all }, WALL],
    ['PL02', ['PL02'], { services: [service('web', 1, { connectors: [] })], grants: all }, WALL],
    ['PL03', ['PL03'], { grants: [{ from: ['group:staff'], to: ['web', 'db', 'gone'] }] }, WALL],
    ['PL04', ['PL04'], { grants: [...all, { from: ['group:nobody'], to: ['web'] }] }, WALL],
    ['PL05', ['PL05'], {}, wallAt(document().notAfter - 86_400_000)],
    ['PL06', ['PL06'], { grants: [{ from: ['group:staff'], to: ['web'] }] }, WALL],
    ['PL07', ['PL07'], { grants: [{ from: ['*'], to: ['*'] }] }, WALL],
    ['PL08', ['PL08'], { services: [cidr('a', '10.0.0.0/16'), cidr('b', '10.0.0.0/16')], grants: all }, WALL],
    ['PL09', ['PL09'], { services: [cidr('a', '10.0.0.0/8')], grants: all }, WALL],
    ['PL10', ['PL10'], { tests: [{ from: '*', service: 'web', expect: 'allow' as const }] }, WALL],
    ['PL11', ['PL11'], { grants: [...all, { from: ['*'], to: ['web'], ports: [[1, 2]] as [number, number][] }] }, WALL],
  ])('lint finds %s', (_name, expected, more, wall) => {
    expect(codes(more, wall)).toEqual(expected);
  });
});
