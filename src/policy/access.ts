/**
 * What one identity may reach, as a table that is asked once per packet and allocates nothing.
 *
 *   destination ─► longest prefix of *any* service ─► rules of the services on exactly that prefix
 *   rule: service index · protocol bits · range count n · n × (from, to)
 *
 * The longest prefix decides alone: a service on 10.0.0.5/32 that is not granted is not reachable through a granted
 * 10.0.0.0/24. Services on one and the same prefix are tried in the document's order.
 */
import { type Prefix, V4_MAPPED } from '../base/address.js';
import { Drop } from '../base/drop.js';
import { PrefixTrie } from '../base/trie.js';

/** IANA protocol numbers. */
const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;

/** Bits of a rule's protocols. */
export const PROTOCOL_BIT = { tcp: 1, udp: 2, icmp: 4 } as const;

const RULE_HEAD = 3;

/** One destination with the rules of the services on it; no rules = it exists but nothing on it is allowed. */
export interface Destination {
  readonly prefix: Prefix;
  readonly rules: readonly AccessRule[];
}

export interface AccessRule {
  readonly service: number;
  /** Sum of `PROTOCOL_BIT`s. */
  readonly protocols: number;
  /** Sorted ranges as in `ranges.ts`. */
  readonly ports: readonly number[];
}

/** Immutable; made by `PolicyView.accessFor`. */
export class AccessTable {
  readonly #trie = new PrefixTrie<Int32Array>();

  /** @param destinations each prefix once. */
  constructor(destinations: readonly Destination[]) {
    for (const { prefix, rules } of destinations) {
      const words: number[] = [];
      for (const { service, protocols, ports } of rules) words.push(service, protocols, ports.length / 2, ...ports);
      this.#trie.set(prefix, Int32Array.from(words));
    }
  }

  /**
   * Whether a packet may go to this destination.
   * @param protocol IANA number: 1 and 58 (echo requests, of the address's own family), 6, 17; anything else is refused.
   * @param w0 … w3 words of `IpAddress`.
   * @param port destination port in host order; ignored for ICMP.
   * @returns the index of the service in `PolicyView.services`, or a negated drop reason.
   */
  check(protocol: number, w0: number, w1: number, w2: number, w3: number, port: number): number {
    const rules = this.#trie.lookupWords(w0, w1, w2, w3);
    if (rules === undefined || rules.length === 0) return -Drop.destination_not_allowed;
    const v4 = w0 === 0 && w1 === 0 && w2 === V4_MAPPED;
    const icmp = protocol === (v4 ? ICMP : ICMPV6);
    const bit =
      protocol === TCP ? PROTOCOL_BIT.tcp : protocol === UDP ? PROTOCOL_BIT.udp : icmp ? PROTOCOL_BIT.icmp : 0;
    let reason: number = Drop.protocol_not_allowed;
    for (let at = 0; at < rules.length; ) {
      const ranges = at + RULE_HEAD;
      const next = ranges + rules[at + 2]! * 2;
      if ((rules[at + 1]! & bit) !== 0) {
        if (icmp) return rules[at]!;
        reason = Drop.port_not_allowed;
        for (let i = ranges; i < next; i += 2) if (port >= rules[i]! && port <= rules[i + 1]!) return rules[at]!;
      }
      at = next;
    }
    return -reason;
  }
}
