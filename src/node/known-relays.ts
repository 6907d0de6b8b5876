/** Which relays a node's network has: as the operator's policy names them, else as the join token did. */
import type { NodeState } from '../identity/node-state.js';
import { createCrypto } from '../os/crypto.js';
import { openPolicy } from '../policy/document.js';
import { MAX_RELAYS, type RelayContact } from '../policy/relay-contact.js';

/** Of what stands in a state folder. A policy there that does not hold is not this function's to report. */
export function knownRelays(
  state: Pick<NodeState, 'relays' | 'policy' | 'policyKey' | 'network'>,
): readonly RelayContact[] {
  return (relaysOfPolicy(state) ?? state.relays).slice(0, MAX_RELAYS);
}

function relaysOfPolicy({
  policy,
  policyKey,
  network,
}: Pick<NodeState, 'policy' | 'policyKey' | 'network'>): readonly RelayContact[] | undefined {
  if (policy === undefined) return undefined;
  try {
    return openPolicy(createCrypto(), policyKey, network, policy).document.relays;
  } catch {
    return undefined;
  }
}
