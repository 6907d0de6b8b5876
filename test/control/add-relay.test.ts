/** More relays of one network: their folders, the policy and tokens that name them, and that none but the first enrols nodes. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Enrolment } from '../../src/control/enrolment.js';
import { createControlServer } from '../../src/control/server.js';
import { UsedInvitations } from '../../src/control/used.js';
import { CertificateAuthority, createCa } from '../../src/identity/authority.js';
import { askControl } from '../../src/identity/control-client.js';
import { enrol } from '../../src/identity/enrol.js';
import { generateTlsKey, spkiOf, tlsSigner } from '../../src/identity/keys.js';
import { checkRelayCertificate, loadRelayFolder, renewRelayIfDue } from '../../src/identity/relay-folder.js';
import { knownRelays } from '../../src/node/known-relays.js';
import { sealJson } from '../../src/policy/envelope.js';
import { MAX_RELAYS } from '../../src/policy/relay-contact.js';
import { parseToken } from '../../src/policy/token.js';
import { crypto, DAY, eachTest, failure, HOUR, network } from './network.js';

eachTest();

const folderOf = (name: string) => loadRelayFolder(join(network.dir, `relay-${name}`), true);
const add = (name: string, ...more: string[]) => network.run('add-relay', name, '--relay', '192.0.2.7', ...more);

describe('add-relay', () => {
  it('makes a folder without the CA’s key, and signs a policy that names every relay', async () => {
    const { out } = await add('r2', '--json');
    expect(JSON.parse(out[0]!)).toMatchObject({ name: 'r2', quic: '192.0.2.7:4433', policyVersion: 2, relays: 2 });
    const folder = folderOf('r2');
    expect(folder.authority).toBeUndefined();
    expect(existsSync(join(folder.dir, 'ca-key.pem'))).toBe(false);
    expect(folder.resetKey).not.toEqual(network.folder.resetKey);
    network.reload();
    const names = network.keeper.signed!.document.relays!.map(({ name }) => name);
    expect(names).toEqual(['relay', 'r2']);
    expect(folder.policy).toEqual(network.keeper.signed!.envelope);
    expect(parseToken(crypto, await network.token('agent', 'bob')).relays.map(({ name }) => name)).toEqual(names);
  });

  it('issues a new certificate for the same key when the relay exists, and changes its address', async () => {
    await add('r2');
    const before = folderOf('r2');
    network.clock.advance(DAY);
    const { out } = await network.run('add-relay', 'r2', '--relay', '192.0.2.8:5000');
    expect(out[0]).toContain('new certificate');
    const after = folderOf('r2');
    expect(after.keyPem).toBe(before.keyPem);
    expect(after.certificatePem).not.toBe(before.certificatePem);
    expect(after.contact.quic).toBe('192.0.2.8:5000');
    await network.run('add-relay', 'r2');
    expect(folderOf('r2').contact.quic).toBe('192.0.2.8:5000');
  });

  it('refuses what cannot be', async () => {
    await expect(add('Not A Label')).rejects.toEqual(failure('RELAY_ARGUMENT'));
    await expect(add('relay')).rejects.toEqual(failure('RELAY_ARGUMENT'));
    await expect(network.run('add-relay', 'r2')).rejects.toEqual(failure('RELAY_ARGUMENT'));
    await expect(add('r2', '--control', 'http://x')).rejects.toEqual(failure('ADDRESS_INVALID'));
    for (let i = 2; i <= MAX_RELAYS; i++) await add(`r${i}`);
    await expect(add('one-more')).rejects.toEqual(failure('RELAY_LIMIT'));
    rmSync(join(network.dir, 'relay', 'ca-key.pem'));
    await expect(network.run('add-relay', 'r2')).rejects.toEqual(failure('RELAY_ARGUMENT'));
  });

  it('a relay that a policy no longer names is in no token any more', async () => {
    await add('r2');
    const { out } = await network.run('policy', 'show', '--json');
    const { relays, ...document } = JSON.parse(out[0]!) as { relays: unknown };
    expect(relays).toHaveLength(2);
    const file = join(network.root, 'policy.json');
    writeFileSync(file, JSON.stringify(document));
    await network.run('policy', 'apply', file);
    expect(parseToken(crypto, await network.token('agent', 'bob')).relays.map(({ name }) => name)).toEqual(['relay']);
  });

  it('a relay without the CA’s key says how its certificate is renewed', async () => {
    await add('r2');
    await expect(renewRelayIfDue(folderOf('r2'), network.clock.wall())).resolves.toBeTypeOf('string');
    network.clock.advance(61 * DAY);
    await expect(renewRelayIfDue(folderOf('r2'), network.clock.wall())).rejects.toEqual(failure('CERTIFICATE_ENDS'));
  });
});

describe('the certificate of a further relay', () => {
  const relays = () => network.keeper.signed!.document.relays!;
  /** What the first relay answers to a request with this certificate, signed by this key. */
  const ask = (certificate: string, keyPem: string, time: number = network.clock.wall()) => {
    const request = sealJson(tlsSigner(keyPem), 'renew-relay', 'acme', { time, certificate });
    const target = { network: 'acme', caPem: network.folder.caPem, relays: relays().slice(0, 1) };
    return askControl(target, '/api/v1/renew-relay', request);
  };

  beforeEach(async () => {
    await add('r2');
    network.reload();
  });

  it('is renewed by the relay that has the CA’s key, for the same key and name', async () => {
    const before = folderOf('r2');
    expect(await renewRelayIfDue(before, network.clock.wall(), relays())).toBe(before.certificatePem);
    network.clock.advance(61 * DAY);
    const renewed = await renewRelayIfDue(before, network.clock.wall(), relays());
    const after = folderOf('r2');
    expect(after.certificatePem).toBe(renewed);
    checkRelayCertificate(after, before, network.clock.wall());
    network.clock.advance(59 * DAY);
    checkRelayCertificate(after, before, network.clock.wall());
    expect(network.log).toContainEqual(['certificate renewed', expect.objectContaining({ role: 'relay', name: 'r2' })]);
  });

  it('is not renewed when it is over, or when the policy does not name the relay', async () => {
    const { certificatePem, keyPem } = folderOf('r2');
    network.clock.advance(91 * DAY);
    await expect(ask(certificatePem, keyPem)).rejects.toEqual(failure('RELAY_CERTIFICATE'));
    await expect(renewRelayIfDue(folderOf('r2'), network.clock.wall(), relays())).rejects.toEqual(
      failure('CERTIFICATE_ENDS'),
    );
    network.clock.advance(-90 * DAY);
    await ask(certificatePem, keyPem);
    const other = await network.folder.authority!.issue(
      { role: 'relay', name: 'r3', spki: spkiOf(keyPem), addresses: [] },
      network.clock.wall(),
    );
    await expect(ask(other, keyPem)).rejects.toEqual(failure('RELAY_UNKNOWN'));
  });

  it('is issued to nobody else', async () => {
    const { certificatePem, keyPem } = folderOf('r2');
    const wall = network.clock.wall();
    await expect(ask(certificatePem, generateTlsKey())).rejects.toEqual(failure('RENEWAL_TAMPERED'));
    await expect(ask(certificatePem, keyPem, wall - HOUR)).rejects.toEqual(failure('RENEWAL_CLOCK'));
    const spki = spkiOf(keyPem);
    const agent = await network.folder.authority!.issue({ role: 'agent', name: 'r2', spki, addresses: [] }, wall);
    await expect(ask(agent, keyPem)).rejects.toEqual(failure('RELAY_CERTIFICATE'));
    const foreign = new CertificateAuthority('acme', await createCa('acme', wall));
    const forged = await foreign.issue({ role: 'relay', name: 'r2', spki, addresses: [] }, wall);
    await expect(ask(forged, keyPem)).rejects.toEqual(failure('RELAY_CERTIFICATE'));
  });

  it('whatever else is asked with is refused', async () => {
    const { authority, policyKey } = network.folder;
    const used = UsedInvitations.open(join(network.root, 'used.jsonl'));
    const judge = new Enrolment({ crypto, policyKey, authority: authority!, policy: network.keeper, used });
    const { certificatePem, keyPem } = folderOf('r2');
    const text = fc.oneof(
      fc.string(),
      fc.constant(certificatePem),
      fc.nat(1000).map((n) => certificatePem.slice(0, n)),
    );
    const payload = fc.record({ time: fc.oneof(fc.integer(), fc.string()), certificate: text }, { requiredKeys: [] });
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.jsonValue(), payload), fc.boolean(), async (value, isSealed) => {
        const body = isSealed ? sealJson(tlsSigner(keyPem), 'renew-relay', 'acme', value) : value;
        await expect(judge.renewRelay(body, network.clock.wall())).rejects.toEqual(
          expect.objectContaining({ kind: 'peer' }),
        );
      }),
    );
    used.close();
  });
});

