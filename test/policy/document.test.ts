/** Signed documents: what is sealed comes back, what is changed does not, and the keeper never goes back. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../src/base/error.js';
import { wallAt } from '../../src/base/time.js';
import { encodeUtf8 } from '../../src/base/utf8.js';
import { generateSigningKey } from '../../src/identity/keys.js';
import { decodeBase64, decodeBase64Url, encodeBase64, encodeBase64Url } from '../../src/policy/base64.js';
import { openPolicy, parseDocument, sealPolicy } from '../../src/policy/document.js';
import { seal } from '../../src/policy/envelope.js';
import { PolicyKeeper } from '../../src/policy/keeper.js';
import { cidr, crypto, DAY, document, documents, policyKey, service, sign } from './fixtures.js';

const code = (expected: string | RegExp) => expect.objectContaining({ code: expect.stringMatching(expected) });

describe('base64', () => {
  it('is what the platform makes, and has one text for one value', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(encodeBase64(bytes)).toBe(Buffer.from(bytes).toString('base64'));
        expect(encodeBase64Url(bytes)).toBe(Buffer.from(bytes).toString('base64url'));
        expect(decodeBase64(encodeBase64(bytes))).toEqual(bytes);
        expect(decodeBase64Url(encodeBase64Url(bytes))).toEqual(bytes);
      }),
    );
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        const bytes = decodeBase64(text);
        if (bytes !== undefined) expect(encodeBase64(bytes)).toBe(text);
      }),
    );
    for (const text of ['QQ', 'QQ=', 'QR==', 'Q===', 'QQ==\n', 'Q-==', '===='])
      expect(decodeBase64(text)).toBeUndefined();
  });
});

describe('openPolicy', () => {
  it('gives back what was sealed', () => {
    fc.assert(
      fc.property(documents, (value) => {
        const { envelope } = sealPolicy(sign, value);
        expect(openPolicy(crypto, policyKey.publicKey, 'acme', JSON.parse(JSON.stringify(envelope))).document).toEqual(
          value,
        );
      }),
    );
  });

  it('refuses any changed character', () => {
    const text = JSON.stringify(sealPolicy(sign, document()).envelope);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 1, max: 127 }), (at, bits) => {
        const changed = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ bits) + text.slice(at + 1);
        let value: unknown;
        try {
          value = JSON.parse(changed);
        } catch {
          return;
        }
        expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', value)).toThrow(
          code(/^POLICY_(MALFORMED|TAMPERED)$/),
        );
      }),
      { numRuns: 2_000 },
    );
  });

  it('throws its own errors only, whatever it is given', () => {
    fc.assert(
      fc.property(fc.anything(), fc.uint8Array(), (value, bytes) => {
        for (const one of [value, { kind: 'policy', payload: encodeBase64(bytes), signature: encodeBase64(bytes) }]) {
          expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', one)).toThrow(SallyportError);
        }
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(encodeUtf8)), (bytes) => {
        const envelope = seal(sign, 'policy', 'acme', bytes);
        expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', envelope)).toThrow(code('POLICY_MALFORMED'));
      }),
    );
  });

  it('refuses another key, network or kind', () => {
    const { envelope } = sealPolicy(sign, document());
    const other = generateSigningKey().publicKey;
    expect(() => openPolicy(crypto, other, 'acme', envelope)).toThrow(code('POLICY_TAMPERED'));
    expect(() => openPolicy(crypto, policyKey.publicKey, 'acme2', envelope)).toThrow(code('POLICY_TAMPERED'));
    const relabelled = seal(sign, 'invitation', 'acme', decodeBase64(envelope.payload)!);
    expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', relabelled)).toThrow(code('POLICY_MALFORMED'));
    const asPolicy = { ...relabelled, kind: 'policy' };
    expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', asPolicy)).toThrow(code('POLICY_TAMPERED'));
    const foreign = seal(sign, 'policy', 'acme', encodeUtf8(JSON.stringify(document({ network: 'other' }))));
    expect(() => openPolicy(crypto, policyKey.publicKey, 'acme', foreign)).toThrow(code('NETWORK_MISMATCH'));
  });
});

describe('parseDocument', () => {
  it.each([
    ['an unknown field', { ...document(), extra: 1 }],
    ['an unknown field of a grant', document({ grants: [{ from: ['*'], to: ['web'], posture: 'x' } as never] })],
    ['version 0', document({ version: 0 })],
    ['a broken version', document({ version: 1.5 })],
    ['an upper-case id', document({ services: [service('Web', 1)] })],
    ['two services of one id', document({ services: [service('web', 1), service('web', 2)] })],
    ['two services of one address', document({ services: [service('web', 1), service('db', 1)] })],
    ['an address outside the range', document({ services: [service('web', 1, { virtualIp4: '10.101.0.1' })] })],
    ['an address outside the ULA', document({ services: [service('web', 1, { virtualIp6: 'fd00:1:3::1' })] })],
    ['another spelling of an address', document({ services: [service('web', 1, { virtualIp6: 'fd00:1:2:0001::1' })] })],
    ['host bits in a prefix', document({ services: [cidr('net', '10.0.0.1/24')] })],
    ['the whole Internet', document({ services: [cidr('net', '0.0.0.0/0')] })],
    ['a prefix without cidr', document({ services: [service('web', 1, { prefix: '10.0.0.0/24' })] })],
    ['ports backwards', document({ services: [service('web', 1, { ports: [[2, 1]] })] })],
    ['port 0', document({ services: [service('web', 1, { ports: [[0, 1]] })] })],
    ['a path that there is not', document({ services: [service('web', 1, { path: 'auto' as never })] })],
    [
      'two paths for one prefix',
      document({ services: [cidr('net', '10.0.0.0/8', { path: 'relay' }), cidr('web', '10.0.0.0/8')] }),
    ],
    ['no protocol', document({ services: [service('web', 1, { protocols: [] })] })],
    ['a subject of no kind', document({ grants: [{ from: ['staff'], to: ['web'] }] })],
    ['a public prefix as ula', document({ ula: '2001:db8::/48' })],
  ])('refuses %s', (_what, value) => {
    expect(() => parseDocument(value)).toThrow(code('POLICY_MALFORMED'));
  });
});

describe('PolicyKeeper', () => {
  const NOT_AFTER = document().notAfter;
  const keeper = (): PolicyKeeper => new PolicyKeeper(crypto, policyKey.publicKey, 'acme');
  const version = (n: number, more = {}) => sealPolicy(sign, document({ version: n, ...more })).envelope;

  it('takes higher versions only', () => {
    const kept = keeper();
    expect(kept.state(wallAt(0))).toBe('none');
    expect(kept.admits(wallAt(0))).toBe(false);
    expect(kept.offer(version(3))).toBe(true);
    expect(kept.offer(version(3))).toBe(false);
    expect(() => kept.offer(version(2))).toThrow(code('POLICY_ROLLBACK'));
    expect(() => kept.offer(version(3, { revocations: ['ab'.repeat(16)] }))).toThrow(code('POLICY_CONFLICT'));
    expect(kept.view?.version).toBe(3);
    expect(kept.view?.document.revocations).toEqual([]);
    expect(kept.offer(version(4))).toBe(true);
    expect(kept.signed?.document.version).toBe(4);
  });

  it.each([
    ['valid', NOT_AFTER - 14 * DAY - 1, true],
    ['expiring', NOT_AFTER - 14 * DAY, true],
    ['expiring', NOT_AFTER - 1, true],
    ['grace', NOT_AFTER, true],
    ['grace', NOT_AFTER + DAY - 1, true],
    ['expired', NOT_AFTER + DAY, false],
  ] as const)('is %s', (state, at, admits) => {
    const kept = keeper();
    kept.offer(version(1));
    expect(kept.state(wallAt(at))).toBe(state);
    expect(kept.admits(wallAt(at))).toBe(admits);
  });
});
