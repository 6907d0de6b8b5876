/**
 * Which nodes are connected, and who may replace whom.
 *
 *   same node        same name, role and invitation: its new connection replaces the old one at once, or, when it asks for
 *                    that, goes on with what the old one has
 *   older key        same node, but its proof has fewer key rotations than the connected one's: refused
 *   another node     same name and role, other invitation: refused while the first is connected
 */
import type { Instant } from '../base/time.js';
import type { NodeRole } from '../policy/names.js';
import type { Identity } from '../policy/proof.js';
import type { RateLimit } from './limits.js';
import { nodeKey, RelayNode } from './node.js';
import type { NodeConnection } from './node-connection.js';

export type Admission =
  | { readonly outcome: 'admitted'; readonly node: RelayNode }
  | { readonly outcome: 'replaced'; readonly node: RelayNode; readonly older: RelayNode }
  | { readonly outcome: 'resumed'; readonly node: RelayNode }
  | { readonly outcome: 'name-taken' | 'superseded' };

export class Registry {
  readonly #nodes = new Map<string, RelayNode>();
  readonly #limits: Readonly<Record<NodeRole, RateLimit>>;

  constructor(limits: Readonly<Record<NodeRole, RateLimit>>) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#nodes.size;
  }

  get nodes(): IterableIterator<RelayNode> {
    return this.#nodes.values();
  }

  agent(name: string): RelayNode | undefined {
    return this.#nodes.get(nodeKey('agent', name));
  }

  connector(name: string): RelayNode | undefined {
    return this.#nodes.get(nodeKey('connector', name));
  }

  /** Admits the node behind a connection whose proof has been verified. @param resume it wants to go on as it is, with the same key. */
  admit(now: Instant, identity: Identity, connection: NodeConnection, resume: boolean): Admission {
    const key = nodeKey(identity.role, identity.name);
    const older = this.#nodes.get(key);
    if (older !== undefined && older.identity.invitationId !== identity.invitationId) return { outcome: 'name-taken' };
    if (older !== undefined && older.identity.rotations > identity.rotations) return { outcome: 'superseded' };
    if (resume && older?.identity.rotations === identity.rotations) return { outcome: 'resumed', node: older };
    const node = new RelayNode(identity, connection, now, this.#limits[identity.role]);
    this.#nodes.set(key, node);
    return older === undefined ? { outcome: 'admitted', node } : { outcome: 'replaced', node, older };
  }

  /** Removes exactly this node; a newer one of the same name stays. Returns whether it was there. */
  remove(node: RelayNode): boolean {
    if (this.#nodes.get(node.key) !== node) return false;
    return this.#nodes.delete(node.key);
  }

  /** Connected connectors that have registered `service`. */
  serving(service: string): RelayNode[] {
    const result: RelayNode[] = [];
    for (const node of this.#nodes.values()) {
      if (node.identity.role === 'connector' && node.services.has(service)) result.push(node);
    }
    return result;
  }
}
