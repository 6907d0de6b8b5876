/** Enrolment proofs, invitations and join tokens: only the operator's key makes one that verifies. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { SallyportError } from '../../src/base/error.js';
import { wallAt } from '../../src/base/time.js';
import { ed25519Signer, generateSigningKey, generateTlsKey, spkiOf, tlsSigner } from '../../src/identity/keys.js';
import { allocate, randomUla } from '../../src/policy/allocate.js';
import { parseServiceSpec } from '../../src/policy/backend.js';
import { decodeBase64Url, encodeBase64, encodeBase64Url } from '../../src/policy/base64.js';
import { type Invitation, sealInvitation } from '../../src/policy/invitation.js';
import { MAX_ROTATIONS, makeProof, type Proof, rotateProof, verifyProof } from '../../src/policy/proof.js';
import { encodeToken, parseToken } from '../../src/policy/token.js';
import { crypto, policyKey, sign } from './fixtures.js';

const code = (expected: string | RegExp) => expect.objectContaining({ code: expect.stringMatching(expected) });
const inviteKey = generateSigningKey();
const tlsKey = generateTlsKey();
const spki = spkiOf(tlsKey);

function invitation(more: Partial<Invitation> = {}): Invitation {
  return {
    network: 'acme',
    id: 'ab'.repeat(16),
    name: 'alice',
    role: 'agent',
    groups: ['staff'],
    overlay4: '100.64.0.1',
    overlay6: 'fd00:1:2:2::1',
    expiry: 1_000,
    inviteKey: encodeBase64(inviteKey.publicKey),
    ...more,
  };
}
const envelope = sealInvitation(sign, invitation());
const proof = makeProof(ed25519Signer(inviteKey), 'acme', envelope, spki);
const verify = (value: unknown, key = spki, checks = {}) =>
  verifyProof(crypto, policyKey.publicKey, 'acme', value, key, checks);

describe('verifyProof', () => {
  it('gives the identity of the invitation', () => {
    const identity = verify(JSON.parse(JSON.stringify(proof)));
    expect(identity).toMatchObject({ network: 'acme', role: 'agent', name: 'alice', groups: ['staff'], rotations: 0 });
    expect(`${identity.overlay4} ${identity.overlay6} ${identity.invitationId}`).toBe(
      `100.64.0.1 fd00:1:2:2::1 ${'ab'.repeat(16)}`,
    );
  });

  it('minds expiry at enrolment only, revocation always', () => {
    expect(() => verify(proof, spki, { wallNow: wallAt(1_000) })).toThrow(code('INVITATION_EXPIRED'));
    expect(verify(proof, spki, { wallNow: wallAt(999) }).name).toBe('alice');
    expect(() => verify(proof, spki, { revocations: new Set(['ab'.repeat(16)]) })).toThrow(code('INVITATION_REVOKED'));
  });

  it('refuses what the policy key did not sign, whoever made it', () => {
    const other = generateSigningKey();
    const forged = sealInvitation(ed25519Signer(other), invitation({ inviteKey: encodeBase64(other.publicKey) }));
    expect(() => verify(makeProof(ed25519Signer(other), 'acme', forged, spki))).toThrow(code('INVITATION_TAMPERED'));
    expect(() => verify(makeProof(ed25519Signer(other), 'acme', envelope, spki))).toThrow(code('PROOF_TAMPERED'));
    expect(() => verify(proof, spkiOf(generateTlsKey()))).toThrow(code('PROOF_KEY_MISMATCH'));
    expect(() => verifyProof(crypto, policyKey.publicKey, 'other', proof, spki)).toThrow(code('INVITATION_TAMPERED'));
  });

  it('refuses any changed character', () => {
    const text = JSON.stringify(rotateProof(tlsSigner(tlsKey), 'acme', proof, spki));
    expect(verify(JSON.parse(text)).rotations).toBe(1);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 1, max: 127 }), (at, bits) => {
        const changed = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ bits) + text.slice(at + 1);
        let value: unknown;
        try {
          value = JSON.parse(changed);
        } catch {
          return;
        }
        expect(() => verify(value)).toThrow(SallyportError);
      }),
      { numRuns: 1_000 },
    );
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(() => verify(value)).toThrow(SallyportError);
      }),
    );
  });

  it('follows key changes, each signed by the key before, at most 8', () => {
    let current: Proof = proof;
    let key = tlsKey;
    for (let i = 0; i < MAX_ROTATIONS; i++) {
      const next = generateTlsKey();
      current = rotateProof(tlsSigner(key), 'acme', current, spkiOf(next));
      key = next;
    }
    expect(verify(current, spkiOf(key)).rotations).toBe(MAX_ROTATIONS);
    expect(() => verify(current, spki)).toThrow(code('PROOF_KEY_MISMATCH'));
    expect(() => rotateProof(tlsSigner(key), 'acme', current, spki)).toThrow(code('PROOF_TOO_LONG'));
    const tooLong = { ...current, steps: [...current.steps, current.steps[0]] };
    expect(() => verify(tooLong, spkiOf(key))).toThrow(code('PROOF_MALFORMED'));
    const stolen = rotateProof(tlsSigner(generateTlsKey()), 'acme', proof, spkiOf(key));
    expect(() => verify(stolen, spkiOf(key))).toThrow(code('PROOF_TAMPERED'));
    expect(() => verify({ ...current, steps: current.steps.slice(1) }, spkiOf(key))).toThrow(code('PROOF_TAMPERED'));
  });

  it('an invitation has the addresses of its role', () => {
    expect(() => sealInvitation(sign, invitation({ role: 'connector' }))).toThrow(code('INVITATION_MALFORMED'));
    const { overlay4, overlay6, ...rest } = invitation();
    expect(() => sealInvitation(sign, rest)).toThrow(code('INVITATION_MALFORMED'));
    expect([overlay4, overlay6]).not.toContain(undefined);
  });
});

describe('join token', () => {
  const parts = {
    network: 'acme',
    relays: [{ name: 'relay', quic: 'relay.example.com:4433', control: 'https://relay.example.com:8443' }],
    ca: Uint8Array.of(1, 2, 3),
    policyKey: policyKey.publicKey,
    invitationEnvelope: envelope,
    inviteKey: inviteKey.seed,
    services: { web: 'tcp://10.0.0.5:80' },
  };
  const token = encodeToken(crypto, parts);

  it('comes back as it was, with white space around it', () => {
    expect(parseToken(crypto, `\n ${token}\n`)).toEqual({ ...parts, invitation: invitation() });
  });

  it('is refused when cut or changed', () => {
    expect(() => parseToken(crypto, '')).toThrow(code('TOKEN_MALFORMED'));
    expect(() => parseToken(crypto, 'hello world')).toThrow(code('TOKEN_MALFORMED'));
    expect(() => parseToken(crypto, token.slice(0, -40))).toThrow(code('TOKEN_MALFORMED'));
    fc.assert(
      fc.property(fc.nat(token.length - 1), fc.constantFrom(...'AZaz09-_'), (at, character) => {
        fc.pre(token[at] !== character);
        const changed = token.slice(0, at) + character + token.slice(at + 1);
        expect(() => parseToken(crypto, changed)).toThrow(code(/^TOKEN_(MALFORMED|TAMPERED)$/));
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(() => parseToken(crypto, text)).toThrow(SallyportError);
      }),
    );
  });

  it('is refused when re-made around another key or invitation, checksum and all', () => {
    const other = generateSigningKey();
    for (const changed of [
      { policyKey: other.publicKey },
      { inviteKey: other.seed },
      { invitationEnvelope: sealInvitation(ed25519Signer(other), invitation()) },
      { network: 'other' },
    ]) {
      expect(() => parseToken(crypto, encodeToken(crypto, { ...parts, ...changed }))).toThrow(code('TOKEN_TAMPERED'));
    }
    const body = decodeBase64Url(token)!;
    expect(() => parseToken(crypto, encodeBase64Url(body.subarray(0, 9)))).toThrow(code('TOKEN_MALFORMED'));
  });
});

describe('allocate', () => {
  it('keeps addresses, honours wishes and never gives one twice', () => {
    const ula = randomUla(new SeededEntropy(1));
    expect(ula).toMatch(/^fd[0-9a-f]{2}:[0-9a-f:]+\/48$/);
    let taken = {};
    const seen = new Set<string>();
    for (const name of ['a', 'b', 'c']) {
      const addresses = allocate('agent', ula, taken, name);
      taken = { ...taken, [name]: addresses };
      seen.add(addresses.v4).add(addresses.v6);
      expect(allocate('agent', ula, taken, name)).toEqual(addresses);
    }
    expect(seen.size).toBe(6);
    expect(seen).toContain('100.64.0.1');
    expect(allocate('service', ula, taken, 'd', { v4: '10.100.9.9' })).toMatchObject({ v4: '10.100.9.9' });
    expect(() => allocate('agent', ula, taken, 'd', { v4: '100.64.0.1' })).toThrow(code('ADDRESS_TAKEN'));
  });
});

describe('parseServiceSpec', () => {
  it.each([
    ['web=tcp://10.0.0.5:8080', { target: 'single', host: '10.0.0.5', port: 8080, protocols: ['tcp'] }],
    ['web=tcp+udp://db.lan:53', { target: 'single', host: 'db.lan', port: 53, protocols: ['tcp', 'udp'] }],
    ['v6=udp://[fd12::5]:53', { target: 'single', host: 'fd12::5', port: 53, protocols: ['udp'] }],
    ['nas=any://10.0.0.9', { target: 'host', host: '10.0.0.9', port: undefined, protocols: ['tcp', 'udp', 'icmp'] }],
    ['net=any://10.0.0.0/24', { target: 'cidr', host: '10.0.0.0/24', port: undefined }],
    ['net=tcp://10.0.0.0/24:443', { target: 'cidr', host: '10.0.0.0/24', port: 443 }],
    ['net=any://[fd12::]/48', { target: 'cidr', host: 'fd12::/48' }],
    ['net=any://fd12::/48', { target: 'cidr', host: 'fd12::/48' }],
    ['p=icmp://host', { target: 'host', protocols: ['icmp'] }],
  ])('reads %s', (text, expected) => {
    expect(parseServiceSpec(text).backend).toMatchObject(expected);
  });

  it('reads virtual addresses and makes the URL of a prefix plain', () => {
    const spec = parseServiceSpec('web=tcp://h:1,virtualIp=10.100.5.5,virtualIp=fd00:1:2:1::9');
    expect(spec).toMatchObject({ url: 'tcp://h:1', virtualIp4: '10.100.5.5', virtualIp6: 'fd00:1:2:1::9' });
    expect(parseServiceSpec('net=tcp://[fd12::]/48:443').url).toBe('tcp://fd12::/48');
    expect(parseServiceSpec('net=any://10.0.0.0/24,path=relay').path).toBe('relay');
    expect(parseServiceSpec('web=tcp://h:1,path=direct,virtualIp=10.100.5.5')).toMatchObject({
      path: 'direct',
      virtualIp4: '10.100.5.5',
    });
  });

  it.each([
    'tcp://h:1',
    'Web=tcp://h:1',
    'web=h:1',
    'web=ftp://h:1',
    'web=tcp://h:0',
    'web=tcp://h:65536',
    'web=icmp://h:1',
    'web=tcp://10.0.0.1/24',
    'web=tcp://0.0.0.0/0',
    'web=tcp://h/24',
    'web=tcp://[h]:1',
    'web=tcp://1.2.3:1',
    'web=tcp://h:1,x=1',
    'web=tcp://h:1,path=auto',
    'web=tcp://h:1,path=',
    'net=any://10.0.0.0/24,virtualIp=10.100.0.1',
    'web=tcp://-h:1',
    'web=tcp://fd12::5',
    'web=constructor://h',
  ])('refuses %s', (text) => {
    expect(() => parseServiceSpec(text)).toThrow(code('SERVICE_SPEC'));
  });
});
