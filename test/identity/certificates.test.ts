/** Certificates: what the CA issues is what the strict parser, node:crypto and RFC 5280 say it is. */
import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { wallAt } from '../../src/base/time.js';
import { CertificateAuthority, createCa, verifyCsr } from '../../src/identity/authority.js';
import { createCsr } from '../../src/identity/csr.js';
import { generateTlsKey, spkiOf } from '../../src/identity/keys.js';
import { parsePeerIdentity } from '../../src/identity/peer-identity.js';
import { ALGORITHM, importKeyPair, pemToDer, x509 } from '../../src/identity/x509.js';

const WALL = wallAt(Date.UTC(2026, 0, 1));
const DAY = 86_400_000;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

const SUBJECT_KEY = generateTlsKey();
const keys = await importKeyPair(SUBJECT_KEY, spkiOf(SUBJECT_KEY));
const files = await createCa('acme', WALL);
const authority = new CertificateAuthority('acme', files);

describe('CertificateAuthority', () => {
  it('makes a CA certificate that may sign and nothing else', () => {
    const ca = new X509Certificate(files.certificatePem);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    expect(Date.parse(ca.validFrom)).toBe(WALL - 5 * 60_000);
    expect(Date.parse(ca.validTo)).toBe(WALL + 3650 * DAY);
    expect(new x509.X509Certificate(files.certificatePem).getExtension(x509.KeyUsagesExtension)?.usages).toBe(
      x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
    );
  });

  it.each([
    ['agent', [CLIENT_AUTH], 7, ['100.64.0.1', 'fd00::1']],
    ['connector', [SERVER_AUTH, CLIENT_AUTH], 7, []],
    ['relay', [SERVER_AUTH, CLIENT_AUTH], 90, []],
  ] as const)('issues %s certificates', async (role, usages, days, addresses) => {
    const spki = spkiOf(generateTlsKey());
    const pem = await authority.issue({ role, name: 'x1', spki, addresses }, WALL);
    const certificate = new X509Certificate(pem);
    expect(certificate.verify(new X509Certificate(files.certificatePem).publicKey)).toBe(true);
    expect(certificate.ca).toBe(false);
    expect(certificate.keyUsage).toEqual(usages);
    const parsed = parsePeerIdentity(pemToDer(pem));
    expect(parsed).toEqual({
      network: 'acme',
      role,
      name: 'x1',
      spki,
      notBefore: WALL - 5 * 60_000,
      notAfter: WALL + days * DAY,
      addresses: [...addresses],
    });
    expect(certificate.checkHost(`x1.${role}.acme`)).toBe(`x1.${role}.acme`);
  });

  it('takes requests that prove their key, and no others', async () => {
    const key = generateTlsKey();
    const csr = await createCsr(key, 'whoever');
    expect(await verifyCsr(csr)).toEqual(spkiOf(key));
    const der = pemToDer(csr);
    der[der.length - 4]! ^= 1;
    const broken = x509.PemConverter.encode(der.slice().buffer, 'CERTIFICATE REQUEST');
    await expect(verifyCsr(broken)).rejects.toMatchObject({ code: 'CSR_MALFORMED' });
    await expect(verifyCsr('nonsense')).rejects.toMatchObject({ code: 'CSR_MALFORMED' });
  });
});

describe('parsePeerIdentity', () => {
  function withNames(names: x509.JsonGeneralNames | undefined, cn = 'alice.agent.acme'): Promise<Uint8Array> {
    return withExtensions(names === undefined ? [] : [names], cn);
  }
  async function withExtensions(each: readonly x509.JsonGeneralNames[], cn: string): Promise<Uint8Array> {
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: [{ CN: [cn] }],
      keys,
      signingAlgorithm: ALGORITHM,
      extensions: each.map((names) => new x509.SubjectAlternativeNameExtension(names)),
    });
    return new Uint8Array(certificate.rawData);
  }
  const uri = { type: 'url', value: 'spiffe://acme/agent/alice' } as const;
  const dns = { type: 'dns', value: 'alice.agent.acme' } as const;

  it('reads exactly one SPIFFE ID with its DNS name', async () => {
    expect(parsePeerIdentity(await withNames([uri, dns], 'anything'))).toMatchObject({ role: 'agent', name: 'alice' });
  });

  it.each([
    ['no SAN', undefined],
    ['no URI', [dns]],
    ['no DNS name', [uri]],
    ['two URIs', [uri, { type: 'url', value: 'spiffe://acme/agent/bob' }, dns]],
    ['a foreign URI beside it', [uri, { type: 'url', value: 'https://example.com/' }, dns]],
    ['another DNS name', [uri, { type: 'dns', value: 'bob.agent.acme' }]],
    ['two DNS names', [uri, dns, { type: 'dns', value: 'bob.agent.acme' }]],
    ['a mail address', [uri, dns, { type: 'email', value: 'a@b.c' }]],
    ['a URI that spells a DNS name', [{ type: 'url', value: `${uri.value}, DNS:${dns.value}` }]],
    ['a quoted name', [uri, { type: 'dns', value: `"${dns.value}"` }]],
    ['names in one URI', [{ type: 'url', value: `${uri.value}, DNS:${dns.value}` }, dns]],
    ['a zero byte behind the name', [uri, { type: 'dns', value: `${dns.value}\0` }]],
    [
      'an unknown role',
      [
        { type: 'url', value: 'spiffe://acme/admin/alice' },
        { type: 'dns', value: 'alice.admin.acme' },
      ],
    ],
    [
      'an upper-case name',
      [
        { type: 'url', value: 'spiffe://acme/agent/Alice' },
        { type: 'dns', value: 'Alice.agent.acme' },
      ],
    ],
    ['a longer path', [{ type: 'url', value: 'spiffe://acme/agent/alice/x' }, dns]],
    [
      'addresses of a connector',
      [
        { type: 'url', value: 'spiffe://acme/connector/c' },
        { type: 'dns', value: 'c.connector.acme' },
        { type: 'ip', value: '100.64.0.1' },
      ],
    ],
  ] as [string, x509.JsonGeneralNames | undefined][])('refuses %s', async (_what, names) => {
    const der = await withNames(names);
    expect(() => parsePeerIdentity(der)).toThrow(expect.objectContaining({ code: 'PEER_IDENTITY' }));
  });

  it('refuses a second subjectAltName, wherever the good one is', async () => {
    const other = { type: 'dns', value: 'bob.agent.acme' } as const;
    for (const each of [
      [[uri, dns], [other]],
      [[other], [uri, dns]],
      [
        [uri, dns],
        [uri, dns],
      ],
    ]) {
      const der = await withExtensions(each, 'alice');
      expect(() => parsePeerIdentity(der)).toThrow(expect.objectContaining({ code: 'PEER_IDENTITY' }));
    }
  });

  it('throws nothing else for random or mutated bytes', async () => {
    const good = await withNames([uri, dns]);
    const attempt = (der: Uint8Array): void => {
      try {
        parsePeerIdentity(der);
      } catch (error) {
        expect(error).toMatchObject({ code: 'PEER_IDENTITY' });
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), attempt), { numRuns: 200 });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, bits) => {
        const der = good.slice();
        der[at]! ^= bits;
        attempt(der);
      }),
      { numRuns: 300, examples: [[146, 1]] },
    );
  });
});
