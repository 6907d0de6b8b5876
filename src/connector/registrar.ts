/**
 * Registers a connector's services at every relay it is connected to.
 *
 *   relay ready, services or policy changed ─► register ──no answer in 2 s──► again, doubling up to 60 s
 *                                                 └──registered──► at rest
 */
import { type Duration, earliest, type Instant, later, Seconds } from '../base/time.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Answer } from '../node/relay-requests.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import { MAX_SERVICES_PER_MESSAGE, type RegistrationStatus } from '../tunnel/messages.js';

/** A `register` without an answer is repeated after this, doubling. */
const RETRY: Duration = Seconds(2);
const RETRY_MAX: Duration = Seconds(60);

export interface RegistrarParts {
  /** Ids of the services there are now. */
  readonly services: () => Iterable<string>;
  readonly policy: PolicyKeeper;
  readonly onRegistered: (relay: RelayClient, service: string, status: RegistrationStatus) => void;
}

interface Place {
  at: Instant | undefined;
  wait: Duration;
  readonly statuses: Map<string, RegistrationStatus>;
}

export class Registrar {
  readonly #parts: RegistrarParts;
  /** The relays that are connected. */
  readonly #places = new Map<RelayClient, Place>();

  constructor(parts: RegistrarParts) {
    this.#parts = parts;
  }

  /** What relays say of a service: that of any that takes it, else of any that does not. */
  statusOf(service: string): RegistrationStatus | 'pending' {
    let status: RegistrationStatus | 'pending' = 'pending';
    for (const { statuses } of this.#places.values()) {
      const one = statuses.get(service);
      if (one === 'ok') return one;
      status = one ?? status;
    }
    return status;
  }

  relayReady(now: Instant, relay: RelayClient): void {
    const statuses = this.#places.get(relay)?.statuses ?? new Map<string, RegistrationStatus>();
    this.#places.set(relay, { at: now, wait: RETRY, statuses });
  }

  /** What it has said is remembered: coming back is no news. */
  relayLost(relay: RelayClient): void {
    const place = this.#places.get(relay);
    if (place !== undefined) place.at = undefined;
  }

  /** The services are others, or another policy says who may serve them. */
  changed(now: Instant): void {
    for (const [relay, place] of this.#places) {
      if (!relay.isReady) continue;
      place.at = now;
      place.wait = RETRY;
    }
  }

  /** These are served no longer. */
  withdraw(removed: readonly string[]): void {
    for (const [relay, { statuses }] of this.#places) {
      for (const id of removed) statuses.delete(id);
      for (let at = 0; at < removed.length; at += MAX_SERVICES_PER_MESSAGE) {
        const services = removed.slice(at, at + MAX_SERVICES_PER_MESSAGE).map((id) => ({ id }));
        relay.send({ type: 'withdraw', services });
      }
    }
  }

  turn(now: Instant): void {
    for (const [relay, place] of this.#places) {
      if (place.at !== undefined && now >= place.at) this.#register(now, relay, place);
    }
  }

  nextTimeout(): Instant | undefined {
    let next: Instant | undefined;
    for (const { at } of this.#places.values()) next = earliest(next, at);
    return next;
  }

  #register(now: Instant, relay: RelayClient, place: Place): void {
    place.at = later(now, place.wait);
    place.wait = Math.min(place.wait * 2, RETRY_MAX) as Duration;
    const ids = [...this.#parts.services()];
    if (ids.length === 0) place.at = undefined;
    for (let at = 0; at < ids.length; at += MAX_SERVICES_PER_MESSAGE) {
      const services = ids.slice(at, at + MAX_SERVICES_PER_MESSAGE).map((id) => ({ id }));
      relay.request(
        now,
        (id) => ({ type: 'register', id, services }),
        (_at, answer) => this.#registered(relay, place, answer),
      );
    }
  }

  #registered(relay: RelayClient, place: Place, answer: Answer): void {
    if (!answer.ok || answer.message.type !== 'registered') return;
    place.at = undefined;
    const present = new Set(this.#parts.services());
    for (const service of answer.message.services) {
      const { id } = service;
      const status = service.status === 'ok' && !this.#isAsInPolicy(service) ? 'conflict' : service.status;
      if (status !== service.status) relay.countLie(`another virtual address of ${id} than the policy's`);
      if (!present.has(id) || place.statuses.get(id) === status) continue;
      place.statuses.set(id, status);
      this.#parts.onRegistered(relay, id, status);
    }
  }

  /** What the relay repeats of a service is what the operator has signed; without a policy yet there is nothing to compare. */
  #isAsInPolicy(service: {
    readonly id: string;
    readonly virtualIp4?: string | undefined;
    readonly virtualIp6?: string | undefined;
  }): boolean {
    const { view } = this.#parts.policy;
    if (view === undefined) return true;
    const entry = view.service(service.id)?.entry;
    return entry?.virtualIp4 === service.virtualIp4 && entry?.virtualIp6 === service.virtualIp6;
  }
}
