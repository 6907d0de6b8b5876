/**
 * The policy a node lives by: the highest signed version it has seen, and whether that still admits anything new.
 *
 *   none ──offer──► valid ──(14 days before notAfter)──► expiring ──notAfter──► grace ──(24 h)──► expired
 *
 * A lower version is refused, and so is the same version with other bytes: whoever passes documents on (relay, control
 * host) can withhold a new one but never bring an old one back.
 */
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { scale, type WallTime, wallLater } from '../base/time.js';
import { openPolicy, POLICY_WARNING, policyEnd, type SignedPolicy } from './document.js';
import { compile, type PolicyView } from './view.js';

export type PolicyState = 'none' | 'valid' | 'expiring' | 'grace' | 'expired';

export class PolicyKeeper {
  readonly #crypto: Crypto;
  readonly #policyKey: Uint8Array;
  readonly #network: string;
  #signed: SignedPolicy | undefined;
  #view: PolicyView | undefined;

  constructor(crypto: Crypto, policyKey: Uint8Array, network: string) {
    this.#crypto = crypto;
    this.#policyKey = policyKey;
    this.#network = network;
  }

  /** The document in force with its envelope: to be stored and passed on. */
  get signed(): SignedPolicy | undefined {
    return this.#signed;
  }

  get view(): PolicyView | undefined {
    return this.#view;
  }

  /**
   * Takes a signed document. Returns true when it is a new version (store it, ask every open question again), false when it
   * is the one in force.
   * @throws SallyportError (peer) those of `openPolicy`; POLICY_ROLLBACK for a lower version; POLICY_CONFLICT for other
   * bytes under the version in force. The one in force stays.
   */
  offer(envelope: unknown): boolean {
    const signed = openPolicy(this.#crypto, this.#policyKey, this.#network, envelope);
    const { version } = signed.document;
    const current = this.#signed;
    if (current !== undefined) {
      const held = current.document.version;
      if (version < held) {
        throw new SallyportError('peer', 'POLICY_ROLLBACK', `policy version ${version} is older than version ${held}`);
      }
      if (version === held) {
        if (signed.envelope.payload === current.envelope.payload) return false;
        throw new SallyportError('peer', 'POLICY_CONFLICT', `two different policies have version ${version}`, {
          hint: 'sign a higher version',
        });
      }
    }
    this.#signed = signed;
    this.#view = compile(signed.document);
    return true;
  }

  state(wall: WallTime): PolicyState {
    const document = this.#signed?.document;
    if (document === undefined) return 'none';
    const notAfter = document.notAfter as WallTime;
    if (wall >= policyEnd(document)) return 'expired';
    if (wall >= notAfter) return 'grace';
    return wall >= wallLater(notAfter, scale(POLICY_WARNING, -1)) ? 'expiring' : 'valid';
  }

  /** Whether new flows, links, registrations and enrolments may be admitted. */
  admits(wall: WallTime): boolean {
    const state = this.state(wall);
    return state !== 'none' && state !== 'expired';
  }
}
