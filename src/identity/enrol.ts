/**
 * Enrolment and renewal as a node does them. The TLS key is made here and never leaves; the invite key is only in memory.
 *
 *   enrol:  key (kept in pending.json) ─► CSR + proof ─POST─► certificate ─► checked against CA, key, invitation ─► folder
 *   renew:  CSR + proof, signed with the TLS key and the time ─POST─► certificate for the same key ─► cert.pem
 *
 * An enrolment whose answer got lost is repeated with the same key and gets the same certificate.
 */
import { X509Certificate } from 'node:crypto';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { type Duration, scale, type WallTime, wallLater } from '../base/time.js';
import { sealJson } from '../policy/envelope.js';
import { PolicyKeeper } from '../policy/keeper.js';
import type { NodeRole } from '../policy/names.js';
import { makeProof, verifyProof } from '../policy/proof.js';
import type { RelayContact } from '../policy/relay-contact.js';
import { type JoinToken, parseToken } from '../policy/token.js';
import { certificateDer, certificatePem } from './certificate-pem.js';
import type { Certified } from './control-client.js';
import { type CreateCsr, createCsr } from './csr.js';
import { ensureRoom, makeFolder } from './files.js';
import { ed25519Signer, generateTlsKey, spkiOf, tlsSigner } from './keys.js';
import {
  isEnrolled,
  loadNode,
  type NodeState,
  pendingKey,
  saveCertificate,
  saveNode,
  savePending,
} from './node-state.js';
import { type PeerIdentity, parsePeerIdentity } from './peer-identity.js';

/** A certificate is renewed when this share of its life is over (protocol §9): days remain for retries. */
const RENEW_AT = 2 / 3;

/** What a folder needs for an enrolment with a policy of some hundred services; a token is not spent where it does not fit. */
const ENROLMENT_BYTES = 256 * 1024;

export interface EnrolOptions {
  readonly crypto: Crypto;
  readonly wall: WallTime;
  /** Where a renewal is asked for, given what stands in the folder; default: the relays of the join token. */
  readonly relaysOf?: (state: NodeState) => readonly RelayContact[];
  /** Makes the certificate request; default: `createCsr`. */
  readonly createCsr?: CreateCsr;
  /** What the command that enrols is; a token for the other role is refused. */
  readonly role?: NodeRole;
}

/**
 * Enrols the node of this folder, or returns the one already there (the token is then not looked at).
 * @throws SallyportError TOKEN_MALFORMED, TOKEN_TAMPERED, TOKEN_EXPIRED, TOKEN_ROLE (caller); TOKEN_USED, TOKEN_REVOKED,
 * ENROL_UNTRUSTED, ENROL_ANSWER … (peer); ENROL_UNREACHABLE, CLOCK_WRONG, STATE_UNWRITABLE (environment).
 */
export async function enrol(tokenText: string, dir: string, options: EnrolOptions): Promise<NodeState> {
  if (isEnrolled(dir)) return loadNode(dir);
  const { crypto, wall } = options;
  const token = parseToken(crypto, tokenText);
  const { invitation } = token;
  if (options.role !== undefined && options.role !== invitation.role) {
    throw new SallyportError('caller', 'TOKEN_ROLE', `this token is for a ${invitation.role} (${invitation.name})`, {
      hint: `use it with: sallyport ${invitation.role}`,
    });
  }
  makeFolder(dir);
  const begun = pendingKey(dir, invitation.id);
  if (begun === undefined && wall >= invitation.expiry) throw expired(wall);
  const keyPem = begun ?? generateTlsKey();
  if (begun === undefined) savePending(dir, invitation.id, keyPem);
  ensureRoom(dir, ENROLMENT_BYTES);
  const state = unenrolled(token, dir, keyPem);
  const csr = await (options.createCsr ?? createCsr)(keyPem, invitation.name);
  let answer: Certified;
  try {
    const { askControl } = await import('./control-client.js');
    answer = await askControl(state, '/api/v1/enrol', { proof: state.proof, csr });
  } catch (error) {
    // Our key may have been certified long ago and only the answer got lost: then it may renew.
    const lost = begun !== undefined && error instanceof SallyportError && /^TOKEN_(USED|EXPIRED)$/.test(error.code);
    if (!lost) throw error;
    answer = await requestRenewal(state, options).catch(() => Promise.reject(error));
  }
  const enrolled = accept(state, answer, options);
  saveNode(enrolled);
  return enrolled;
}

/** When a certificate (PEM) is due for renewal. */
export function renewalDue(certificatePemText: string): WallTime {
  const { notBefore, notAfter } = parsePeerIdentity(certificateDer(certificatePemText));
  return wallLater(notBefore, scale(span(notBefore, notAfter), RENEW_AT));
}

export interface Renewal {
  readonly renewed: boolean;
  readonly certificatePem: string;
  /** When to ask again. */
  readonly dueAt: WallTime;
  /** Why the new certificate is not in the folder (a full disk); it is good all the same. */
  readonly unsaved?: unknown;
}

/**
 * Renews the certificate of an enrolled node when it is due; keeps the key.
 * @throws SallyportError as `enrol` does; the present certificate stays.
 */
