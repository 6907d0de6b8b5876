/**
 * How a node's main thread keeps the ways to its relays: the addresses of their names, the way over TCP beside them, and what NAT is
 * before this machine, which the home relay's addresses tell.
 */
import { SocketAddress } from '../base/address.js';
import type { Log } from '../base/log.js';
import type { NodeState } from '../identity/node-state.js';
import { SystemEntropy } from '../os/entropy.js';
import type { RelayContact } from '../policy/relay-contact.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { IdleLifetimes } from './keep-alive.js';
import { knownRelays } from './known-relays.js';
import { NatWatch } from './netcheck/nat-watch.js';
import { RelayName } from './relay-name.js';
import { RelayTcp, type RelayTcpChoice } from './relay-tcp.js';
import type { RelayEvent } from './relays.js';
import { bridgeCounters } from './tcp-counters.js';
import type { DirectSettings, RelayAddresses, RelayAttempt, RelayTcpAddress } from './thread-setup.js';

/** What a node's packet thread is told of its relays. */
export interface RelayThread {
  request(name: 'relays', input: readonly string[]): Promise<undefined>;
  request(name: 'relayAddresses', input: RelayAddresses): Promise<undefined>;
  request(name: 'relayTcp', input: RelayTcpAddress): Promise<undefined>;
  request(name: 'natEase', input: NatEase): Promise<undefined>;
  request(name: 'idleLifetimes', input: IdleLifetimes): Promise<undefined>;
}

interface Way {
  readonly contact: RelayContact;
  readonly name: RelayName;
  readonly tcp: RelayTcp;
  addresses: readonly SocketAddress[];
}

export class RelayWays {
  readonly nat: NatWatch;
  readonly #state: NodeState;
  readonly #options: { readonly direct: DirectSettings; readonly relayTcp: RelayTcpChoice };
  readonly #log: Log;
  readonly #thread: () => RelayThread;
  #ways: readonly Way[];
  #home: string | undefined;

  /** @param thread is there once anything is to be told. */
  constructor(
    state: NodeState,
    options: { readonly direct: DirectSettings; readonly relayTcp: RelayTcpChoice },
    log: Log,
    thread: () => RelayThread,
  ) {
    this.#state = state;
    this.#options = options;
    this.#log = log;
    this.#thread = thread;
    // The thread may have ended when the look is over.
    this.nat = new NatWatch(new SystemEntropy(), {
      onEase: (ease) =>
        void thread()
          .request('natEase', ease)
          .catch(() => undefined),
      onLifetimes: (lifetimes) =>
        void thread()
          .request('idleLifetimes', lifetimes)
          .catch(() => undefined),
    });
    this.#ways = knownRelays(state).map((contact) => this.#make(contact));
  }

  /** Looks up every relay's name. */
  refresh(): void {
    for (const { name } of this.#ways) name.refresh();
  }

  /** The packet thread is about to try a relay. */
  attempt({ relay, port }: RelayAttempt): void {
    const way = this.#ways.find(({ contact }) => contact.name === relay);
    way?.name.refresh();
    way?.tcp.attempt(port);
  }

  /** What the packet thread tells, as far as it is about relays. */
  handle(
    event: RelayEvent | { readonly kind: 'policy'; readonly envelope: unknown } | { readonly kind: string },
  ): void {
    if (event.kind === 'relay-ready' && 'over' in event) {
      this.#ways.find(({ contact }) => contact.name === event.relay)?.tcp.ready(event.over === 'tcp');
    } else if (event.kind === 'relay-home' && 'relay' in event) {
      this.#home = event.relay;
      this.#watchNat();
    } else if (event.kind === 'policy' && 'envelope' in event) {
      this.#replace(knownRelays({ ...this.#state, policy: event.envelope as NodeState['policy'] }));
    }
  }

  /** Of all ways over TCP, for `status`; empty where there has been none. */
  get counters(): Record<string, number> {
    return bridgeCounters(this.#ways.map(({ tcp }) => tcp.counters));
  }

  stop(): void {
    this.nat.stop();
    for (const { tcp } of this.#ways) tcp.stop();
  }

  /** The operator has signed other relays: those that stay as they are keep their ways. */
  #replace(contacts: readonly RelayContact[]): void {
    const text = (contact: RelayContact): string => JSON.stringify([contact.name, contact.quic, contact.control]);
    const wanted = contacts.map(text).join();
    if (wanted === this.#ways.map(({ contact }) => text(contact)).join()) return;
    const before = this.#ways;
    this.#ways = contacts.map(
      (contact) => before.find((way) => text(way.contact) === text(contact)) ?? this.#make(contact),
    );
    for (const way of before) if (!this.#ways.includes(way)) way.tcp.stop();
    const names = contacts.map(({ name }) => name);
    this.#log.info({ relays: names }, 'the network has other relays');
    this.#thread()
      .request('relays', names)
      .then(
        () => this.refresh(),
        () => undefined,
      );
  }

  #make(contact: RelayContact): Way {
    const { network, caPem } = this.#state;
    const relay = contact.name;
    const way: Way = {
      contact,
      addresses: [],
      name: new RelayName(contact.quic, this.#log, (resolved) => {
        way.addresses = resolved.addresses.map((text) => SocketAddress.parse(text)!);
        this.#watchNat();
        return this.#thread().request('relayAddresses', { relay, resolved });
      }),
      tcp: new RelayTcp({
        network,
        relay: contact,
        caPem,
        isAllowed: this.#options.relayTcp === 'auto',
        environment: process.env,
        log: this.#log,
        tell: (at) =>
          this.#thread().request('relayTcp', { relay, address: at?.address, ...(at && { credit: at.credit }) }),
      }),
    };
    return way;
  }

  #watchNat(): void {
    if (this.#options.direct.path === 'relay') return;
    const way = this.#ways.find(({ contact }) => contact.name === this.#home) ?? this.#ways[0];
    if (way !== undefined && way.addresses.length > 0) this.nat.setRelays(way.addresses);
  }
}
