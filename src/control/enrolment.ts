/**
 * The judge of enrolments and renewals: what must be true before the CA signs a node's certificate.
 *
 *   enrol {proof, csr}                    policy key signed the invitation, invite key signed this TLS key, in time, unused
 *   renew envelope of {time, proof, csr}  the invitation was used for this proof's first key; the TLS key signs the request
 *   renew-relay envelope of {time, certificate}  the CA's, of a relay that the policy names, not over; its key signs the request
 *
 * The same invitation with the same key within 10 min is answered with the very same certificate: an answer that got lost
 * bricks nothing. A renewal never starts an identity, so a used or expired token is worth nothing here.
 */
import * as v from 'valibot';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { Millis, Minutes, toMillis, type WallTime } from '../base/time.js';
import { type CertificateAuthority, verifyCsr } from '../identity/authority.js';
import { certificateDer } from '../identity/certificate-pem.js';
import { isIssuedBy } from '../identity/enrol.js';
import { type PeerIdentity, parsePeerIdentity } from '../identity/peer-identity.js';
import { decodeBase64, encodeHex } from '../policy/base64.js';
import { Envelope, open, parsePayload, parseWith } from '../policy/envelope.js';
import { openInvitation } from '../policy/invitation.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { Role } from '../policy/names.js';
import { type Identity, Proof, verifyProof } from '../policy/proof.js';
import type { UsedInvitations } from './used.js';

/** How long a lost answer may be asked for again (protocol §7). */
const REPEAT_WINDOW = Minutes(10);
/** How far a node's clock may be off when it renews; a replay in that time gets it only a certificate for its own key. */
const RENEWAL_SKEW = Minutes(15);

const EnrolRequest = v.object({ proof: v.unknown(), csr: v.pipe(v.string(), v.maxLength(8192)) });
const RenewRequest = v.object({ time: v.number(), ...EnrolRequest.entries });
const RelayRequest = v.object({ time: v.number(), certificate: v.pipe(v.string(), v.maxLength(8192)) });

export interface EnrolmentParts {
  readonly crypto: Crypto;
  readonly policyKey: Uint8Array;
  readonly authority: CertificateAuthority;
  readonly policy: PolicyKeeper;
  readonly used: UsedInvitations;
}

/** What an accepted request is answered with. */
export interface Issued {
  readonly certificate: string;
  readonly policy: Envelope | null;
  /** Whose certificate it is. */
  readonly identity: { readonly role: Role; readonly name: string; readonly invitationId?: string };
}

export class Enrolment {
  readonly #parts: EnrolmentParts;

  constructor(parts: EnrolmentParts) {
    this.#parts = parts;
  }