export async function renewIfDue(dir: string, options: EnrolOptions): Promise<Renewal> {
  const state = loadNode(dir);
  const dueAt = renewalDue(state.certificatePem);
  if (options.wall < dueAt) return { renewed: false, certificatePem: state.certificatePem, dueAt };
  const target = { ...state, relays: [...(options.relaysOf?.(state) ?? state.relays)] };
  const renewed = accept(state, await requestRenewal(target, options), options);
  let unsaved: unknown;
  try {
    saveCertificate(dir, renewed.certificatePem);
  } catch (error) {
    unsaved = error;
  }
  return { renewed: true, certificatePem: renewed.certificatePem, dueAt: renewalDue(renewed.certificatePem), unsaved };
}

async function requestRenewal(state: NodeState, options: EnrolOptions): Promise<Certified> {
  const csr = await (options.createCsr ?? createCsr)(state.keyPem, state.name);
  const request = { time: options.wall, proof: state.proof, csr };
  const { askControl } = await import('./control-client.js');
  return askControl(state, '/api/v1/renew', sealJson(tlsSigner(state.keyPem), 'renew', state.network, request));
}

/** Checks what came back; nothing of it is believed because a relay said it. */
function accept(state: NodeState, answer: Certified, { crypto, wall }: EnrolOptions): NodeState {
  const refused = (what: string, cause?: unknown): SallyportError =>
    new SallyportError('peer', 'ENROL_ANSWER', `the relay’s certificate for this node ${what}`, { cause });
  const identity = judgeCertificate(answer.certificate, state, wall, refused);
  const { network, policyKey } = state;
  verifyProof(crypto, policyKey, network, state.proof, identity.spki);
  const policy = answer.policy ?? undefined;
  const keeper = new PolicyKeeper(crypto, policyKey, network);
  if (policy !== undefined && state.policy === undefined) keeper.offer(policy);
  return { ...state, certificatePem: answer.certificate, policy: state.policy ?? keeper.signed?.envelope };
}

/** Whom a certificate has to be for. */
export interface CertificateOwner {
  readonly network: string;
  readonly role: string;
  readonly name: string;
  readonly keyPem: string;
  readonly caPem: string;
}

/**
 * Whether a certificate (PEM) that was found on disk is one for this node, its key, and now.
 * @throws SallyportError CERTIFICATE_NOT_OURS (environment).
 */
export function checkCertificate(pem: string, owner: CertificateOwner, wall: WallTime): void {
  judgeCertificate(pem, owner, wall, (what, cause) => {
    return new SallyportError('environment', 'CERTIFICATE_NOT_OURS', `the certificate in the state folder ${what}`, {
      cause,
    });
  });
}

/** Whether this CA has signed a certificate (both PEM). @throws Error of node:crypto when one cannot be read. */
export function isIssuedBy(caPem: string, pem: string): boolean {
  const ca = new X509Certificate(caPem);
  const certificate = new X509Certificate(pem);
  return certificate.checkIssued(ca) && certificate.verify(ca.publicKey);
}

/** The identity in a certificate that is this owner's; `refused` makes the error of any other. */
function judgeCertificate(
  pem: string,
  owner: CertificateOwner,
  wall: WallTime,
  refused: (what: string, cause?: unknown) => SallyportError,
): PeerIdentity {
  let chained: boolean;
  try {
    chained = isIssuedBy(owner.caPem, pem);
  } catch (cause) {
    throw refused('cannot be read', cause);
  }
  if (!chained) throw refused('is not issued by the network’s CA');
  const identity = parsePeerIdentity(certificateDer(pem));
  if (!Buffer.from(identity.spki).equals(spkiOf(owner.keyPem))) throw refused('is for another key');
  if (identity.network !== owner.network || identity.role !== owner.role || identity.name !== owner.name) {
    throw refused('names another node');
  }
  if (identity.notBefore > wall || identity.notAfter <= wall)
    throw refused('is not valid now: are the clocks of this machine and of the relay right?');
  return identity;
}

function unenrolled(token: JoinToken, dir: string, keyPem: string): NodeState {
  const { network, invitation, relays, policyKey, services } = token;
  const sign = ed25519Signer({ seed: token.inviteKey, publicKey: Buffer.from(invitation.inviteKey, 'base64') });
  const { role, name, groups, overlay4, overlay6, id } = invitation;
  return {
    dir,
    network,
    role,
    name,
    groups,
    overlay4,
    overlay6,
    invitationId: id,
    relays: [...relays],
    policyKey,
    keyPem,
    certificatePem: '',
    caPem: certificatePem(token.ca),
    proof: makeProof(sign, network, token.invitationEnvelope, spkiOf(keyPem)),
    policy: undefined,
    services,
  };
}

function span(from: WallTime, to: WallTime): Duration {
  return ((to - from) * 1_000) as Duration;
}

function expired(wall: WallTime): SallyportError {
  const now = new Date(wall).toISOString().slice(0, 16);
  return new SallyportError('caller', 'TOKEN_EXPIRED', `the join token has expired by this machine’s clock (${now}Z)`, {
    hint: 'ask the operator for a new one: sallyport invite; or set the clock right',
  });
}
