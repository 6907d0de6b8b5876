/**
 * Which service a destination belongs to, by the agent's own verified copy of the policy, and what of it may be asked for.
 *
 * Services may share a real prefix and differ in protocols, ports and connectors; then protocol and port decide. The later fragments
 * of a datagram have no port and go where the first one went.
 */
import { Prefix, V4_MAPPED } from '../base/address.js';
import { PrefixTrie } from '../base/trie.js';
import type { AccessTable } from '../policy/access.js';
import { SERVICE_RANGE_V4 } from '../policy/document.js';
import type { Identity } from '../policy/proof.js';
import type { CompiledService, PolicyView } from '../policy/view.js';
import { readU32 } from '../wire/bytes.js';
import { FlowHead, FragmentTrail } from './flow-head.js';

export class Routes {
  /** The prefixes that a TUN device takes: the virtual ranges, and real prefixes of granted services. */
  readonly prefixes: readonly Prefix[];
  readonly services: readonly CompiledService[];
  readonly access: AccessTable;
  readonly #all: readonly CompiledService[];
  readonly #trie = new PrefixTrie<CompiledService[]>();
  readonly #head = new FlowHead();
  readonly #trail = new FragmentTrail<CompiledService>();

  constructor(view: PolicyView, identity: Identity) {
    this.services = view.servicesFor(identity);
    this.access = view.accessFor(identity);
    this.#all = view.services;
    const shared = new Map<string, CompiledService[]>();
    for (const service of this.services) {
      for (const prefix of service.prefixes) {
        const key = prefix.toString();
        const list = shared.get(key) ?? [];
        list.push(service);
        shared.set(key, list);
        this.#trie.set(prefix, list);
      }
    }
    const real = this.services
      .filter((service) => service.entry.target === 'cidr')
      .flatMap((service) => service.prefixes);
    this.prefixes = [SERVICE_RANGE_V4, Prefix.parse(view.document.ula)!, ...real];
  }

  /** The granted service that a packet is for, or a negated drop reason. No allocation. */
  serviceFor(protocol: number, w0: number, w1: number, w2: number, w3: number, port: number): CompiledService | number {
    const index = this.access.check(protocol, w0, w1, w2, w3, port);
    return index < 0 ? index : this.#all[index]!;
  }

  /** Whether some granted service at this address is served by the connector. No allocation. */
  isServedBy(connector: string, w0: number, w1: number, w2: number, w3: number): boolean {
    const services = this.#trie.lookupWords(w0, w1, w2, w3);
    if (services === undefined) return false;
    for (let i = 0; i < services.length; i++) if (services[i]!.entry.connectors.includes(connector)) return true;
    return false;
  }

  /**
   * The granted service at the destination of the packet whose IP header stands at `offset`; where several share it, the one that its
   * protocol and port say, for a later fragment the first one's. To be asked of first fragments too, so that they are known. Whether
   * it may be asked for is not said (`serviceFor`). No allocation.
   */
  serviceOf(bytes: Uint8Array, offset: number): CompiledService | undefined {
    const isV4 = bytes[offset]! >>> 4 === 4;
    const w0 = isV4 ? 0 : readU32(bytes, offset + 24);
    const w1 = isV4 ? 0 : readU32(bytes, offset + 28);
    const w2 = isV4 ? V4_MAPPED : readU32(bytes, offset + 32);
    const w3 = readU32(bytes, isV4 ? offset + 16 : offset + 36);
    const services = this.#trie.lookupWords(w0, w1, w2, w3);
    if (services === undefined || services.length === 1) return services?.[0];

    const head = this.#head;
    head.read(bytes, offset);
    if (head.isLater) return this.#trail.find(head.datagram) ?? services[0];
    const index = this.access.check(head.protocol, w0, w1, w2, w3, head.port);
    const service = index < 0 ? services[0]! : this.#all[index]!;
    if (head.isFragment) this.#trail.note(head.datagram, service);
    return service;
  }
}
