/**
 * A running agent as the main thread sees it: its packet thread, the addresses and routes of its TUN device, the relay's name,
 * the state folder.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Crypto } from '../base/crypto.js';
import { describeError, type SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { toMillis } from '../base/time.js';
import type { NodeState } from '../identity/node-state.js';
import { INNER_MTU } from '../node/inner-mtu.js';
import { type KeptMapping, keepMapped, type NetworkView } from '../node/portmap/keep-mapped.js';
import type { RelayTcpChoice } from '../node/relay-tcp.js';
import { RelayWays } from '../node/relay-ways.js';
import { endNodeThread, handleNodeEvent, keepRenewed, nodeThreadData, reloadIdentity } from '../node/run-node.js';
import { StateWriter } from '../node/state-writer.js';
import type { DirectSettings, RelayAttempt } from '../node/thread-setup.js';
import { SystemEntropy } from '../os/entropy.js';
import type { NetworkConfig } from '../os/io.js';
import { type HostNetworkWatch, watchHostNetwork } from '../os/linux/host-network.js';
import { createNetwork } from '../os/linux/network.js';
import { ThreadHost } from '../os/thread.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import type { AgentCoreEvent } from './core.js';
import { connectionsFrom, type Orphan } from './orphans.js';
import type {
  AgentDevice,
  AgentMode,
  AgentProtocol,
  AgentThreadData,
  AgentThreadStatus,
  ProxyOptions,
} from './thread-protocol.js';

const WARNINGS: ReadonlySet<string> = new Set(['relay-lost', 'policy-refused', 'denied']);
/** Packets the kernel holds for the device: bursts of small UDP packets outrun a turn of the loop. */
const QUEUE_LENGTH = 4000;

/** How long the device stays after the farewell, for what the host's kernel answers to it. */
const FAREWELL_MS = 50;
/** A thread that says farewell at all does so within a turn. */
const FAREWELL_LIMIT_MS = 300;
/** When connections of an earlier run are prodded, after the start: the first may come before there is a session. */
const PROD_AT_MS: readonly number[] = [0, 1000, 3000, 10_000, 30_000];

export interface AgentOptions {
  readonly state: NodeState;
  readonly mode: AgentMode;
  readonly tunName: string;
  readonly proxy: ProxyOptions;
  readonly port: number;
  readonly direct: DirectSettings;
  /** Whether the gateway is asked for a public port. */
  readonly portMapping: boolean;
  readonly relayTcp: RelayTcpChoice;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly onDeath: (error: SallyportError) => void;
}

export interface RunningAgent {
  /** As it is now: listeners change with `reload`. */
  readonly device: AgentDevice;
  /**
   * Reads the state folder again, has these listeners in the place of the present ones (clients stay), and packets take these links.
   * @throws SallyportError of the sockets, those of `reloadIdentity`; then the listeners stay as they were.
   */
  reload(proxy: ProxyOptions, path: PathChoice): Promise<void>;
  status(): Promise<AgentThreadStatus & NetworkView>;
  stop(): Promise<void>;
}