  /**
   * @throws SallyportError (peer) REQUEST_MALFORMED, CSR_MALFORMED, TOKEN_TAMPERED, TOKEN_EXPIRED, TOKEN_USED, TOKEN_REVOKED,
   * NETWORK_MISMATCH, PROOF_…; (environment) POLICY_EXPIRED, USED_UNWRITABLE.
   */
  async enrol(body: unknown, wall: WallTime): Promise<Issued> {
    const { crypto, used, policy } = this.#parts;
    const { proof, csr } = parseWith(EnrolRequest, body, 'REQUEST_MALFORMED', 'the request');
    const spki = await verifyCsr(csr);
    const identity = this.#verify(proof, spki);
    const id = identity.invitationId;
    const spkiHash = encodeHex(crypto.sha256(spki));
    const earlier = used.get(id);
    if (earlier !== undefined) {
      if (earlier.spki === spkiHash && wall - earlier.at <= toMillis(REPEAT_WINDOW))
        return this.#issued(earlier, identity);
      throw refused('TOKEN_USED', `the invitation of ${identity.name} has been used`);
    }
    if (wall >= this.#expiry(proof)) throw refused('TOKEN_EXPIRED', `the invitation of ${identity.name} has expired`);
    if (!policy.admits(wall)) {
      throw new SallyportError('environment', 'POLICY_EXPIRED', 'the network’s signed policy has expired', {
        hint: 'sign it again where the operator is: sallyport policy apply',
      });
    }
    if (!used.claim(id)) throw refused('TOKEN_USED', `the invitation of ${identity.name} is being used`);
    try {
      const certificate = await this.#issue(identity, spki, wall);
      const use = { invitation: id, spki: spkiHash, at: wall, certificate, rotations: 0 };
      used.commit(use);
      return this.#issued(use, identity);
    } catch (error) {
      used.release(id);
      throw error;
    }
  }

  /** @throws SallyportError (peer) like `enrol`; NOT_ENROLLED, RENEWAL_TAMPERED, RENEWAL_CLOCK, KEY_SUPERSEDED. */
  async renew(body: unknown, wall: WallTime): Promise<Issued> {
    const { crypto, used, authority } = this.#parts;
    // The request is signed by the key it is about, so that key is read from it first and believed only by its proof.
    const unchecked = parseWith(Envelope, body, 'REQUEST_MALFORMED', 'the request');
    const payload = decodeBase64(unchecked.payload) ?? new Uint8Array(0);
    const spki = await verifyCsr(parsePayload(RenewRequest, payload, 'RENEWAL').csr);
    const { bytes } = open(
      (message, signature) => crypto.spkiVerify(spki, message, signature),
      'renew',
      authority.network,
      body,
      'RENEWAL',
    );
    const request = parsePayload(RenewRequest, bytes, 'RENEWAL');
    checkClock(request.time, wall);
    const identity = this.#verify(request.proof, spki);
    const use = used.get(identity.invitationId);
    const first = decodeBase64(v.parse(Proof, request.proof).spki)!;
    if (use === undefined || use.spki !== encodeHex(crypto.sha256(first))) {
      throw refused('NOT_ENROLLED', `${identity.name} did not enrol here with this key`);
    }
    if (identity.rotations < use.rotations) throw refused('KEY_SUPERSEDED', `${identity.name} has a newer key`);
    const certificate = await this.#issue(identity, spki, wall);
    if (identity.rotations > use.rotations) used.commit({ ...use, rotations: identity.rotations });
    return this.#issued({ certificate }, identity);
  }

  /** @throws SallyportError (peer) REQUEST_MALFORMED, RENEWAL_MALFORMED, RENEWAL_TAMPERED, RENEWAL_CLOCK, RELAY_CERTIFICATE, RELAY_UNKNOWN. */
  async renewRelay(body: unknown, wall: WallTime): Promise<Issued> {
    const { crypto, authority, policy } = this.#parts;
    const unchecked = parseWith(Envelope, body, 'REQUEST_MALFORMED', 'the request');
    const payload = decodeBase64(unchecked.payload) ?? new Uint8Array(0);
    const { name, spki } = this.#relayOf(parsePayload(RelayRequest, payload, 'RENEWAL').certificate, wall);
    const verify = (message: Uint8Array, signature: Uint8Array): boolean => crypto.spkiVerify(spki, message, signature);
    const { bytes } = open(verify, 'renew-relay', authority.network, body, 'RENEWAL');
    checkClock(parsePayload(RelayRequest, bytes, 'RENEWAL').time, wall);
    const relays = policy.signed?.document.relays ?? [];
    if (!relays.some((relay) => relay.name === name)) {
      throw refused('RELAY_UNKNOWN', `the policy names no relay ${name}`);
    }
    const certificate = await authority.issue({ role: 'relay', name, spki, addresses: [] }, wall);
    return this.#issued({ certificate }, { role: 'relay', name });
  }

  /** The relay whose certificate this is. */
  #relayOf(certificate: string, wall: WallTime): PeerIdentity {
    const { authority } = this.#parts;
    let identity: PeerIdentity | undefined;
    try {
      if (isIssuedBy(authority.certificatePem, certificate)) identity = parsePeerIdentity(certificateDer(certificate));
    } catch {
      // What cannot be read is nobody's.
    }
    const isRelay = identity?.role === 'relay' && identity.network === authority.network;
    if (identity === undefined || !isRelay || wall < identity.notBefore || wall >= identity.notAfter) {
      throw refused('RELAY_CERTIFICATE', 'the certificate is no relay’s of this network, or is over');
    }
    return identity;
  }

  #verify(proof: unknown, spki: Uint8Array): Identity {
    const { crypto, policyKey, authority, policy } = this.#parts;
    const checks = { revocations: policy.view?.revocations ?? new Set<string>() };
    try {
      return verifyProof(crypto, policyKey, authority.network, proof, spki, checks);
    } catch (error) {
      const code = error instanceof SallyportError ? TOKEN_CODES[error.code] : undefined;
      throw code === undefined ? error : refused(code, (error as Error).message);
    }
  }

  #expiry(proof: unknown): number {
    const { crypto, policyKey, authority } = this.#parts;
    return openInvitation(crypto, policyKey, authority.network, v.parse(Proof, proof).invitation).expiry;
  }

  #issue(identity: Identity, spki: Uint8Array, wall: WallTime): Promise<string> {
    const addresses = [identity.overlay4, identity.overlay6].flatMap((ip) => (ip === undefined ? [] : [`${ip}`]));
    return this.#parts.authority.issue({ role: identity.role, name: identity.name, spki, addresses }, wall);
  }

  #issued({ certificate }: { readonly certificate: string }, identity: Issued['identity']): Issued {
    return { certificate, policy: this.#parts.policy.signed?.envelope ?? null, identity };
  }
}

/** Verification failures as the person with the token knows them. */
const TOKEN_CODES: Readonly<Record<string, string>> = {
  INVITATION_TAMPERED: 'TOKEN_TAMPERED',
  PROOF_TAMPERED: 'TOKEN_TAMPERED',
  INVITATION_REVOKED: 'TOKEN_REVOKED',
};

function refused(code: string, message: string): SallyportError {
  return new SallyportError('peer', code, message);
}

function checkClock(time: number, wall: WallTime): void {
  if (Math.abs(time - wall) <= toMillis(RENEWAL_SKEW)) return;
  throw refused('RENEWAL_CLOCK', `the clocks of node and relay differ by ${skewSeconds(time, wall)} s`);
}

function skewSeconds(a: number, b: number): number {
  return Math.round(Math.abs(a - b) / toMillis(Millis(1_000)));
}
