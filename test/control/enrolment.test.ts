/** Enrolment and renewal over real TLS on loopback: one token, one node, and every refusal by its name. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../src/identity/authority.js';
import { certificatePem } from '../../src/identity/certificate-pem.js';
import { askControl } from '../../src/identity/control-client.js';
import { createCsr } from '../../src/identity/csr.js';
import { enrol, renewalDue, renewIfDue } from '../../src/identity/enrol.js';
import { makeFolder } from '../../src/identity/files.js';
import { ed25519Signer, generateSigningKey, generateTlsKey, spkiOf, tlsSigner } from '../../src/identity/keys.js';
import { loadNode, savePending } from '../../src/identity/node-state.js';
import { parsePeerIdentity } from '../../src/identity/peer-identity.js';
import { pemToDer } from '../../src/identity/x509.js';
import { encodeBase64 } from '../../src/policy/base64.js';
import { sealJson } from '../../src/policy/envelope.js';
import { sealInvitation } from '../../src/policy/invitation.js';
import { makeProof, rotateProof, verifyProof } from '../../src/policy/proof.js';
import { encodeToken, type JoinToken, parseToken } from '../../src/policy/token.js';
import { crypto, DAY, eachTest, failure, HOUR, network, TestNetwork } from './network.js';

eachTest();

const enrolAs = (token: string, name: string) => enrol(token, network.state(name), network.enrolOptions());

describe('enrol', () => {
  it('enrols an agent: certificate, proof and policy are checked and kept', async () => {
    const token = await network.token('agent', 'alice', '--group', 'staff');
    const state = await enrolAs(token, 'alice');
    expect(state).toMatchObject({
      network: 'acme',
      role: 'agent',
      name: 'alice',
      groups: ['staff'],
      overlay4: '100.64.0.1',
    });
    const loaded = loadNode(network.state('alice'));
    expect(loaded).toEqual(state);
    expect(loaded.policy).toEqual(network.folder.policy);
    const certificate = parsePeerIdentity(pemToDer(loaded.certificatePem));
    expect(certificate).toMatchObject({ role: 'agent', name: 'alice', addresses: [state.overlay4, state.overlay6] });
    const identity = verifyProof(crypto, loaded.policyKey, 'acme', loaded.proof, certificate.spki);
    expect(identity.name).toBe('alice');
    for (const file of ['key.pem', 'cert.pem', 'ca.pem', 'proof.json', 'policy.json', 'enrolment.json']) {
      expect(statSync(join(network.state('alice'), file)).mode & 0o777, file).toBe(0o600);
    }
    expect(statSync(network.state('alice')).mode & 0o777).toBe(0o700);
    expect(existsSync(join(network.state('alice'), 'pending.json'))).toBe(false);
  });

  it('writes the invite key nowhere and logs no part of the token', async () => {
    const token = await network.token('connector', 'site', '--service', 'web=tcp://127.0.0.1:80', '--allow', 'staff');
    const state = await enrolAs(token, 'site');
    expect(state.services).toEqual({ web: 'tcp://127.0.0.1:80' });
    const secret = encodeBase64(parseToken(crypto, token).inviteKey);
    const everything = [
      ...Object.values(state).map((value) => JSON.stringify(value)),
      JSON.stringify(network.log),
    ].join();
    expect(everything).not.toContain(secret);
    expect(everything).not.toContain(token.slice(0, 40));
  });

  it('a second node cannot use the token, and an enrolled one ignores it', async () => {
    const token = await network.token('agent', 'alice');
    const first = await enrolAs(token, 'a');
    await expect(enrolAs(token, 'b')).rejects.toEqual(failure('TOKEN_USED'));
    expect(await enrolAs('anything', 'a')).toEqual(first);
  });

  it('of two at once exactly one wins', async () => {
    const token = await network.token('agent', 'alice');
    const results = await Promise.allSettled(['a', 'b', 'c', 'd'].map((name) => enrolAs(token, name)));
    const won = results.filter((result) => result.status === 'fulfilled');
    const lost = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect(won.length).toBe(1);
    expect(lost).toEqual([failure('TOKEN_USED'), failure('TOKEN_USED'), failure('TOKEN_USED')]);
  });

  it('the same key within 10 minutes gets the same certificate, later it renews', async () => {
    const text = await network.token('agent', 'alice');
    const token = parseToken(crypto, text);
    const first = await enrolAs(text, 'a');
    /** A node whose answer got lost: it has its key and nothing else. */
    const again = (name: string) => {
      makeFolder(network.state(name));
      savePending(network.state(name), token.invitation.id, first.keyPem);
      return enrolAs(text, name);
    };
    network.clock.advance(9 * 60_000);
    expect((await again('b')).certificatePem).toBe(first.certificatePem);
    network.clock.advance(2 * 60_000);
    const later = await again('c');
    expect(later.certificatePem).not.toBe(first.certificatePem);
    expect(later.keyPem).toBe(first.keyPem);
  });

  it('still knows what was used after a restart, and a line cut by a crash never happened', async () => {
    const used = await network.token('agent', 'alice');
    const free = await network.token('agent', 'bob');
    await enrolAs(used, 'a');
    await network.server.stop();
    const file = join(network.folder.dir, 'used.jsonl');
    const whole = readFileSync(file, 'utf8');
    writeFileSync(file, `${whole}{"invitation":"${parseToken(crypto, free).invitation.id}","sp`);
    await network.serve();
    await expect(enrolAs(used, 'b')).rejects.toEqual(failure('TOKEN_USED'));
    await enrolAs(free, 'c');
    expect(readFileSync(file, 'utf8').startsWith(whole)).toBe(true);
    await network.server.stop();
    await network.serve();
    await expect(enrolAs(free, 'd')).rejects.toEqual(failure('TOKEN_USED'));
    await network.server.stop();
    writeFileSync(file, `nonsense\n${whole}`);
    await expect(network.serve()).rejects.toEqual(failure('USED_UNREADABLE'));
  });

  it('refuses expired tokens, here and there', async () => {
    const token = await network.token('agent', 'alice', '--expires', '30m');
    const early = { crypto, wall: network.clock.wall() };
    network.clock.advance(HOUR);
    await expect(enrolAs(token, 'a')).rejects.toEqual(failure('TOKEN_EXPIRED'));
    await expect(enrol(token, network.state('b'), early)).rejects.toEqual(failure('TOKEN_EXPIRED'));
  });

  it('refuses changed tokens, here and there', async () => {
    const text = await network.token('agent', 'alice');
    const token = parseToken(crypto, text);
    const other = generateSigningKey();
    const remade = (more: Partial<JoinToken>) => encodeToken(crypto, { ...token, ...more });
    await expect(enrolAs(`${text.slice(0, 40)}A${text.slice(41)}`, 'a')).rejects.toMatchObject({
      code: expect.stringMatching(/^TOKEN_(TAMPERED|MALFORMED)$/),
    });
    await expect(enrolAs(remade({ inviteKey: other.seed }), 'a')).rejects.toEqual(failure('TOKEN_TAMPERED'));
    // Consistent in itself, but of an operator that this network does not know.
    const foreign = sealInvitation(ed25519Signer(other), token.invitation);
    const forged = remade({ policyKey: other.publicKey, invitationEnvelope: foreign });
    await expect(enrolAs(forged, 'a')).rejects.toEqual(failure('TOKEN_TAMPERED'));
  });

  it('refuses revoked invitations, also for renewal', async () => {
    const bob = await network.token('agent', 'bob');
    const alice = await network.token('agent', 'alice');
    await enrolAs(alice, 'alice');
    await network.run('revoke', 'bob');
    await network.run('revoke', 'alice');
    network.reload();
    await expect(enrolAs(bob, 'bob')).rejects.toEqual(failure('TOKEN_REVOKED'));
    network.clock.advance(5 * DAY);
    await expect(renewIfDue(network.state('alice'), network.enrolOptions())).rejects.toEqual(failure('TOKEN_REVOKED'));
  });

  it('refuses everybody new when the policy has expired', async () => {
    const token = await network.token('agent', 'alice', '--expires', '90d');
    network.clock.advance(89 * DAY);
    const soon = await network.token('agent', 'bob', '--expires', '90d');
    await enrolAs(token, 'alice');
    network.clock.advance(3 * DAY);
    await expect(enrolAs(soon, 'bob')).rejects.toEqual(failure('POLICY_EXPIRED'));
  });

  it('refuses the other role’s token and says where nobody answers', async () => {
    const text = await network.token('connector', 'site');
    const agent = { ...network.enrolOptions(), role: 'agent' as const };
    await expect(enrol(text, network.state('a'), agent)).rejects.toEqual(failure('TOKEN_ROLE'));
    const token = parseToken(crypto, text);
    const relays = [{ ...token.relays[0]!, name: 'gone', control: 'https://127.0.0.1:1' }];
    const nowhere = encodeToken(crypto, { ...token, relays });
    await expect(enrolAs(nowhere, 'a')).rejects.toEqual(failure('ENROL_UNREACHABLE'));
    // The next relay of the list is asked.
    expect((await enrolAs(encodeToken(crypto, { ...token, relays: [...relays, ...token.relays] }), 'a')).name).toBe(
      'site',
    );
  });

  it('trusts only the CA in the token and the relay’s own name', async () => {
    const token = parseToken(crypto, await network.token('agent', 'alice'));
    const other = new TestNetwork();
    await other.start();
    try {
      const foreign = encodeToken(crypto, { ...token, ca: pemToDer(other.folder.caPem) });
      await expect(enrolAs(foreign, 'a')).rejects.toEqual(failure('ENROL_UNTRUSTED'));
    } finally {
      await other.stop();
    }
    const relays = [{ ...token.relays[0]!, name: 'other' }];
    await expect(enrolAs(encodeToken(crypto, { ...token, relays }), 'b')).rejects.toEqual(failure('ENROL_UNTRUSTED'));
  });
});

