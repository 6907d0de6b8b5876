/** What a running role answers to the command `status`. */
import type { AgentThreadStatus } from '../agent/thread-protocol.js';
import type { ConnectorThreadStatus } from '../connector/thread-protocol.js';
import type { RelayThreadStatus } from '../relay/thread-protocol.js';

type Named = { readonly network: string; readonly name: string };

export type RoleStatus =
  | ({ readonly role: 'agent' } & Named & AgentThreadStatus)
  | ({ readonly role: 'connector' } & Named & ConnectorThreadStatus)
  | ({ readonly role: 'relay' } & Named & RelayThreadStatus);
