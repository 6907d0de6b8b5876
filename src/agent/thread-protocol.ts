/** What an agent's main thread and its packet thread say to each other. */
import type { IdleLifetimes } from '../node/keep-alive.js';
import type { LinkStatus, RelayPlaceStatus, RelayStatus } from '../node/link-status.js';
import type { MappedRequest } from '../node/portmap/keep-mapped.js';
import type { NodeThreadData, RelayAddresses, RelayAttempt, RelayTcpAddress } from '../node/thread-setup.js';
import type { HostNetwork } from '../os/io.js';
import type { ServicePath } from '../policy/document.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { AgentCoreEvent } from './core.js';

export type AgentMode = 'auto' | 'tun' | 'proxy';

export interface AgentThreadData extends NodeThreadData {
  readonly mode: AgentMode;
  readonly tunName: string;
  readonly proxy: ProxyOptions;
}

/** The listeners of proxy mode and who may use them; all of it may change while the agent runs. */
export interface ProxyOptions {
  /** ADDRESS:PORT, or undefined for none. */
  readonly socks: string | undefined;
  readonly http: string | undefined;
  /** `[tcp://|udp://]LISTEN=SERVICE[:PORT]`. */
  readonly forwards: readonly string[];
  /** Prefixes of who may use the listeners besides this machine. */
  readonly allow: readonly string[];
  /** User → password that SOCKS and HTTP clients must give; empty: they need none. */
  readonly users: Readonly<Record<string, string>>;
}

/** How packets of the host's programs come in. */
export interface AgentDevice {
  readonly mode: 'tun' | 'proxy';
  /** Interface name in TUN mode. */
  readonly tun: string | undefined;
  /** Why `auto` is not a TUN device. */
  readonly reason: string | undefined;
  readonly listeners: readonly { readonly kind: string; readonly address: string; readonly isExposed: boolean }[];
}

export interface AgentSessionStatus {
  readonly connector: string;
  readonly session: string;
  readonly state: string;
  /** Why it is in this state. */
  readonly reason: string;
  readonly secondsInState: number;
  readonly problem: string;
  /** The one that carries packets. */
  readonly link: LinkStatus | undefined;
  /** All of them, the one through the relay first. */
  readonly links: readonly LinkStatus[];
  /** Why there is a direct link, or none: a code, and what was found. */
  readonly direct: string;
  readonly reconnects: number;
  readonly waitingPackets: number;
  readonly services: readonly string[];
}

export interface AgentServiceStatus {
  readonly id: string;
  readonly virtualIp4: string | undefined;
  readonly virtualIp6: string | undefined;
  readonly prefix: string | undefined;
  readonly protocols: readonly string[];
  readonly ports: string;
  readonly connectors: readonly string[];
  /** Whether the relay says that a connector serves it now. */
  readonly available: boolean;
  /** The links its packets are held to by the policy; undefined: to none. */
  readonly path: ServicePath | undefined;
}

export interface AgentThreadStatus {
  readonly device: AgentDevice;
  readonly overlay: readonly string[];
  /** The home relay. */
  readonly relay: RelayStatus;
  /** Every relay of the network. */
  readonly relays: readonly RelayPlaceStatus[];
  readonly policyVersion: number;
  readonly policyState: string;
  readonly services: readonly AgentServiceStatus[];
  readonly sessions: readonly AgentSessionStatus[];
  readonly counters: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
}

export type AgentProtocol = {
  readonly requests: {
    readonly status: { readonly input: undefined; readonly output: AgentThreadStatus };
    readonly device: { readonly input: undefined; readonly output: AgentDevice };
    /** Other listeners. Fails with what `ProxyServer.reconfigure` throws. */
    readonly listeners: { readonly input: ProxyOptions; readonly output: AgentDevice };
    /** Which links packets may take. */
    readonly path: { readonly input: PathChoice; readonly output: undefined };
    /** What the TUN device is to be given: addresses and prefixes. */
    readonly network: {
      readonly input: undefined;
      readonly output: { readonly overlay: readonly string[]; readonly prefixes: readonly string[] };
    };
    /** Connections of an earlier run, ADDRESS:PORT of both ends: their programs are to learn that they are over. */
    readonly prod: {
      readonly input: readonly { readonly local: string; readonly remote: string }[];
      readonly output: undefined;
    };
    /** Tells the host's programs that their connections are over; before the device loses its addresses. */
    readonly farewell: { readonly input: undefined; readonly output: undefined };
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
    /** A policy envelope that was found on disk. Fails with those errors of `PolicyKeeper.offer`. */
    readonly policy: { readonly input: unknown; readonly output: undefined };
    readonly identity: {
      readonly input: { readonly certificatePem: string; readonly keyPem: string };
      readonly output: undefined;
    };
    readonly shutdown: { readonly input: undefined; readonly output: undefined };
  };
  readonly events: {
    readonly event: AgentCoreEvent;
    readonly relayAttempt: RelayAttempt;
    /** The host's network may have changed; `false`: no more is told. */
    readonly hostNetwork: boolean;
  };
};