/** @throws SallyportError TUN_NOT_PERMITTED (mode tun), ROUTE_CONFLICT, and those of the sockets (environment). */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { state, log } = options;
  const data: AgentThreadData = {
    ...nodeThreadData(state, options.port, options.direct),
    mode: options.mode,
    tunName: options.tunName,
    proxy: options.proxy,
  };
  let routes: TunRoutes | undefined;
  let stopProdding = (): void => {};
  const writer = new StateWriter(log);
  let host: HostNetworkWatch | undefined;
  const ways = new RelayWays(state, options, log, () => thread);
  const thread = await ThreadHost.start<AgentProtocol>({
    url: new URL('./packet-thread.js', import.meta.url),
    name: 'agent',
    data,
    onEvent: (name, payload) => {
      if (name === 'hostNetwork') {
        if (payload === true) host?.look();
        else host?.poll();
        return;
      }
      if (name === 'relayAttempt') {
        ways.attempt(payload as RelayAttempt);
        return;
      }
      const event = payload as AgentCoreEvent;
      ways.handle(event);
      if (event.kind === 'routes') routes?.update(event.prefixes);
      else handleNodeEvent(event, state.dir, writer, log, WARNINGS);
    },
    onBug: (error, suppressed) =>
      log.error({ error: error.message, suppressed }, 'unexpected error on the packet path'),
    onStall: (span) => log.error({ milliseconds: toMillis(span) }, 'the packet thread does not answer'),
    onDeath: options.onDeath,
  });
  // The relay is looked for while the device is set up.
  ways.refresh();
  let device = await thread.request('device', undefined);
  try {
    if (device.tun !== undefined) {
      const network = createNetwork({ journal: join(state.dir, 'network.journal') });
      const { overlay, prefixes } = await thread.request('network', undefined);
      routes = new TunRoutes(network, device.tun, overlay, log);
      routes.update(prefixes);
      stopProdding = prodOrphans(connectionsFrom(overlay), (orphans) => thread.request('prod', orphans));
    }
  } catch (error) {
    ways.stop();
    await endNodeThread(thread, log);
    throw error;
  }
  const isTold = await thread.request('watchesNetwork', undefined);
  let watched: KeptMapping | undefined;
  host = watchHostNetwork((network) => {
    thread.request('hostNetwork', network).catch(() => undefined);
    watched?.networkChanged();
    ways.nat.networkChanged();
  });
  if (!isTold) host.poll();
  const tellMapped = (addresses: readonly string[]): Promise<number | undefined> => thread.request('mapped', addresses);
  const mapping = await keepMapped(options.portMapping, tellMapped, new SystemEntropy(), log);
  watched = mapping;
  mapping.networkChanged();
  const stopRenewal = keepRenewed(state, options.crypto, writer, log, async (certificatePem) => {
    await thread.request('identity', { certificatePem, keyPem: state.keyPem });
  });
  return {
    get device() {
      return device;
    },
    reload: async (proxy, path) => {
      await reloadIdentity(thread, state);
      device = await thread.request('listeners', proxy);
      await thread.request('path', path);
    },
    status: async () => {
      const status = await thread.request('status', undefined);
      const counters = { ...status.counters, ...ways.counters };
      return { ...status, counters, portMapping: mapping.status, nat: ways.nat.status };
    },
    stop: async () => {
      host.stop();
      const unmapped = mapping.stop();
      ways.stop();
      stopRenewal();
      writer.stop();
      stopProdding();
      if (routes !== undefined) await farewell(() => thread.request('farewell', undefined));
      routes?.undo();
      await endNodeThread(thread, log);
      await unmapped;
    },
  };
}

/** Has the programs' connections reset while the device still has its addresses. A thread that hangs holds up nothing. */
async function farewell(say: () => Promise<unknown>): Promise<void> {
  const said = say().then(
    () => delay(FAREWELL_MS),
    () => undefined,
  );
  await Promise.race([said, delay(FAREWELL_LIMIT_MS)]);
}

/** Prods connections of an earlier run until the kernel has let go of them. Returns the function that ends it. */
function prodOrphans(orphans: readonly Orphan[], prod: (orphans: Ends[]) => Promise<unknown>): () => void {
  const key = ({ local, remote }: Orphan): string => `${local} ${remote}`;
  const sources = [...new Set(orphans.map(({ local }) => local.ip.toString()))];
  const timers = PROD_AT_MS.map((wait) =>
    setTimeout(() => {
      const alive = new Set(connectionsFrom(sources).map(key));
      const left = orphans.filter((one) => alive.has(key(one)));
      const ends = left.map(({ local, remote }) => ({ local: local.toString(), remote: remote.toString() }));
      if (ends.length > 0) prod(ends).catch(() => undefined);
    }, wait).unref(),
  );
  return () => timers.forEach(clearTimeout);
}

interface Ends {
  readonly local: string;
  readonly remote: string;
}

/** The TUN device's addresses and its routes, which follow the policy. Nothing but the virtual prefixes is routed. */
class TunRoutes {
  readonly #network: NetworkConfig;
  readonly #device: string;
  readonly #log: Log;
  readonly #sources: { readonly v4: string | undefined; readonly v6: string | undefined };
  readonly #present = new Set<string>();

  /** @throws SallyportError when the device cannot be set up. */
  constructor(network: NetworkConfig, device: string, overlay: readonly string[], log: Log) {
    this.#network = network;
    this.#device = device;
    this.#log = log;
    this.#sources = { v4: overlay.find((ip) => !ip.includes(':')), v6: overlay.find((ip) => ip.includes(':')) };
    network.linkUp(device, INNER_MTU, QUEUE_LENGTH);
    for (const ip of overlay) network.addAddress(device, ip, ip.includes(':') ? 128 : 32);
  }

  /** Adds what is new and removes what is gone; a conflict with a route of the host leaves that prefix out, and says so. */
  update(prefixes: readonly string[]): void {
    for (const prefix of this.#present) {
      if (prefixes.includes(prefix)) continue;
      this.#network.removeRoute(this.#device, prefix);
      this.#present.delete(prefix);
    }
    for (const prefix of prefixes) {
      if (this.#present.has(prefix)) continue;
      const source = prefix.includes(':') ? this.#sources.v6 : this.#sources.v4;
      if (source === undefined) continue;
      try {
        this.#network.addRoute(this.#device, prefix, source);
        this.#present.add(prefix);
      } catch (error) {
        this.#log.error({ prefix, error: describeError(error) }, 'this prefix is not routed into the tunnel');
      }
    }
  }

  undo(): void {
    this.#network.undo();
  }
}
