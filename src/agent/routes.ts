/**
 * Which service a destination belongs to, by the agent's own verified copy of the policy, and what of it may be asked for.
 */
import { Prefix, V4_MAPPED } from '../base/address.js';
import { PrefixTrie } from '../base/trie.js';
import type { AccessTable } from '../policy/access.js';
import { SERVICE_RANGE_V4 } from '../policy/document.js';
import type { Identity } from '../policy/proof.js';
import type { CompiledService, PolicyView } from '../policy/view.js';
import { readU32 } from '../wire/bytes.js';

export class Routes {
  /** The prefixes that a TUN device takes: the virtual ranges, and real prefixes of granted services. */
  readonly prefixes: readonly Prefix[];
  readonly services: readonly CompiledService[];
  readonly access: AccessTable;
  readonly #all: readonly CompiledService[];
  readonly #trie = new PrefixTrie<CompiledService>();

  constructor(view: PolicyView, identity: Identity) {
    this.services = view.servicesFor(identity);
    this.access = view.accessFor(identity);
    this.#all = view.services;
    for (const service of this.services) for (const prefix of service.prefixes) this.#trie.set(prefix, service);
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

  /** The granted service at an address, whatever the protocol; for later fragments and sources of inbound packets. */
  serviceAt(w0: number, w1: number, w2: number, w3: number): CompiledService | undefined {
    return this.#trie.lookupWords(w0, w1, w2, w3);
  }

  /** The granted service that the packet whose IP header stands at `offset` is for. */
  serviceOf(bytes: Uint8Array, offset: number): CompiledService | undefined {
    return bytes[offset]! >>> 4 === 4
      ? this.serviceAt(0, 0, V4_MAPPED, readU32(bytes, offset + 16))
      : this.serviceAt(
          readU32(bytes, offset + 24),
          readU32(bytes, offset + 28),
          readU32(bytes, offset + 32),
          readU32(bytes, offset + 36),
        );
  }
}
