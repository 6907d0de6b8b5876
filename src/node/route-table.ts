/** Where the host's routing table sends an address: asked about every one that a peer names. */
import { type IpAddress, Prefix } from '../base/address.js';
import type { HostNetwork } from '../os/io.js';
import type { RouteKind } from '../tunnel/punch/candidates.js';

export class RouteTable {
  readonly #routes: readonly { readonly prefix: Prefix; readonly isTunnel: boolean }[];

  constructor(routes: HostNetwork['routes']) {
    this.#routes = routes
      .map(({ prefix, isTunnel }) => ({ prefix: Prefix.parse(prefix)!, isTunnel }))
      .sort((a, b) => b.prefix.bits - a.prefix.bits);
  }

  /** Of the longest prefix that holds `ip`. */
  route(ip: IpAddress): RouteKind {
    const found = this.#routes.find(({ prefix }) => prefix.contains(ip));
    if (found === undefined) return 'none';
    if (found.isTunnel) return 'tunnel';
    return found.prefix.length === 0 ? 'default' : 'specific';
  }
}
