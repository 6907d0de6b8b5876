/**
 * The host's side of `--mode kernel`, kept by the main thread: the device with its routes, packet rules, and forwarding. All of it is
 * in the journal of the state folder, and taken away at the end or, after a crash, at the next start.
 *
 *   start ─► device up ─► table (drops what it does not know) ─► services ─► routes ─► forwarding
 *   policy, services, addresses of backends, interfaces change ─► services, routes, forwarding again
 */
import { networkInterfaces } from 'node:os';
import { describeError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { INNER_MTU } from '../node/inner-mtu.js';
import type { NetworkConfig } from '../os/io.js';
import { Forwarding, interfacesOf } from './forwarding.js';
import { type KernelPlan, overlayPrefixes, servicesScript, tableOf, tableScript } from './kernel-rules.js';

/** Packets the kernel holds for the device: bursts of small UDP packets outrun a turn of the loop. */
const QUEUE_LENGTH = 4000;

export class KernelNetwork {
  readonly #network: NetworkConfig;
  readonly #device: string;
  readonly #log: Log;
  readonly #forwarding: Forwarding;
  readonly #routes = new Set<string>();
  /** The services in force. */
  #script = '';

  /** @throws SallyportError NETWORK_NOT_PERMITTED, NFTABLES_MISSING, IPROUTE2_MISSING, NETWORK_FAILED (environment). */
  constructor(network: NetworkConfig, device: string, log: Log) {
    this.#network = network;
    this.#device = device;
    this.#log = log;
    this.#forwarding = new Forwarding((key) => network.setting(key), device);
    network.setTable(tableOf(device), tableScript(device));
    // No address of its own: it would announce itself to agents.
    network.set(`net/ipv6/conf/${device}/addr_gen_mode`, '1');
    network.linkUp(device, INNER_MTU, QUEUE_LENGTH);
  }

  /** Has rules, routes and forwarding follow the plan. @throws SallyportError ROUTE_CONFLICT, and those of the constructor. */
  update(plan: KernelPlan): void {
    const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    const own = new Set(addresses.map(({ address }) => address));
    if (plan.services.some(({ address }) => address?.startsWith('127.'))) {
      this.#network.set(`net/ipv4/conf/${this.#device}/route_localnet`, '1');
    }
    const routes = this.#network.routes().filter(({ device }) => device !== this.#device);
    const wanted = interfacesOf(plan.services, routes, own);
    const { opened, changes } = this.#forwarding.plan(wanted, Object.keys(networkInterfaces()));
    const script = servicesScript(this.#device, plan, opened);
    if (script !== this.#script) this.#network.setTable(tableOf(this.#device), script);
    this.#script = script;
    for (const prefix of overlayPrefixes(plan.ula)) {
      if (this.#routes.has(prefix)) continue;
      this.#network.addRoute(this.#device, prefix);
      this.#routes.add(prefix);
    }
    for (const [key, value] of changes) this.#network.set(key, value);
  }

  /** As `update`; what fails is logged, and what was in force stays. */
  tryUpdate(plan: KernelPlan): void {
    try {
      this.update(plan);
    } catch (error) {
      this.#log.error({ error: describeError(error) }, 'the packet rules could not follow');
    }
  }

  /** Packets and flows that the rules have refused. */
  counters(): Record<string, number> {
    try {
      const counted = Object.entries(this.#network.counters(tableOf(this.#device)));
      return Object.fromEntries(counted.map(([name, packets]) => [`kernel.${name}`, packets]));
    } catch (error) {
      this.#log.warn({ error: describeError(error) }, 'the packet rules’ counters are not there');
      return {};
    }
  }

  undo(): void {
    this.#network.undo();
  }
}