describe('a thief of the CA', () => {
  it.each(['agent', 'connector'] as const)('cannot make a proof as %s that verifies', async (role) => {
    const token = parseToken(crypto, await network.token('agent', 'alice', '--group', 'staff'));
    const alice = await enrolAs(encodeToken(crypto, token), 'alice');
    // Everything a relay host has: CA key, every proof it ever saw; not the policy key and no private key of a node.
    const authority = new CertificateAuthority('acme', {
      certificatePem: network.folder.caPem,
      keyPem: readFileSync(join(network.folder.dir, 'ca-key.pem'), 'utf8'),
    });
    const thief = generateTlsKey();
    const spki = spkiOf(thief);
    const certificate = await authority.issue({ role, name: 'alice', spki, addresses: [] }, network.clock.wall());
    expect(parsePeerIdentity(pemToDer(certificate)).name).toBe('alice');
    const key = generateSigningKey();
    const { overlay4, overlay6, ...plain } = token.invitation;
    const invitation = { ...plain, role, inviteKey: encodeBase64(key.publicKey) };
    const own = sealInvitation(
      ed25519Signer(key),
      role === 'agent' ? { ...invitation, overlay4, overlay6 } : invitation,
    );
    const attempts = [
      alice.proof,
      { ...alice.proof, spki: encodeBase64(spki) },
      makeProof(ed25519Signer(key), 'acme', own, spki),
      makeProof(ed25519Signer(key), 'acme', alice.proof.invitation, spki),
      rotateProof(tlsSigner(thief), 'acme', alice.proof, spki),
      { ...alice.proof, invitation: { ...own, signature: alice.proof.invitation.signature } },
    ];
    for (const proof of attempts) {
      expect(() => verifyProof(crypto, alice.policyKey, 'acme', proof, spki)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/TAMPERED|KEY_MISMATCH/) }),
      );
    }
  });
});

