/** The configurations of all roles, for what is about every role's keys. */
import { AgentConfig, ConnectorConfig, RelayConfig } from './config.js';
import { Tun2socksConfig } from './tun2socks-config.js';

/** The schema of each role's configuration file. */
export const ROLE_CONFIGS = {
  relay: RelayConfig,
  connector: ConnectorConfig,
  agent: AgentConfig,
  tun2socks: Tun2socksConfig,
} as const;
export type ConfigRole = keyof typeof ROLE_CONFIGS;
