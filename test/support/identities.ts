/** An operator, a CA, and nodes enrolled with really signed invitations, proofs and certificates. */
import { SeededEntropy } from '../../src/base/entropy.js';
import { Days, type WallTime, wallAt, wallLater } from '../../src/base/time.js';
import { CertificateAuthority, createCa } from '../../src/identity/authority.js';
import {
  ed25519Signer,
  generateSigningKey,
  generateTlsKey,
  type SigningKey,
  spkiOf,
  tlsSigner,
} from '../../src/identity/keys.js';
import { createCrypto } from '../../src/os/crypto.js';
import { encodeBase64 } from '../../src/policy/base64.js';
import { type PolicyDocument, type SignedPolicy, sealPolicy } from '../../src/policy/document.js';
import { sealInvitation } from '../../src/policy/invitation.js';
import { dnsName, type NodeRole, type Role } from '../../src/policy/names.js';
import { type Identity, makeProof, type Proof, rotateProof, verifyProof } from '../../src/policy/proof.js';
import { WALL } from './sim-reactor.js';

export const crypto = createCrypto();
export const NETWORK = 'acme';
export const ULA = 'fd00:1:2';

/** Key and certificate of one party, as TLS shows them. */
export interface Credentials {
  readonly role: Role;
  readonly name: string;
  readonly keyPem: string;
  readonly certificatePem: string;
}

/** An enrolled node. */
export interface NodeCredentials extends Credentials {
  readonly role: NodeRole;
  readonly proof: Proof;
  readonly identity: Identity;
}

/** The operator of one network, with its CA: two keys that a test may also hold separately. */
export class Operator {
  readonly network: string;
  readonly policyKey: SigningKey;
  readonly authority: CertificateAuthority;
  #nextHost = 1;
  readonly #entropy = new SeededEntropy(99);

  private constructor(network: string, policyKey: SigningKey, authority: CertificateAuthority) {
    this.network = network;
    this.policyKey = policyKey;
    this.authority = authority;
  }

  static async create(network = NETWORK): Promise<Operator> {
    const ca = await createCa(network, WALL);
    return new Operator(network, generateSigningKey(), new CertificateAuthority(network, ca));
  }

  get caPem(): string {
    return this.authority.certificatePem;
  }

  /** Another operator who holds this network's CA key, and a policy key of their own: the CA host turned bad. */
  withOtherPolicyKey(): Operator {
    return new Operator(this.network, generateSigningKey(), this.authority);
  }

  sign(document: PolicyDocument): SignedPolicy {
    return sealPolicy(ed25519Signer(this.policyKey), document);
  }

  /** A certificate for a key, whoever's. */
  certify(role: Role, name: string, keyPem: string, wall: WallTime = WALL): Promise<string> {
    const addresses: string[] = [];
    return this.authority.issue({ role, name, spki: spkiOf(keyPem), addresses }, wall);
  }

  async credentials(role: Role, name: string, keyPem = generateTlsKey()): Promise<Credentials> {
    return { role, name, keyPem, certificatePem: await this.certify(role, name, keyPem) };
  }

  /** A node that was invited and has enrolled. Overlay addresses count up from 100.64.0.1 and fd00:1:2:f::1. */
  async enrol(role: NodeRole, name: string, groups: readonly string[] = []): Promise<NodeCredentials> {
    const keyPem = generateTlsKey();
    const invite = generateSigningKey();
    const host = this.#nextHost++;
    const id = Array.from({ length: 4 }, () => this.#entropy.uint32().toString(16).padStart(8, '0')).join('');
    const overlay =
      role === 'agent' ? { overlay4: `100.64.0.${host}`, overlay6: `${ULA}:f::${host.toString(16)}` } : {};
    const envelope = sealInvitation(ed25519Signer(this.policyKey), {
      network: this.network,
      id,
      name,
      role,
      groups: [...groups],
      ...overlay,
      expiry: wallLater(WALL, Days(1)),
      inviteKey: encodeBase64(invite.publicKey),
    });
    const proof = makeProof(ed25519Signer(invite), this.network, envelope, spkiOf(keyPem));
    const certificatePem = await this.certify(role, name, keyPem);
    return { role, name, keyPem, certificatePem, proof, identity: this.identityOf(proof, keyPem) };
  }

  /** The same node after one key change. */
  async rotate(node: NodeCredentials): Promise<NodeCredentials> {
    const keyPem = generateTlsKey();
    const proof = rotateProof(tlsSigner(node.keyPem), this.network, node.proof, spkiOf(keyPem));
    const certificatePem = await this.certify(node.role, node.name, keyPem);
    return { ...node, keyPem, certificatePem, proof, identity: this.identityOf(proof, keyPem) };
  }

  identityOf(proof: Proof, keyPem: string): Identity {
    return verifyProof(crypto, this.policyKey.publicKey, this.network, proof, spkiOf(keyPem));
  }

  serverName(role: Role, name: string): string {
    return dnsName(this.network, role, name);
  }
}

/** A policy document that lasts for the tests. */
export function policyDocument(more: Partial<PolicyDocument> = {}): PolicyDocument {
  const service = (id: string, n: number, rest: Partial<PolicyDocument['services'][number]> = {}) => ({
    id,
    protocols: ['tcp' as const],
    ports: [[80, 80]] as [number, number][],
    target: 'single' as const,
    virtualIp4: `10.100.0.${n}`,
    virtualIp6: `${ULA}::${n}`,
    connectors: ['c1'],
    ...rest,
  });
  return {
    network: NETWORK,
    version: 1,
    notAfter: wallAt(wallLater(WALL, Days(90))),
    ula: `${ULA}::/48`,
    groups: {},
    services: [
      service('web', 1),
      service('dns', 2, { protocols: ['udp'], ports: [[53, 53]] }),
      service('box', 3, { protocols: ['tcp', 'udp', 'icmp'], ports: 'any', target: 'host' }),
      service('pair', 4, { connectors: ['c1', 'c2'] }),
      service('db', 5, { ports: [[5432, 5433]] }),
      service('far', 6, { connectors: ['c2'] }),
    ],
    grants: [
      { from: ['group:staff'], to: ['web', 'dns', 'box', 'pair', 'far'] },
      { from: ['group:ops'], to: ['db'] },
    ],
    revocations: [],
    tests: [],
    ...more,
  };
}
