/**
 * The folder of a relay (with the CA and the enrolment endpoint): made by `init`, carried to the relay's host.
 *
 *   relay.json                 network, name, policy public key, contact
 *   ca.pem ca-key.pem          the network's CA
 *   cert.pem key.pem           the relay's own certificate
 *   policy.json                signed policy; replaced by every operator command, read again on SIGHUP
 *   reset.key                  64 random bytes: stateless reset and connection ids survive a restart
 *   nodes.json                 where the nodes are, while the relay runs: they are told when it comes back from a crash
 *   used.jsonl                 invitations that have been used (control writes it)
 *
 * The operator's policy key must not be here, nor anywhere this process can read: with it, a broken relay could invite.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import type { WallTime } from '../base/time.js';
import { decodeBase64, encodeBase64 } from '../policy/base64.js';
import { Envelope } from '../policy/envelope.js';
import { base64Bytes, ED25519_KEY_BYTES } from '../policy/invitation.js';
import { Label } from '../policy/names.js';
import { RelayContact } from '../policy/relay-contact.js';
import { CertificateAuthority } from './authority.js';
import { checkCertificate, renewalDue } from './enrol.js';
import { has, makeFolder, readJson, readText, writeFile, writeJson } from './files.js';
import { generateTlsKey, spkiOf } from './keys.js';

/** Name of the operator's key file, wherever it is. */
export const POLICY_KEY_FILE = 'policy-key.pem';
const RESET_KEY_BYTES = 64;

const RelayFile = v.object({ network: Label, policyKey: base64Bytes(ED25519_KEY_BYTES), contact: RelayContact });

export interface RelayFolder {
  readonly dir: string;
  readonly network: string;
  readonly name: string;
  readonly contact: RelayContact;
  readonly policyKey: Uint8Array;
  readonly authority: CertificateAuthority;
  readonly caPem: string;
  readonly keyPem: string;
  readonly certificatePem: string;
  /** 64 bytes. */
  readonly resetKey: Uint8Array;
  /** To be checked by `PolicyKeeper.offer`. */
  readonly policy: Envelope;
}

export interface NewRelay {
  readonly network: string;
  readonly contact: RelayContact;
  readonly policyKey: Uint8Array;
  readonly caPem: string;
  readonly caKeyPem: string;
  readonly policy: Envelope;
  /** 64 random bytes. */
  readonly resetKey: Uint8Array;
}

export async function createRelayFolder(dir: string, relay: NewRelay, wall: WallTime): Promise<void> {
  makeFolder(dir);
  const path = (name: string): string => join(dir, name);
  const keyPem = generateTlsKey();
  writeFile(path('ca-key.pem'), relay.caKeyPem);
  writeFile(path('ca.pem'), relay.caPem);
  writeFile(path('key.pem'), keyPem);
  writeFile(path('cert.pem'), await issueOwn(authorityOf(relay.network, dir), relay.contact.name, keyPem, wall));
  writeFile(path('reset.key'), relay.resetKey);
  writeJson(path('policy.json'), relay.policy);
  const { network, contact } = relay;
  writeJson(path('relay.json'), { network, policyKey: encodeBase64(relay.policyKey), contact });
}

/**
 * @param allowOperatorKey for a demo on one machine only.
 * @throws SallyportError NOT_A_RELAY, STATE_UNREADABLE, POLICY_KEY_ON_RELAY (environment).
 */
export function loadRelayFolder(dir: string, allowOperatorKey = false): RelayFolder {
  if (!has(dir, 'relay.json')) {
    throw new SallyportError('environment', 'NOT_A_RELAY', `${dir} is not a relay’s folder`, {
      hint: 'copy the relay/ folder that "sallyport init" made to this host, and name it with --dir',
    });
  }
  const key = allowOperatorKey ? undefined : readableOperatorKey(dir);
  if (key !== undefined) {
    throw new SallyportError(
      'environment',
      'POLICY_KEY_ON_RELAY',
      `this relay can read the operator’s policy key ${key}`,
      {
        hint: 'keep operator/ on another machine, or at least out of this user’s reach; a relay must not be able to invite',
      },
    );
  }
  const path = (name: string): string => join(dir, name);
  const { network, contact, policyKey } = readJson(path('relay.json'), RelayFile);
  const resetKey = new Uint8Array(readFileSync(path('reset.key')));
  if (resetKey.length !== RESET_KEY_BYTES) {
    throw new SallyportError(
      'environment',
      'STATE_UNREADABLE',
      `${path('reset.key')} must have ${RESET_KEY_BYTES} bytes`,
    );
  }
  return {
    dir,
    network,
    name: contact.name,
    contact,
    policyKey: decodeBase64(policyKey)!,
    authority: authorityOf(network, dir),
    caPem: readText(path('ca.pem')),
    keyPem: readText(path('key.pem')),
    certificatePem: readText(path('cert.pem')),
    resetKey,
    policy: readJson(path('policy.json'), Envelope),
  };
}

/** Issues the relay's own certificate anew when two thirds of its life are over; returns the one to use. */
export async function renewRelayIfDue(folder: RelayFolder, wall: WallTime): Promise<string> {
  if (wall < renewalDue(folder.certificatePem)) return folder.certificatePem;
  const certificate = await issueOwn(folder.authority, folder.name, folder.keyPem, wall);
  writeFile(join(folder.dir, 'cert.pem'), certificate);
  return certificate;
}

/**
 * Whether a certificate that somebody put into the folder is one for this relay, its running key, and now.
 * @throws SallyportError CERTIFICATE_NOT_OURS (environment).
 */
export function checkRelayCertificate(present: RelayFolder, running: RelayFolder, wall: WallTime): void {
  checkCertificate(present.certificatePem, { ...running, role: 'relay' }, wall);
}

/** A policy key this process could read: in the folder, beside it or where `init` puts it. */
function readableOperatorKey(dir: string): string | undefined {
  const here = resolve(dir);
  const places = [here, join(here, 'operator'), dirname(here), join(dirname(here), 'operator')];
  return places.map((place) => join(place, POLICY_KEY_FILE)).find(isReadable);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function authorityOf(network: string, dir: string): CertificateAuthority {
  const files = { certificatePem: readText(join(dir, 'ca.pem')), keyPem: readText(join(dir, 'ca-key.pem')) };
  return new CertificateAuthority(network, files);
}

function issueOwn(authority: CertificateAuthority, name: string, keyPem: string, wall: WallTime): Promise<string> {
  return authority.issue({ role: 'relay', name, spki: spkiOf(keyPem), addresses: [] }, wall);
}
