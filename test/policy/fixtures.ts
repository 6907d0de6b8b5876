/** A small network and a generator of legal policy documents. */
import fc from 'fast-check';
import { IpAddress } from '../../src/base/address.js';
import { ed25519Signer, generateSigningKey } from '../../src/identity/keys.js';
import { createCrypto } from '../../src/os/crypto.js';
import type { PolicyDocument, ServiceEntry } from '../../src/policy/document.js';

export const crypto = createCrypto();
export const policyKey = generateSigningKey();
export const sign = ed25519Signer(policyKey);
export const DAY = 86_400_000;

export function service(id: string, n: number, more: Partial<ServiceEntry> = {}): ServiceEntry {
  return {
    id,
    protocols: ['tcp'],
    ports: [[80, 80]],
    target: 'single',
    virtualIp4: `10.100.0.${n}`,
    virtualIp6: `fd00:1:2:1::${n.toString(16)}`,
    connectors: ['c1'],
    ...more,
  };
}

export function cidr(id: string, prefix: string, more: Partial<ServiceEntry> = {}): ServiceEntry {
  return { id, protocols: ['tcp', 'udp', 'icmp'], ports: 'any', target: 'cidr', prefix, connectors: ['c1'], ...more };
}

export function document(more: Partial<PolicyDocument> = {}): PolicyDocument {
  return {
    network: 'acme',
    version: 1,
    notAfter: 1_000_000_000_000 + 90 * DAY,
    ula: 'fd00:1:2::/48',
    groups: {},
    services: [service('web', 1), service('db', 2, { ports: [[5432, 5433]] })],
    grants: [{ from: ['group:staff'], to: ['web', 'db'] }],
    revocations: [],
    tests: [],
    ...more,
  };
}

export const agent = (groups: string[], name = 'alice') =>
  ({ role: 'agent', name, groups, invitationId: '00'.repeat(16) }) as const;

export function words(text: string): [number, number, number, number] {
  const ip = IpAddress.parse(text)!;
  return [ip.w0, ip.w1, ip.w2, ip.w3];
}

const label = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?$/);
const range = fc
  .tuple(fc.integer({ min: 1, max: 65535 }), fc.integer({ min: 1, max: 65535 }))
  .map(([a, b]): [number, number] => [Math.min(a, b), Math.max(a, b)]);
const ports = fc.oneof(fc.constant('any' as const), fc.array(range, { minLength: 1, maxLength: 4 }));
const GROUPS = ['staff', 'ops', 'guest'];

/** Documents whose cidr services nest and repeat. */
export const documents: fc.Arbitrary<PolicyDocument> = fc
  .record({
    version: fc.integer({ min: 1 }),
    ids: fc.uniqueArray(label, { maxLength: 6 }),
    shapes: fc.array(
      fc.record({
        protocols: fc.uniqueArray(fc.constantFrom('tcp', 'udp', 'icmp'), { minLength: 1 }),
        ports,
        prefix: fc.option(fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '10.1.2.3/32', 'fc00:5::/32')),
        connectors: fc.uniqueArray(fc.constantFrom('c1', 'c2')),
      }),
      { minLength: 6, maxLength: 6 },
    ),
    grants: fc.array(
      fc.record({
        from: fc.uniqueArray(fc.constantFrom('*', 'agent:alice', ...GROUPS.map((group) => `group:${group}`)), {
          minLength: 1,
        }),
        to: fc.array(fc.oneof(fc.nat(5), fc.constant('*' as const)), { minLength: 1, maxLength: 4 }),
        ports: fc.option(ports),
      }),
      { maxLength: 4 },
    ),
    revoked: fc.boolean(),
  })
  .map(({ version, ids, shapes, grants, revoked }) =>
    document({
      version,
      services: ids.map((id, i) => {
        const { protocols, ports, prefix, connectors } = shapes[i]!;
        const more = { protocols: protocols as ServiceEntry['protocols'], ports, connectors };
        return prefix === null ? service(id, i + 1, { ...more, target: 'host' }) : cidr(id, prefix, more);
      }),
      grants: grants.map((grant) => ({
        from: grant.from,
        to: grant.to.map((to) => (to === '*' ? to : (ids[to] ?? 'nothing'))),
        ...(grant.ports === null ? {} : { ports: grant.ports }),
      })),
      revocations: revoked ? ['00'.repeat(16)] : [],
    }),
  );
