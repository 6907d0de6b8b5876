/** What each relay says of which services have a connector there now. Advice only: the agent believes the policy, not a relay. */
import type { RelayClient } from '../node/relay-client.js';

export class Catalogues {
  readonly #byRelay = new Map<RelayClient, ReadonlySet<string>>();
  #available: ReadonlySet<string> = new Set();

  /** Service ids that some relay has a connector for. */
  get available(): ReadonlySet<string> {
    return this.#available;
  }

  /** Whether this relay has said that the service has no connector there. */
  isAbsent(relay: RelayClient, service: string): boolean {
    return this.#byRelay.get(relay)?.has(service) === false;
  }

  set(relay: RelayClient, available: ReadonlySet<string>): void {
    this.#byRelay.set(relay, available);
    this.#unite();
  }

  /** The relay is gone: what it said counts no longer, unless there is nobody else's word. */
  lost(relay: RelayClient): void {
    if (this.#byRelay.size > 1 && this.#byRelay.delete(relay)) this.#unite();
  }

  #unite(): void {
    const all = new Set<string>();
    for (const services of this.#byRelay.values()) for (const id of services) all.add(id);
    this.#available = all;
  }
}
