/**
 * The state folder of an enrolled node (agent or connector).
 *
 *   enrolment.json   network, role, name, addresses, relays, policy key; written last: with it the node is enrolled
 *   key.pem          TLS private key, made here and never sent
 *   cert.pem ca.pem  its certificate (replaced by renewal) and the network's CA
 *   proof.json       enrolment proof
 *   policy.json      highest signed policy seen
 *   services.json    connectors: backend address of each service, as the token proposed it
 *   pending.json     only while enrolling: the TLS key of an enrolment whose answer has not come yet
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { decodeBase64, encodeBase64 } from '../policy/base64.js';
import { InvitationId } from '../policy/document.js';
import { Envelope } from '../policy/envelope.js';
import { base64Bytes, ED25519_KEY_BYTES } from '../policy/invitation.js';
import { Label, NODE_ROLES } from '../policy/names.js';
import { Proof } from '../policy/proof.js';
import { RelayContact } from '../policy/relay-contact.js';
import { has, readJson, readText, writeFile, writeJson } from './files.js';

const Enrolment = v.object({
  network: Label,
  role: v.picklist(NODE_ROLES),
  name: Label,
  groups: v.array(Label),
  overlay4: v.optional(v.string()),
  overlay6: v.optional(v.string()),
  invitationId: InvitationId,
  relays: v.pipe(v.array(RelayContact), v.minLength(1)),
  policyKey: base64Bytes(ED25519_KEY_BYTES),
});
const Services = v.record(Label, v.string());
const Pending = v.object({ invitationId: InvitationId, key: v.string() });

/** Everything in the folder. Keys are PEM text. */
export interface NodeState extends Omit<v.InferOutput<typeof Enrolment>, 'policyKey'> {
  readonly dir: string;
  readonly policyKey: Uint8Array;
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly caPem: string;
  readonly proof: Proof;
  /** To be checked by `PolicyKeeper.offer`; undefined before the first. */
  readonly policy: Envelope | undefined;
  readonly services: Readonly<Record<string, string>>;
}

export function isEnrolled(dir: string): boolean {
  return has(dir, 'enrolment.json');
}

/** @throws SallyportError NOT_ENROLLED, STATE_UNREADABLE (environment). */
export function loadNode(dir: string): NodeState {
  if (!isEnrolled(dir)) {
    throw new SallyportError('environment', 'NOT_ENROLLED', `${dir} holds no enrolled node`, {
      hint: 'enrol with a join token: --join-file FILE',
    });
  }
  const path = (name: string): string => join(dir, name);
  const enrolment = readJson(path('enrolment.json'), Enrolment);
  return {
    ...enrolment,
    dir,
    policyKey: decodeBase64(enrolment.policyKey)!,
    keyPem: readText(path('key.pem')),
    certificatePem: readText(path('cert.pem')),
    caPem: readText(path('ca.pem')),
    proof: readJson(path('proof.json'), Proof),
    policy: has(dir, 'policy.json') ? readJson(path('policy.json'), Envelope) : undefined,
    services: has(dir, 'services.json') ? readJson(path('services.json'), Services) : {},
  };
}

/** Writes a newly enrolled node; the folder counts as enrolled when this has returned. */
export function saveNode(state: NodeState): void {
  const path = (name: string): string => join(state.dir, name);
  writeFile(path('key.pem'), state.keyPem);
  writeFile(path('ca.pem'), state.caPem);
  writeFile(path('cert.pem'), state.certificatePem);
  writeJson(path('proof.json'), state.proof);
  writeJson(path('services.json'), state.services);
  if (state.policy !== undefined) savePolicy(state.dir, state.policy);
  const { network, role, name, groups, overlay4, overlay6, invitationId, relays } = state;
  const policyKey = encodeBase64(state.policyKey);
  writeJson(path('enrolment.json'), {
    network,
    role,
    name,
    groups,
    overlay4,
    overlay6,
    invitationId,
    relays,
    policyKey,
  });
  rmSync(path('pending.json'), { force: true });
}

/** Keeps the signed policy that `PolicyKeeper.offer` took as new. */
export function savePolicy(dir: string, policy: Envelope): void {
  writeJson(join(dir, 'policy.json'), policy);
}

export function saveCertificate(dir: string, certificatePem: string): void {
  writeFile(join(dir, 'cert.pem'), certificatePem);
}

/** The key of an unfinished enrolment with this invitation. */
export function pendingKey(dir: string, invitationId: string): string | undefined {
  if (!has(dir, 'pending.json')) return undefined;
  const pending = readJson(join(dir, 'pending.json'), Pending);
  return pending.invitationId === invitationId ? pending.key : undefined;
}

export function savePending(dir: string, invitationId: string, key: string): void {
  writeJson(join(dir, 'pending.json'), { invitationId, key });
}