describe('nodes', () => {
  it('that ask a further relay are sent on, and enrol at the first', async () => {
    await add('r2');
    network.reload();
    const folder = folderOf('r2');
    const quiet = (): void => {};
    const further = createControlServer({
      folder,
      listen: SocketAddress.parse('127.0.0.1:0')!,
      policy: network.keeper,
      crypto,
      clock: network.clock,
      log: { info: quiet, warn: quiet, error: quiet },
    });
    const { port } = await further.start();
    try {
      await network.run('add-relay', 'r2', '--relay', '127.0.0.1', '--control', `127.0.0.1:${port}`);
      // The further relay first: as where the first is out of reach, or listed later.
      const book = join(network.dir, 'operator', 'book.json');
      const text = JSON.parse(readFileSync(book, 'utf8')) as { relays: unknown[] };
      writeFileSync(book, JSON.stringify({ ...text, relays: text.relays.reverse() }));
      const state = await enrol(await network.token('agent', 'alice'), network.state('alice'), network.enrolOptions());
      expect(state.certificatePem).not.toBe('');
      expect(state.relays.map(({ name }) => name)).toEqual(['r2', 'relay']);
      await network.server.stop();
      const other = enrol(await network.token('agent', 'bob'), network.state('bob'), network.enrolOptions());
      await expect(other).rejects.toEqual(failure('ENROL_UNREACHABLE'));
    } finally {
      await further.stop();
    }
  });

  it('go by the relays of the policy they hold, and by those of their token without one', async () => {
    const early = await enrol(await network.token('agent', 'alice'), network.state('alice'), network.enrolOptions());
    expect(knownRelays(early).map(({ name }) => name)).toEqual(['relay']);
    await add('r2');
    network.reload();
    const policy = network.keeper.signed!.envelope;
    expect(knownRelays({ ...early, policy }).map(({ name }) => name)).toEqual(['relay', 'r2']);
    const forged = { ...policy, signature: network.folder.policy.signature };
    expect(knownRelays({ ...early, policy: forged }).map(({ name }) => name)).toEqual(['relay']);
  });
});
