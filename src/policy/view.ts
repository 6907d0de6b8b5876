/**
 * A policy document compiled for questions: who may use which service, which connector may serve it, and the table that is
 * asked per packet. Immutable; a new version makes a new view, and whoever holds an answer asks again.
 */
import { Prefix } from '../base/address.js';
import { PrefixTrie } from '../base/trie.js';
import { AccessTable, PROTOCOL_BIT } from './access.js';
import type { Grant, PolicyDocument, ServiceEntry, ServicePath } from './document.js';
import type { Identity } from './proof.js';
import { intersect, portRanges, unite } from './ranges.js';

/** What evaluation needs of an identity. */
export type Subject = Pick<Identity, 'role' | 'name' | 'groups' | 'invitationId'>;

/** A service with its destinations parsed. */
export interface CompiledService {
  /** Position in `PolicyView.services`; what `AccessTable.check` returns. */
  readonly index: number;
  readonly id: string;
  readonly entry: ServiceEntry;
  /** Destinations: both virtual addresses in full length, or the one real prefix. */
  readonly prefixes: readonly Prefix[];
  /** Sum of `PROTOCOL_BIT`s. */
  readonly protocols: number;
  /** Sorted port ranges (`ranges.ts`). */
  readonly ports: readonly number[];
}

export function compile(document: PolicyDocument): PolicyView {
  return new PolicyView(document);
}

export class PolicyView {
  readonly document: PolicyDocument;
  readonly services: readonly CompiledService[];
  /** Invitation ids; for `verifyProof`. */
  readonly revocations: ReadonlySet<string>;
  readonly #byId: ReadonlyMap<string, CompiledService>;
  /** The grants that name each service (or all), in the document's order. */
  readonly #grantsOf: ReadonlyMap<string, readonly Grant[]>;
  /** Every destination once, with the services on it in the document's order. */
  readonly #destinations: readonly { readonly prefix: Prefix; readonly services: readonly CompiledService[] }[];
  /** The paths of destinations; undefined: no service has one of its own. */
  readonly #paths: PrefixTrie<ServicePath | 'any'> | undefined;
  /** Groups that the document itself gives to an agent. */
  readonly #groups = new Map<string, string[]>();

  /** Use `compile`. */
  constructor(document: PolicyDocument) {
    this.document = document;
    this.services = document.services.map(compileService);
    this.revocations = new Set(document.revocations);
    this.#byId = new Map(this.services.map((service) => [service.id, service]));
    this.#grantsOf = indexGrants(document);
    this.#destinations = indexDestinations(this.services);
    if (this.services.some(({ entry }) => entry.path !== undefined)) {
      this.#paths = new PrefixTrie();
      for (const { prefixes, entry } of this.services)
        for (const prefix of prefixes) this.#paths.set(prefix, entry.path ?? 'any');
    }
    for (const [group, members] of Object.entries(document.groups)) {
      for (const member of members) this.#groups.set(member, [...(this.#groups.get(member) ?? []), group]);
    }
  }

  get version(): number {
    return this.document.version;
  }

  /** Whether packets of some service are held to links of one kind. */
  get hasPaths(): boolean {
    return this.#paths !== undefined;
  }

  /** The links that packets to or from this address are held to; undefined: to none. No allocation. */
  pathAt(w0: number, w1: number, w2: number, w3: number): ServicePath | undefined {
    const path = this.#paths?.lookupWords(w0, w1, w2, w3);
    return path === 'any' ? undefined : path;
  }

  service(id: string): CompiledService | undefined {
    return this.#byId.get(id);
  }

  isRevoked(invitationId: string): boolean {
    return this.revocations.has(invitationId);
  }

  /** The services this identity may use in any way, in the document's order. Connectors use none. */
  servicesFor(subject: Subject): readonly CompiledService[] {
    return this.services.filter((service) => this.allowedPorts(subject, service).length > 0);
  }

  mayUse(subject: Subject, serviceId: string): boolean {
    const service = this.#byId.get(serviceId);
    return service !== undefined && this.allowedPorts(subject, service).length > 0;
  }

  /** Whether the connector of this name may serve the service. */
  connectorMay(connector: string, serviceId: string): boolean {
    return this.#byId.get(serviceId)?.entry.connectors.includes(connector) ?? false;
  }

  servicesOf(connector: string): readonly CompiledService[] {
    return this.services.filter((service) => service.entry.connectors.includes(connector));
  }

  /**
   * The per-packet table of this identity.
   * @param connector when given, only the services this connector may serve are allowed; the others still shadow shorter
   * prefixes.
   */
  accessFor(subject: Subject, connector?: string): AccessTable {
    const rules = this.services.map((service) => {
      const served = connector === undefined || service.entry.connectors.includes(connector);
      const ports = served ? this.allowedPorts(subject, service) : [];
      return { service: service.index, protocols: service.protocols, ports };
    });
    return new AccessTable(
      this.#destinations.map(({ prefix, services }) => ({
        prefix,
        rules: services.map((service) => rules[service.index]!).filter((rule) => rule.ports.length > 0),
      })),
    );
  }

  /** The ports of this service that the grants give to the subject; empty = denied. */
  allowedPorts(subject: Subject, service: CompiledService): readonly number[] {
    const grants = this.grantsFor(subject, service.id);
    if (grants.length === 0) return [];
    return unite(
      grants.flatMap((grant) =>
        grant.ports === undefined ? service.ports : intersect(service.ports, portRanges(grant.ports)),
      ),
    );
  }

  /** The grants that give this service to the subject. */
  grantsFor(subject: Subject, serviceId: string): readonly Grant[] {
    if (subject.role !== 'agent' || this.isRevoked(subject.invitationId)) return [];
    const grants = this.#grantsOf.get(serviceId) ?? [];
    const names = this.subjectNames(subject);
    return grants.filter((grant) => grant.from.some((from) => names.has(from)));
  }

  /** Every name a grant may call this agent by. */
  subjectNames(subject: Subject): ReadonlySet<string> {
    const groups = [...subject.groups, ...(this.#groups.get(subject.name) ?? [])];
    return new Set(['*', `agent:${subject.name}`, ...groups.map((group) => `group:${group}`)]);
  }
}

function compileService(entry: ServiceEntry, index: number): CompiledService {
  const texts = entry.prefix === undefined ? [entry.virtualIp4!, entry.virtualIp6!] : [entry.prefix];
  return {
    index,
    id: entry.id,
    entry,
    prefixes: texts.map((text) => Prefix.parse(text)!),
    protocols: entry.protocols.reduce((bits, protocol) => bits | PROTOCOL_BIT[protocol], 0),
    ports: portRanges(entry.ports),
  };
}

function indexGrants({ services, grants }: PolicyDocument): Map<string, Grant[]> {
  const index = new Map<string, Grant[]>(services.map((service) => [service.id, []]));
  for (const grant of grants) {
    const ids = grant.to.includes('*') ? index.keys() : new Set(grant.to);
    for (const id of ids) index.get(id)?.push(grant);
  }
  return index;
}

function indexDestinations(services: readonly CompiledService[]): { prefix: Prefix; services: CompiledService[] }[] {
  const index = new Map<string, { prefix: Prefix; services: CompiledService[] }>();
  for (const service of services) {
    for (const prefix of service.prefixes) {
      const key = prefix.toString();
      const destination = index.get(key) ?? { prefix, services: [] };
      index.set(key, destination);
      destination.services.push(service);
    }
  }
  return [...index.values()];
}
