/**
 * How a node's main thread keeps the ways to its relay: the addresses of its name, the way over TCP beside them, and what NAT is
 * before this machine, which the same addresses tell.
 */
import { SocketAddress } from '../base/address.js';
import type { Log } from '../base/log.js';
import type { NodeState } from '../identity/node-state.js';
import { SystemEntropy } from '../os/entropy.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import { NatWatch } from './netcheck/nat-watch.js';
import { RelayName, type Resolved } from './relay-name.js';
import { RelayTcp, type RelayTcpChoice } from './relay-tcp.js';
import type { DirectSettings } from './thread-setup.js';

export interface RelayWays {
  readonly nat: NatWatch;
  readonly relayName: RelayName;
  readonly tcp: RelayTcp;
}

/** @param ask the packet thread's requests, which may be called once it runs. */
export function makeRelayWays(
  state: NodeState,
  options: { readonly direct: DirectSettings; readonly relayTcp: RelayTcpChoice },
  log: Log,
  ask: {
    relayAddresses(resolved: Resolved): Promise<unknown>;
    relayTcp(address: string | undefined): Promise<unknown>;
    natEase(ease: NatEase): Promise<unknown>;
  },
): RelayWays {
  // The thread may have ended when the look is over.
  const nat = new NatWatch(new SystemEntropy(), (ease) => void ask.natEase(ease).catch(() => undefined));
  const relay = state.relays[0]!;
  const relayName = new RelayName(relay.quic, log, (resolved) => {
    if (options.direct.path !== 'relay') nat.setRelays(resolved.addresses.map((text) => SocketAddress.parse(text)!));
    return ask.relayAddresses(resolved);
  });
  const tcp = new RelayTcp({
    network: state.network,
    relay,
    caPem: state.caPem,
    isAllowed: options.relayTcp === 'auto',
    environment: process.env,
    log,
    tell: (address) => ask.relayTcp(address),
  });
  return { nat, relayName, tcp };
}
