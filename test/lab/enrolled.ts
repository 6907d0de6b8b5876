/**
 * Agents of a network that `sallyport init` made, enrolled without asking its relay: invitations signed with the operator's key,
 * proofs by their keys, certificates by the network's CA. For crowds, where a command each would take minutes.
 */
import { randomBytes } from 'node:crypto';
import { Days, wallAt, wallLater } from '../../src/base/time.js';
import { ed25519Signer, generateSigningKey, generateTlsKey, spkiOf } from '../../src/identity/keys.js';
import { OperatorFolder } from '../../src/identity/operator-folder.js';
import { loadRelayFolder } from '../../src/identity/relay-folder.js';
import { createCrypto } from '../../src/os/crypto.js';
import { encodeBase64 } from '../../src/policy/base64.js';
import { sealInvitation } from '../../src/policy/invitation.js';
import { dnsName } from '../../src/policy/names.js';
import { makeProof, type Proof } from '../../src/policy/proof.js';

const INVITATION_ID_BYTES = 16;
/** Overlay addresses of crowds: far from those that `sallyport invite` gives out first. */
const FIRST_OVERLAY4 = 0x64_50_00_01;

export interface EnrolledAgent {
  readonly name: string;
  readonly overlay4: string;
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly proof: Proof;
}

export interface EnrolledCrowd {
  readonly network: string;
  readonly caPem: string;
  readonly policyKey: Uint8Array;
  /** The relay's TLS server name. */
  readonly relayName: string;
  readonly agents: readonly EnrolledAgent[];
}

export interface CrowdOptions {
  readonly count: number;
  readonly group: string;
  /** Folder that holds `operator/`, and the relay's own folder. */
  readonly operatorFolder: string;
  readonly relayFolder: string;
  /** One TLS key for all of them: their certificates differ. Default: a key each. */
  readonly sharedKey?: boolean;
}

/** Makes agents `crowd-0`, `crowd-1`, … of one group. */
export async function enrolCrowd(options: CrowdOptions): Promise<EnrolledCrowd> {
  const wall = wallAt(Date.now());
  const relay = loadRelayFolder(options.relayFolder, true);
  const { network, caPem, authority } = relay;
  const operator = OperatorFolder.open(options.operatorFolder, createCrypto());
  try {
    const ula = operator.document.ula.replace(/::\/48$/, '');
    const invite = generateSigningKey();
    const shared = options.sharedKey === true ? generateTlsKey() : undefined;
    const agents: EnrolledAgent[] = [];
    for (let index = 0; index < options.count; index++) {
      const name = `crowd-${index}`;
      const keyPem = shared ?? generateTlsKey();
      const spki = spkiOf(keyPem);
      const at = FIRST_OVERLAY4 + index;
      const overlay4 = [at >>> 24, (at >>> 16) & 255, (at >>> 8) & 255, at & 255].join('.');
      const overlay6 = `${ula}:f:1::${(index + 1).toString(16)}`;
      const envelope = sealInvitation(operator.sign, {
        network,
        id: randomBytes(INVITATION_ID_BYTES).toString('hex'),
        name,
        role: 'agent',
        groups: [options.group],
        overlay4,
        overlay6,
        expiry: Math.floor(wallLater(wall, Days(1))),
        inviteKey: encodeBase64(invite.publicKey),
      });
      const proof = makeProof(ed25519Signer(invite), network, envelope, spki);
      const request = { role: 'agent' as const, name, spki, addresses: [overlay4, overlay6] };
      agents.push({ name, overlay4, keyPem, certificatePem: await authority!.issue(request, wall), proof });
    }
    const relayName = dnsName(network, 'relay', relay.name);
    return { network, caPem, policyKey: relay.policyKey, relayName, agents };
  } finally {
    operator.close();
  }
}
