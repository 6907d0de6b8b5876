/**
 * The folder of a relay (with the CA and the enrolment endpoint): made by `init`, carried to the relay's host.
 *
 *   relay.json                 network, name, policy public key, contact
 *   ca.pem ca-key.pem          the network's CA; the key on the first relay only, where nodes enrol and renew
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
import { describeError, SallyportError } from '../base/error.js';
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
import { requestRelayRenewal } from './relay-renewal.js';

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
  /** Undefined on a relay that issues no certificates. */
  readonly authority: CertificateAuthority | undefined;
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
    authority: has(dir, 'ca-key.pem') ? authorityOf(network, dir) : undefined,
    caPem: readText(path('ca.pem')),
    keyPem: readText(path('key.pem')),
    certificatePem: readText(path('cert.pem')),
    resetKey,
    policy: readJson(path('policy.json'), Envelope),
  };
}

/** A relay besides the first, as `createFurtherRelay` writes it. */
export interface FurtherRelay {
  readonly contact: RelayContact;
  readonly policyKey: Uint8Array;
  readonly policy: Envelope;
  /** 64 random bytes. */
  readonly resetKey: Uint8Array;
}

/** Makes the folder of a further relay, which gets no CA key. */
export async function createFurtherRelay(
  dir: string,
  authority: CertificateAuthority,
  { contact, policyKey, policy, resetKey }: FurtherRelay,
  wall: WallTime,
): Promise<void> {
  makeFolder(dir);
  const path = (name: string): string => join(dir, name);
  const keyPem = generateTlsKey();
  writeFile(path('ca.pem'), authority.certificatePem);
  writeFile(path('key.pem'), keyPem);
  writeFile(path('cert.pem'), await issueOwn(authority, contact.name, keyPem, wall));
  writeFile(path('reset.key'), resetKey);
  writeJson(path('policy.json'), policy);
  writeJson(path('relay.json'), { network: authority.network, policyKey: encodeBase64(policyKey), contact });
}

/** Issues a further relay, when there is one in this folder, a new certificate for its key and keeps its address. */
export async function reissueRelay(
  dir: string,
  authority: CertificateAuthority,
  contact: RelayContact,
  wall: WallTime,
): Promise<boolean> {
  if (!has(dir, 'relay.json')) return false;
  const path = (name: string): string => join(dir, name);
  writeFile(path('cert.pem'), await issueOwn(authority, contact.name, readText(path('key.pem')), wall));
  writeJson(path('relay.json'), { ...readJson(path('relay.json'), RelayFile), contact });
  return true;
}

/**
 * Has the relay's own certificate issued anew when two thirds of its life are over: by itself where it has the CA's key, else by the
 * relay that has it. Returns the one to use.
 * @param relays of the network, as its policy names them.
 * @throws SallyportError CERTIFICATE_ENDS (environment) when it is due and nobody issues another.
 */
export async function renewRelayIfDue(
  folder: RelayFolder,
  wall: WallTime,
  relays: readonly RelayContact[] = [],
): Promise<string> {
  if (wall < renewalDue(folder.certificatePem)) return folder.certificatePem;
  const { authority, name, keyPem, certificatePem } = folder;
  const certificate = await (authority === undefined
    ? requestRelayRenewal(folder, certificatePem, relays, wall).catch((cause: unknown) => {
        const message = `this relay’s certificate is about to end, and it got no other: ${describeError(cause)}`;
        throw new SallyportError('environment', 'CERTIFICATE_ENDS', message, {
          cause,
          hint: `where the operator is: sallyport add-relay ${name}; then copy cert.pem here and SIGHUP the relay`,
        });
      })
    : issueOwn(authority, name, keyPem, wall));
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
