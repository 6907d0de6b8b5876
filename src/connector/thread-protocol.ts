/** What a connector's main thread and its packet thread say to each other. */
import type { IdleLifetimes } from '../node/keep-alive.js';
import type { LinkStatus, RelayPlaceStatus, RelayStatus } from '../node/link-status.js';
import type { MappedRequest } from '../node/portmap/keep-mapped.js';
import type { NodeThreadData, RelayAddresses, RelayAttempt, RelayTcpAddress } from '../node/thread-setup.js';
import type { HostNetwork } from '../os/io.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { ConnectorCoreEvent } from './core.js';
import type { KernelPlan } from './kernel-rules.js';

/** Where flows of agents end: in a stack of ours and the host's sockets, or nowhere: the host's kernel routes them. */
export type ConnectorMode = 'engine' | 'kernel';

export interface ConnectorThreadData extends NodeThreadData {
  readonly mode: ConnectorMode;
  /** Name of the TUN device of mode kernel. */
  readonly tunName: string;
  /** Service id → backend URL. */
  readonly services: Readonly<Record<string, string>>;
}

export interface ConnectorSessionStatus {
  readonly agent: string;
  readonly session: string;
  /** The one that packets go out on. */
  readonly link: LinkStatus | undefined;
  readonly links: readonly LinkStatus[];
  readonly secondsOpen: number;
  readonly flows: { readonly tcp: number; readonly udp: number; readonly echo: number };
  readonly denied: number;
  readonly services: readonly string[];
}

export interface ConnectorThreadStatus {
  readonly mode: ConnectorMode;
  /** Interface name in mode kernel. */
  readonly tun: string | undefined;
  /** The home relay. */
  readonly relay: RelayStatus;
  /** Every relay of the network. */
  readonly relays: readonly RelayPlaceStatus[];
  readonly policyVersion: number;
  readonly policyState: string;
  readonly services: readonly {
    readonly id: string;
    readonly backend: string;
    readonly registration: string;
    readonly resolved: string | undefined;
  }[];
  readonly sessions: readonly ConnectorSessionStatus[];
  /** True when the host permits no ICMP socket, so that echo is answered by the connector itself. */
  readonly echoAnsweredHere: boolean;
  readonly counters: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
}

export type ConnectorProtocol = {
  readonly requests: {
    readonly status: { readonly input: undefined; readonly output: ConnectorThreadStatus };
    readonly mapped: MappedRequest;
    readonly hostNetwork: { readonly input: HostNetwork; readonly output: undefined };
    /** Whether the thread tells of changes of the network. */
    readonly watchesNetwork: { readonly input: undefined; readonly output: boolean };
    /** How easily a peer gets through the NAT before this host. */
    readonly natEase: { readonly input: NatEase; readonly output: undefined };
    /** How long that NAT keeps idle mappings. */
    readonly idleLifetimes: { readonly input: IdleLifetimes; readonly output: undefined };
    /** The network's relays are these from now on, by name. */
    readonly relays: { readonly input: readonly string[]; readonly output: undefined };
    readonly relayAddresses: { readonly input: RelayAddresses; readonly output: undefined };
    readonly relayTcp: { readonly input: RelayTcpAddress; readonly output: undefined };
    /** Addresses of backends by service id, for host names. */
    readonly backends: { readonly input: Readonly<Record<string, string>>; readonly output: undefined };
    /** A policy envelope that was found on disk. Fails with those errors of `PolicyKeeper.offer`. */
    readonly policy: { readonly input: unknown; readonly output: undefined };
    readonly identity: {
      readonly input: { readonly certificatePem: string; readonly keyPem: string };
      readonly output: undefined;
    };
    /** Replaces the services: id → backend URL, checked. */
    readonly services: { readonly input: Readonly<Record<string, string>>; readonly output: undefined };
    readonly path: { readonly input: PathChoice; readonly output: undefined };
    /** What rules and routes of mode kernel are to follow. */
    readonly kernel: { readonly input: undefined; readonly output: KernelPlan };
    readonly shutdown: { readonly input: undefined; readonly output: undefined };
  };
  readonly events: {
    readonly event: ConnectorCoreEvent;
    readonly relayAttempt: RelayAttempt;
    /** The host's network may have changed; `false`: no more is told. */
    readonly hostNetwork: boolean;
  };
};
