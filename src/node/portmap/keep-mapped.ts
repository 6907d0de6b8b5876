/** A running node's port mapping: what the main thread keeps at the gateway and tells the packet thread of. */
import type { Entropy } from '../../base/entropy.js';
import type { Log } from '../../base/log.js';
import { defaultGateway4 } from '../../os/linux/host-network.js';
import type { NatStatus } from '../netcheck/nat-watch.js';
import type { MappingStatus } from './port-mapper.js';

/** What a node's thread is told: where it may be reached by a mapping. It answers with its IPv4 port; undefined: it has none. */
export type MappedRequest = { readonly input: readonly string[]; readonly output: number | undefined };

/** What the main thread of agent and connector adds to `status`. */
export interface NetworkView {
  readonly portMapping: MappingStatus | undefined;
  readonly nat: NatStatus | undefined;
}

export interface KeptMapping {
  readonly status: MappingStatus | undefined;
  networkChanged(): void;
  stop(): Promise<void>;
}

/** @param isWanted false: the gateway is never asked. */
export async function keepMapped(
  isWanted: boolean,
  tell: (addresses: readonly string[]) => Promise<number | undefined>,
  entropy: Entropy,
  log: Log,
): Promise<KeptMapping> {
  const insidePort = isWanted ? await tell([]) : undefined;
  if (insidePort === undefined)
    return { status: undefined, networkChanged: () => undefined, stop: async () => undefined };
  const { PortMapper } = await import('./port-mapper.js');
  return new PortMapper({
    gateway: defaultGateway4,
    insidePort,
    entropy,
    log,
    // The thread may have ended when the gateway answers.
    onMapped: (addresses) => void tell(addresses.map(String)).catch(() => undefined),
  });
}
