/** What a relay's main thread and its packet thread say to each other. */
import type { Duration } from '../base/time.js';
import type { RelayEvent } from './core.js';
import type { FormerNode } from './former-nodes.js';
import type { RelayLimits } from './limits.js';

/** What the packet thread is started with. */
export interface RelayThreadData {
  readonly listen: readonly string[];
  /** UDP port for NAT classification; 0 = none. */
  readonly probePort: number;
  readonly network: string;
  readonly name: string;
  readonly policyKey: Uint8Array;
  readonly policy: unknown;
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly resetKey: Uint8Array;
  readonly limits: RelayLimits;
  /** Nodes of a process that was killed. */
  readonly formerNodes: readonly FormerNode[];
}

export interface RelayNodeStatus {
  readonly role: string;
  readonly name: string;
  readonly address: string;
  readonly services: readonly string[];
  readonly channels: number;
  readonly secondsConnected: number;
}

export interface RelayChannelStatus {
  readonly agent: string;
  readonly connector: string;
  readonly service: string;
  readonly packets: { readonly fromAgent: number; readonly fromConnector: number };
  readonly bytes: { readonly fromAgent: number; readonly fromConnector: number };
  /** Packets that limits or an unproved source cost. */
  readonly dropped: { readonly fromAgent: number; readonly fromConnector: number };
}

export interface RelayThreadStatus {
  readonly listening: readonly string[];
  /** The second port, for NAT classification; undefined: there is none. */
  readonly probePort: number | undefined;
  readonly policyVersion: number;
  /** Seconds until the relay is gone at the latest, while it drains. */
  readonly drainingSeconds: number | undefined;
  /** The private address that all nodes are seen from, because something in front of the relay hides theirs. */
  readonly nodesHiddenBy: string | undefined;
  readonly nodes: readonly RelayNodeStatus[];
  readonly channels: readonly RelayChannelStatus[];
  readonly counters: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
}

// A type, not an interface: protocols are matched against an index signature.
export type RelayProtocol = {
  readonly requests: {
    readonly status: { readonly input: undefined; readonly output: RelayThreadStatus };
    readonly policy: {
      readonly input: unknown;
      readonly output: { readonly version: number; readonly changed: boolean };
    };
    readonly identity: {
      readonly input: { readonly certificatePem: string; readonly keyPem: string };
      readonly output: undefined;
    };
    readonly whereNodesAre: { readonly input: undefined; readonly output: readonly FormerNode[] };
    /** The event `drained` follows. */
    readonly drain: { readonly input: { readonly span: Duration }; readonly output: undefined };
    readonly shutdown: { readonly input: undefined; readonly output: undefined };
  };
  readonly events: { readonly event: RelayEvent };
};
