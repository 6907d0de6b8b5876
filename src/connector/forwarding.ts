/**
 * Which interfaces packets pass to and from in `--mode kernel`, and the kernel's settings that let them.
 *
 *   IPv4   net/ipv4/conf/IF/forwarding of the interface a packet comes in on: the device, and those that answers come in on
 *   IPv6   net/ipv6/conf/IF/force_forwarding, the same (Linux 6.17); before that net/ipv6/conf/all/forwarding, which makes a host
 *          forget the routes it has learnt from advertisements unless accept_ra is 2 first
 *
 * What forwards only because of us is told, so that the packet rules let it forward into the device and nowhere else.
 * Linux, Documentation/networking/ip-sysctl.rst.
 */
import { IpAddress, Prefix } from '../base/address.js';
import { PrefixTrie } from '../base/trie.js';
import type { HostRoute } from '../os/io.js';
import type { KernelService, OpenedInterfaces } from './kernel-rules.js';

const ALL_V6 = 'net/ipv6/conf/all/forwarding';

/** The interfaces towards the services, by family: those of the routes to backends, and of all routes inside real prefixes. */
export function interfacesOf(
  services: readonly KernelService[],
  routes: readonly HostRoute[],
  own: ReadonlySet<string>,
): { readonly v4: ReadonlySet<string>; readonly v6: ReadonlySet<string> } {
  const table = new PrefixTrie<HostRoute>();
  for (const route of routes) table.set(route.prefix, route);
  const found = { v4: new Set<string>(), v6: new Set<string>() };
  const add = (route: HostRoute | undefined): void => {
    if (route !== undefined) found[`v${route.prefix.ip.family}`].add(route.device);
  };
  for (const { address, prefix: text } of services) {
    const ip = address === undefined ? undefined : IpAddress.parse(address);
    // What is on this machine is not forwarded.
    if (ip !== undefined && !own.has(ip.toString())) add(table.lookup(ip));
    const prefix = text === undefined ? undefined : Prefix.parse(text);
    if (prefix === undefined) continue;
    add(table.lookup(prefix.ip));
    for (const route of routes) if (prefix.overlaps(route.prefix) && route.prefix.length > prefix.length) add(route);
  }
  return found;
}

export interface ForwardingPlan {
  readonly opened: OpenedInterfaces;
  /** Settings to change, in this order, after the packet rules know what is opened. */
  readonly changes: readonly (readonly [key: string, value: string])[];
}

/** What switches forwarding on where it is off; what was switched on before stays among the opened. */
export class Forwarding {
  readonly #setting: (key: string) => string | undefined;
  readonly #device: string;
  readonly #opened = { v4: new Set<string>(), v6: new Set<string>() };

  /** @param setting as `NetworkConfig.setting` */
  constructor(setting: (key: string) => string | undefined, device: string) {
    this.#setting = setting;
    this.#device = device;
  }

  /** @param all every interface of the host */
  plan(
    wanted: { readonly v4: ReadonlySet<string>; readonly v6: ReadonlySet<string> },
    all: readonly string[],
  ): ForwardingPlan {
    const changes: [string, string][] = [];
    const open = (family: 'v4' | 'v6', name: string, key: string): void => {
      if (this.#setting(key) !== '0') return;
      changes.push([key, '1']);
      if (name !== this.#device) this.#opened[family].add(name);
    };
    for (const name of [this.#device, ...wanted.v4]) open('v4', name, `net/ipv4/conf/${name}/forwarding`);
    if (wanted.v6.size > 0 && this.#setting(ALL_V6) === '0') {
      const isSingle = this.#setting(`net/ipv6/conf/${this.#device}/force_forwarding`) !== undefined;
      if (isSingle) {
        for (const name of [this.#device, ...wanted.v6]) open('v6', name, `net/ipv6/conf/${name}/force_forwarding`);
      } else changes.push(...this.#openAll(all));
    }
    return { opened: { v4: [...this.#opened.v4], v6: [...this.#opened.v6] }, changes };
  }

  #openAll(all: readonly string[]): [string, string][] {
    const changes: [string, string][] = [];
    for (const name of all) {
      if (name === this.#device) continue;
      const accepts = `net/ipv6/conf/${name}/accept_ra`;
      if (this.#setting(accepts) === '1') changes.push([accepts, '2']);
      this.#opened.v6.add(name);
    }
    return [...changes, [ALL_V6, '1']];
  }
}
