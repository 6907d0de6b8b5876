/** What a running role answers to the command `status`. */
import type { AgentThreadStatus } from '../agent/thread-protocol.js';
import type { ConnectorThreadStatus } from '../connector/thread-protocol.js';
import type { NetworkView } from '../node/portmap/keep-mapped.js';
import type { RelayThreadStatus } from '../relay/thread-protocol.js';
import type { Tun2socksThreadStatus } from '../tun2socks/thread-protocol.js';
import type { TracedStatus } from './trace/role-traces.js';

interface Named {
  readonly network: string;
  readonly name: string;
  /** The latest trace of each path that was traced since the start. */
  readonly traces?: readonly TracedStatus[];
}

/** A role of a network. */
export type NodeStatus =
  | ({ readonly role: 'agent' } & Named & NetworkView & AgentThreadStatus)
  | ({ readonly role: 'connector' } & Named & NetworkView & ConnectorThreadStatus)
  | ({ readonly role: 'relay' } & Named & RelayThreadStatus);

export type RoleStatus =
  | NodeStatus
  | ({ readonly role: 'tun2socks' /** The device's. */; readonly name: string } & Tun2socksThreadStatus);
