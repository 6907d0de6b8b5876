/**
 * The commands: what the help says of each, and its module. The help of all, a suggestion for a misspelt one and everything that is
 * about another command do without the modules; each takes longer to load than most commands run.
 */
import type { Command } from 'commander';
import type { CommandContext } from './context.js';

interface CommandModule {
  /** Adds the command with its arguments, options and action; its description comes from the list. */
  register(program: Command, context: CommandContext): void;
}

export interface ListedCommand {
  /** As the help of all shows it, behind the name. */
  readonly terms: string;
  readonly about: string;
  readonly load: () => Promise<CommandModule>;
}

/** By name, in the order of the help. */
export const COMMANDS: Readonly<Record<string, ListedCommand>> = {
  init: {
    terms: '[options]',
    about: 'create a network: operator/ to keep, relay/ to put on the relay host',
    load: () => import('./commands/init.js'),
  },
  'add-relay': {
    terms: '[options] <name>',
    about: 'add a relay to the network, 8 at most, or issue one a new certificate',
    load: () => import('./commands/add-relay.js'),
  },
  invite: {
    terms: '[options] <role> <name>',
    about: 'make a one-time join token for an agent or a connector',
    load: () => import('./commands/invite.js'),
  },
  relay: {
    terms: '[options]',
    about: 'run a relay: introduces agents and connectors, forwards what they send each other',
    load: () => import('./commands/relay.js'),
  },
  connector: {
    terms: '[options]',
    about: 'run a connector: reaches private services for agents',
    load: () => import('./commands/connector.js'),
  },
  agent: {
    terms: '[options]',
    about: 'run an agent: gives this machine’s programs access to services',
    load: () => import('./commands/agent.js'),
  },
  tun2socks: {
    terms: '[options]',
    about: 'run the engine alone: what enters a TUN device leaves through this host’s sockets or a proxy',
    load: () => import('./commands/tun2socks.js'),
  },
  status: {
    terms: '[options]',
    about: 'show what the agent, connector or relay on this state folder does',
    load: () => import('./commands/status.js'),
  },
  netcheck: {
    terms: '[options]',
    about: 'show what the network lets through: UDP, NAT, port mapping, relay latency',
    load: () => import('./commands/netcheck.js'),
  },
  doctor: {
    terms: '[options]',
    about: 'check this machine and the way to the relay: what is wrong, and what to do',
    load: () => import('./commands/doctor.js'),
  },
  wait: {
    terms: '[options]',
    about: 'wait until the role on this state folder is ready',
    load: () => import('./commands/wait.js'),
  },
  reload: {
    terms: '[options]',
    about: 'have the role on this state folder read certificates, policy and configuration again',
    load: () => import('./commands/reload.js'),
  },
  metrics: {
    terms: '[options]',
    about: 'print the counters of the role on this state folder for Prometheus',
    load: () => import('./commands/metrics.js'),
  },
  policy: {
    terms: '',
    about: 'show, check, change and explain the policy',
    load: () => import('./commands/policy.js'),
  },
  revoke: {
    terms: '[options] <name>',
    about: 'revoke every invitation of a node',
    load: () => import('./commands/revoke.js'),
  },
  trace: {
    terms: '[options]',
    about: 'trace the path to a target, hop by hop',
    load: () => import('./commands/trace.js'),
  },
  'trace-server': {
    terms: '[options]',
    about: 'serve traces over HTTP',
    load: () => import('./commands/trace-server.js'),
  },
  schema: {
    terms: '<role>',
    about: 'print the JSON Schema of a role’s configuration file',
    load: () => import('./commands/schema.js'),
  },
  completion: {
    terms: '<shell>',
    about: 'print a completion script: source <(sallyport completion bash)',
    load: () => import('./commands/completion.js'),
  },
};
