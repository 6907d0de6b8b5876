/**
 * A running connector as the main thread sees it: its packet thread, the names of relay and backends, the state folder.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Crypto } from '../base/crypto.js';
import type { SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { Seconds, toMillis } from '../base/time.js';
import type { NodeState } from '../identity/node-state.js';
import { type KeptMapping, keepMapped, type NetworkView } from '../node/portmap/keep-mapped.js';
import { resolveHost } from '../node/relay-name.js';
import type { RelayTcpChoice } from '../node/relay-tcp.js';
import { RelayWays } from '../node/relay-ways.js';
import { endNodeThread, handleNodeEvent, keepRenewed, nodeThreadData, reloadIdentity } from '../node/run-node.js';
import { StateWriter } from '../node/state-writer.js';
import type { DirectSettings, RelayAttempt } from '../node/thread-setup.js';
import { SystemEntropy } from '../os/entropy.js';
import { type HostNetworkWatch, watchHostNetwork } from '../os/linux/host-network.js';
import { createNetwork } from '../os/linux/network.js';
import { ThreadHost } from '../os/thread.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import { type ServiceBackend, serviceBackend } from './backends.js';
import type { ConnectorCoreEvent } from './core.js';
import { KernelNetwork } from './kernel-network.js';
import type { KernelPlan } from './kernel-rules.js';
import type {
  ConnectorMode,
  ConnectorProtocol,
  ConnectorThreadData,
  ConnectorThreadStatus,
} from './thread-protocol.js';

const WARNINGS: ReadonlySet<string> = new Set(['relay-lost', 'policy-refused', 'link-refused']);
/** Backends' host names are looked up this often: the system's cache knows their real lifetimes. */
const RESOLVE_INTERVAL = Seconds(30);

export interface ConnectorOptions {
  readonly state: NodeState;
  /** Service id → backend URL; overrides those of the invitation. */
  readonly services: Readonly<Record<string, string>>;
  readonly mode: ConnectorMode;
  /** Name of the TUN device of mode kernel. */
  readonly tunName: string;
  readonly port: number;
  readonly direct: DirectSettings;
  /** Whether the gateway is asked for a public port. */
  readonly portMapping: boolean;
  readonly relayTcp: RelayTcpChoice;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly onDeath: (error: SallyportError) => void;
}

export interface RunningConnector {
  status(): Promise<ConnectorThreadStatus & NetworkView>;
  /**
   * Reads the state folder again, puts these services in the place of the configured ones, and has packets take these links.
   * @throws SallyportError BACKEND_INVALID (caller), those of `reloadIdentity`; then the services stay as they were.
   */
  reload(services: Readonly<Record<string, string>>, path: PathChoice): Promise<void>;
  stop(): Promise<void>;
}

/**
 * @throws SallyportError BACKEND_INVALID (caller), those of the sockets, and in mode kernel KERNEL_MODE_NOT_PERMITTED and those of
 * `KernelNetwork` (environment).
 */
export async function startConnector(options: ConnectorOptions): Promise<RunningConnector> {
  const { state, log } = options;
  const services = { ...state.services, ...options.services };
  let backends = compile(services);
  const data: ConnectorThreadData = {
    ...nodeThreadData(state, options.port, options.direct),
    services,
    mode: options.mode,
    tunName: options.tunName,
  };
  let kernel: KernelNetwork | undefined;
  const followPlan = async (): Promise<void> => {
    if (kernel !== undefined) kernel.tryUpdate(await thread.request('kernel', undefined));
  };
  const writer = new StateWriter(log);
  let host: HostNetworkWatch | undefined;
  const ways = new RelayWays(state, options, log, () => thread);
  const thread = await ThreadHost.start<ConnectorProtocol>({
    url: new URL('./packet-thread.js', import.meta.url),
    name: 'connector',
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
      const event = payload as ConnectorCoreEvent;
      if (event.kind === 'policy') void followPlan().catch(() => undefined);
      ways.handle(event);
      handleEvent(event, state.dir, writer, log);
    },
    onBug: (error, suppressed) =>
      log.error({ error: error.message, suppressed }, 'unexpected error on the packet path'),
    onStall: (span) => log.error({ milliseconds: toMillis(span) }, 'the packet thread does not answer'),
    onDeath: options.onDeath,
  });
  const resolveBackends = async (): Promise<void> => {
    const resolved: Record<string, string> = {};
    for (const { id, host, address } of backends) {
      if (host === undefined || address !== undefined) continue;
      const {
        addresses: [found],
        problem,
      } = await resolveHost(`${host}:0`);
      if (found !== undefined) resolved[id] = found.replace(/^\[|\]?:0$/g, '');
      else log.warn({ service: id }, `the backend is not found: ${problem ?? 'no address'}`);
    }
    if (Object.keys(resolved).length > 0) await thread.request('backends', resolved);
    await followPlan();
  };
  ways.refresh();
  await resolveBackends();
  try {
    kernel = await startKernel(options, () => thread.request('kernel', undefined));
  } catch (error) {
    await endNodeThread(thread, log);
    throw error;
  }
  const resolving = setInterval(() => void resolveBackends().catch(() => undefined), toMillis(RESOLVE_INTERVAL));
  resolving.unref();
  const isTold = await thread.request('watchesNetwork', undefined);
  let watched: KeptMapping | undefined;
  host = watchHostNetwork((network) => {
    thread.request('hostNetwork', network).catch(() => undefined);
    void followPlan().catch(() => undefined);
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
    status: async () => {
      const status = await thread.request('status', undefined);
      const counters = { ...status.counters, ...kernel?.counters(), ...ways.counters };
      return { ...status, counters, portMapping: mapping.status, nat: ways.nat.status };
    },
    reload: async (configured, path) => {
      const present = await reloadIdentity(thread, state);
      const wanted = { ...present.services, ...configured };
      const compiled = compile(wanted);
      await thread.request('services', wanted);
      await thread.request('path', path);
      backends = compiled;
      await resolveBackends();
    },
    stop: async () => {
      clearInterval(resolving);
      host.stop();
      const unmapped = mapping.stop();
      ways.stop();
      stopRenewal();
      writer.stop();
      await endNodeThread(thread, log);
      // The resets of flows have passed the rules by now.
      kernel?.undo();
      await unmapped;
    },
  };
}

/** Sets up the host for mode kernel; in mode engine takes away what a run of the other mode may have left. */
async function startKernel(
  { mode, state, tunName, log }: ConnectorOptions,
  plan: () => Promise<KernelPlan>,
): Promise<KernelNetwork | undefined> {
  const journal = join(state.dir, 'network.journal');
  if (mode === 'engine') {
    if (existsSync(journal)) createNetwork({ journal });
    return undefined;
  }
  const network = createNetwork({ journal });
  try {
    const kernel = new KernelNetwork(network, tunName, log);
    kernel.update(await plan());
    return kernel;
  } catch (error) {
    network.undo();
    throw error;
  }
}

function compile(services: Readonly<Record<string, string>>): ServiceBackend[] {
  return Object.entries(services).map(([id, url]) => serviceBackend(id, url));
}

/** A service the relay does not take is somebody's mistake. */
function handleEvent(event: ConnectorCoreEvent, dir: string, writer: StateWriter, log: Log): void {
  if (event.kind === 'registered' && event.status !== 'ok') {
    log.warn({ service: event.service, status: event.status }, 'the relay does not take this service');
  } else handleNodeEvent(event, dir, writer, log, WARNINGS);
}