describe('renew', () => {
  it('keeps the key, after two thirds of the life', async () => {
    const state = await enrolAs(await network.token('agent', 'alice'), 'alice');
    const due = renewalDue(state.certificatePem);
    expect(due - network.clock.time).toBeGreaterThan(4.6 * DAY);
    expect(due - network.clock.time).toBeLessThan(4.7 * DAY);
    expect((await renewIfDue(state.dir, network.enrolOptions())).renewed).toBe(false);
    network.clock.advance(4.7 * DAY);
    const renewal = await renewIfDue(state.dir, network.enrolOptions());
    expect(renewal.renewed).toBe(true);
    const loaded = loadNode(state.dir);
    expect(loaded.certificatePem).toBe(renewal.certificatePem);
    expect(parsePeerIdentity(pemToDer(loaded.certificatePem))).toMatchObject({
      spki: spkiOf(state.keyPem),
      name: 'alice',
    });
    expect(renewal.dueAt).toBeGreaterThan(network.clock.time + 4.6 * DAY);
  });

  it('never starts an identity: a used or expired token is worth nothing', async () => {
    const token = parseToken(crypto, await network.token('agent', 'alice'));
    await enrolAs(encodeToken(crypto, token), 'alice');
    const unused = parseToken(crypto, await network.token('agent', 'bob'));
    network.clock.advance(2 * HOUR);
    for (const one of [token, unused]) {
      const key = generateTlsKey();
      const invite = { seed: one.inviteKey, publicKey: Buffer.from(one.invitation.inviteKey, 'base64') };
      const proof = makeProof(ed25519Signer(invite), 'acme', one.invitationEnvelope, spkiOf(key));
      await expect(ask(key, { proof })).rejects.toEqual(failure('NOT_ENROLLED'));
    }
  });

  it('refuses a foreign signature, an old request and a superseded key', async () => {
    const state = await enrolAs(await network.token('agent', 'alice'), 'alice');
    const { proof, keyPem } = state;
    await expect(ask(keyPem, { proof }, generateTlsKey())).rejects.toEqual(failure('RENEWAL_TAMPERED'));
    await expect(ask(keyPem, { proof, time: network.clock.time - HOUR })).rejects.toEqual(failure('RENEWAL_CLOCK'));
    await expect(ask(generateTlsKey(), { proof })).rejects.toEqual(failure('PROOF_KEY_MISMATCH'));
    const next = generateTlsKey();
    const rotated = rotateProof(tlsSigner(keyPem), 'acme', proof, spkiOf(next));
    const { certificate } = await ask(next, { proof: rotated });
    expect(parsePeerIdentity(pemToDer(certificate)).spki).toEqual(spkiOf(next));
    await expect(ask(keyPem, { proof })).rejects.toEqual(failure('KEY_SUPERSEDED'));
  });

  async function ask(keyPem: string, more: object, signingKey = keyPem) {
    const request = { time: network.clock.time, csr: await createCsr(keyPem, 'x'), ...more };
    const target = { network: 'acme', relays: [network.folder.contact], caPem: network.folder.caPem };
    return askControl(target, '/api/v1/renew', sealJson(tlsSigner(signingKey), 'renew', 'acme', request));
  }
});

it('an unreadable CA certificate is not trusted by accident', () => {
  expect(certificatePem(pemToDer(network.folder.caPem)).trim()).toBe(network.folder.caPem.trim());
});
